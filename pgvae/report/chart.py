"""A chart of a few curves over images seen, as SVG that needs no script.

Coordinates are those of a box of 360 x 190; the page scales it. Colours and widths are in page.css.
"""

import math
from dataclasses import dataclass

from pgvae.report.collect import Series
from pgvae.report.markup import Html, tag
from pgvae.report.numbers import Axis, axis_of, drawable, figure, kimg, short
from pgvae.report.panels import Curve, Panel
from pgvae.schedule import Schedule

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 350, 16, 166
MOST_POINTS = 1000
_DOTS = 40  # a curve of up to so many points shows each
_DENSE = 250  # above so many its line is thin
_NAME_ROOM, _UNIT_ROOM = 0.07, 0.13  # share of the width that "1024" and "1024 px" need


@dataclass(frozen=True)
class Frame:
    """What all charts of a page share: images at the right edge, and the stages behind."""

    images: float
    schedule: Schedule | None

    def x(self, images: float) -> float:
        """Where a count of images is."""
        return LEFT + (RIGHT - LEFT) * images / self.images


def y_of(axis: Axis, value: float) -> float:
    """Where a value is; one off the axis is at its edge."""
    return BOTTOM - (BOTTOM - TOP) * axis.share(value)


def chart(panel: Panel, frame: Frame) -> Html:
    """A <figure>: title, legend with the last values, curves."""
    curves = [_drawn(curve, panel) for curve in panel.curves]
    axis = axis_of([value for series in curves for value in series.values])
    log = "log scale" if axis.log else ""
    return tag(
        "figure",
        tag(
            "figcaption",
            panel.title,
            tag("span", ", ".join(filter(None, (panel.unit, log))), class_="unit"),
            tag("span", class_="at"),  # page.js says there what moment it shows
        ),
        tag("ul", [_legend(i, c, panel) for i, c in enumerate(panel.curves)], class_="legend"),
        tag(
            "svg",
            _stages(frame),
            _grid(frame, axis),
            [
                tag("g", _curve(series, frame, axis), class_=_pen(index, panel))
                for index, series in enumerate(curves)
            ],
            tag("path", class_="cursor"),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label=_in_words(panel),
            data_images=round(frame.images),
            data_left=LEFT,
            data_right=RIGHT,
        ),
        _remarks(panel, axis),
        class_="chart",
    )


def thinned(series: Series) -> Series:
    """The series, or of a longer one the lowest and the highest point of each of its spans.

    First and last points stay, and of each span the first that is not finite.
    """
    count = len(series.values)
    if count <= MOST_POINTS:
        return series
    spans = (MOST_POINTS - 2) // 3
    kept = {0, count - 1}
    for k in range(spans):
        indices = range(count * k // spans, count * (k + 1) // spans)
        finite = [i for i in indices if drawable(series.values[i])]
        if finite:
            kept.add(min(finite, key=series.values.__getitem__))
            kept.add(max(finite, key=series.values.__getitem__))
        kept.update([i for i in indices if not drawable(series.values[i])][:1])
    order = sorted(kept)
    return Series([series.images[i] for i in order], [series.values[i] for i in order])


def _drawn(curve: Curve, panel: Panel) -> Series:
    """The points of a curve that a chart draws, in the unit of its axis."""
    series = thinned(curve.series)
    return Series(series.images, [value * panel.factor for value in series.values])


def _curve(series: Series, frame: Frame, axis: Axis) -> list[Html]:
    """A line, broken where a value has no place; dots where points are few, marks off the axis."""
    path, dots, lost, beyond = [], [], [], []
    pen = "M"
    for images, value in zip(series.images, series.values, strict=True):
        x = f"{frame.x(images):.1f}"
        if not drawable(value):
            pen = "M"
            lost.append(f"M{x} {BOTTOM}v-7")
            continue
        y = y_of(axis, value)
        path.append(f"{pen}{x} {y:.1f}")
        pen = "L"
        dots.append(tag("circle", cx=x, cy=f"{y:.1f}", r=2.2))
        if not axis.holds(value):
            beyond.append(f"M{x} {y:.1f}m-3 0h6l-3 {-5 if y == TOP else 5}z")
    dense = " dense" if len(dots) > _DENSE else ""
    pairs = zip(series.images, series.values, strict=True)
    points = " ".join(f"{round(images)}:{figure(value)}" for images, value in pairs)
    return [
        tag("path", class_=f"line{dense}", d="".join(path), data_p=points),
        *(dots if len(dots) <= _DOTS else dots[-1:]),
        *([tag("path", class_="beyond", d="".join(beyond))] if beyond else []),
        *([tag("path", class_="lost", d="".join(lost))] if lost else []),
    ]


def _pen(index: int, panel: Panel) -> str:
    """Classes for colour and stroke: the first of several is wider, as others may lie on it."""
    floor = " floor" if panel.curves[index].floor else ""
    return f"s{index}{floor}{' under' if index == 0 and len(panel.curves) > 1 else ''}"


def _stages(frame: Frame) -> Html:
    """A band for each fade, a line for each start of a stage, its resolution on top."""
    if frame.schedule is None:
        return tag("g")
    schedule, parts = frame.schedule, []
    for index, resolution in enumerate(schedule.resolutions):
        start = schedule.start_of(index)
        if start > frame.images:
            break
        end = frame.images
        if index + 1 < len(schedule.resolutions):
            end = min(end, schedule.start_of(index + 1))
        x = frame.x(start)
        if index:
            faded = min(end, start + schedule.fade_kimg * 1000)
            width = f"{frame.x(faded) - x:.1f}"
            parts.append(
                tag("rect", class_="fade", x=f"{x:.1f}", y=TOP, width=width, height=BOTTOM - TOP)
            )
            parts.append(tag("path", class_="stage", d=f"M{x:.1f} {TOP - 12}V{BOTTOM}"))
        room = (end - start) / frame.images
        if room > _NAME_ROOM:
            unit = " px" if room > _UNIT_ROOM else None
            parts.append(tag("text", resolution, unit, x=f"{x + 3:.1f}", y=TOP - 5))
    return tag("g", parts)


def _grid(frame: Frame, axis: Axis) -> Html:
    parts = []
    for value in axis.ticks():
        y = f"{y_of(axis, value):.1f}"
        parts.append(tag("path", class_="grid", d=f"M{LEFT} {y}H{RIGHT}"))
        parts.append(tag("text", short(value), x=LEFT - 6, y=y, class_="y"))
    ticks = Axis(0.0, frame.images / 1000).ticks(4)
    for value in ticks:
        x, unit = frame.x(value * 1000), " kimg" if value == ticks[-1] else None
        end = "end" if x > RIGHT - 24 else "middle"
        text = tag("text", figure(value), unit, x=f"{x:.1f}", y=BOTTOM + 15, text_anchor=end)
        parts.append(text)
    parts.append(tag("path", class_="axis", d=f"M{LEFT} {BOTTOM}H{RIGHT}"))
    return tag("g", parts)


def _legend(index: int, curve: Curve, panel: Panel) -> Html:
    return tag(
        "li",
        tag("i", class_=_pen(index, panel)),
        tag("span", curve.label, title=curve.name),
        tag("b", figure(curve.series.last * panel.factor)),
    )


def _remarks(panel: Panel, axis: Axis) -> Html | None:
    """What a reader would not see: values off the axis, and values that are not numbers."""
    values = [value * panel.factor for curve in panel.curves for value in curve.series.values]
    lost = sum(not drawable(value) for value in values)
    beyond = sum(drawable(value) and not axis.holds(value) for value in values)
    said = [f"{beyond} beyond the axis"] if beyond else []
    said += [f"{lost} not finite"] if lost else []
    return tag("p", ", ".join(said), class_="remark") if said else None


def _in_words(panel: Panel) -> str:
    """The chart for those who do not see it."""
    said = []
    for curve in panel.curves:
        series = curve.series
        pairs = [(v * panel.factor, i) for v, i in zip(series.values, series.images, strict=True)]
        finite = [pair for pair in pairs if math.isfinite(pair[0])]
        text = f"{curve.name} {figure(pairs[-1][0])} at {kimg(pairs[-1][1])} kimg"
        if finite:
            (low, low_at), (high, high_at) = min(finite), max(finite)
            text += f", lowest {figure(low)} at {kimg(low_at)}, highest {figure(high)} at"
            text += f" {kimg(high_at)}"
        said.append(text)
    return f"{panel.title}{f' in {panel.unit}' if panel.unit else ''}: {'; '.join(said)}."
