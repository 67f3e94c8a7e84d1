"""How the networks grow over a run: a staircase with a slope for each fade."""

from pgvae.report.markup import Html, tag
from pgvae.report.numbers import Axis, figure, kimg
from pgvae.schedule import Schedule

_UNITS = 1000  # width of the drawing, in units of its own
_LEVELS = 100  # height of it
_HEIGHT = 150  # pixels of the whole, with room for text above and below
_TOP, _STAIRS = 22, 96  # pixels above the highest step, and of the staircase
_MIN_LABEL = 0.045  # share of the width below which a stage has no label


def outline(schedule: Schedule) -> list[tuple[float, float]]:
    """Corners of the staircase: share of the images, share of the height; both 0 to 1.

    The last resolution is at 1; a fade goes from the step before it to its own as alpha does.
    """
    total, count = schedule.total_images, len(schedule.resolutions)
    corners = [(0.0, 1 / count)]
    for index in range(1, count):
        start = schedule.start_of(index)
        if start >= total:
            break
        fade = schedule.fade_kimg * 1000
        faded = min(total, start + fade)
        alpha = (faded - start) / fade if fade else 1.0  # below 1 where the run ends in mid-fade
        corners.append((start / total, index / count))
        corners.append((faded / total, (index + alpha) / count))
    return [*corners, (1.0, corners[-1][1])]


def timeline(schedule: Schedule, images_seen: float, snapshots: list[int]) -> Html:
    """An <svg> as wide as its place: done and to come, stages, snapshots, rates, pre-training."""
    done = min(1.0, images_seen / schedule.total_images)
    points = [f"{x * _UNITS:.1f},{(1 - y) * _LEVELS:.1f}" for x, y in outline(schedule)]
    shape = " ".join([f"0,{_LEVELS}", *points, f"{_UNITS},{_LEVELS}"])
    base = _TOP + _STAIRS
    return tag(
        "svg",
        _stairs(shape, 1.0, "ahead"),
        _stairs(shape, done, "done") if done > 0 else None,
        _pretraining(schedule),
        [_rate(schedule, at) for at in schedule.milestones_kimg if at < schedule.total_kimg],
        _labels(schedule),
        tag("line", class_="axis", x1="0", x2="100%", y1=base, y2=base),
        [
            tag("line", class_="snapshot", x1=x, x2=x, y1=base, y2=base + 6)
            for x in (_percent(at / schedule.total_images) for at in snapshots)
        ],
        _ticks(schedule, base + 20),
        _now(done, base) if done < 1 else None,
        class_="timeline",
        width="100%",
        height=_HEIGHT,
        role="img",
        aria_label=_in_words(schedule, images_seen),
    )


def _stairs(shape: str, share: float, class_: str) -> Html:
    """The staircase, cut off after a share of the width."""
    return tag(
        "svg",
        tag("polygon", points=shape),
        class_=class_,
        x=0,
        y=_TOP,
        width=_percent(share),
        height=_STAIRS,
        viewBox=f"0 0 {share * _UNITS:.1f} {_LEVELS}",
        preserveAspectRatio="none",
    )


def _labels(schedule: Schedule) -> list[Html]:
    """The resolution of each stage, over the middle of where it is stable."""
    parts, total, count = [], schedule.total_images, len(schedule.resolutions)
    for index, resolution in enumerate(schedule.resolutions):
        start = min(total, schedule.start_of(index))
        end = min(total, schedule.start_of(index + 1)) if index + 1 < count else total
        if end - start < _MIN_LABEL * total:
            continue
        stable = min(end, start + schedule.fade_kimg * 1000) if index else start
        middle = (stable + end) / 2 if end > stable else (start + end) / 2
        y = _TOP + _STAIRS * (1 - (index + 1) / count) - 6
        where = {"x": _percent(middle / total), "y": f"{y:.0f}", "text_anchor": "middle"}
        parts.append(tag("text", resolution, tag("tspan", " px"), **where))
    return parts


def _pretraining(schedule: Schedule) -> Html | None:
    if not schedule.pretrain_kimg:
        return None
    width = _percent(schedule.pretrain_kimg / schedule.total_kimg)
    title = tag("title", f"pre-training as a VAE, {_text(schedule.pretrain_kimg)} kimg")
    bottom = _TOP + _STAIRS
    return tag("rect", title, class_="pretrain", x=0, y=bottom - 5, width=width, height=5)


def _rate(schedule: Schedule, at: float) -> Html:
    x = _percent(at / schedule.total_kimg)
    factor = figure(schedule.milestone_factor)
    title = tag("title", f"learning rate times {factor} after {_text(at)} kimg")
    return tag("line", title, class_="rate", x1=x, x2=x, y1=_TOP, y2=_TOP + _STAIRS)


def _ticks(schedule: Schedule, y: float) -> list[Html]:
    parts = []
    for value in Axis(0.0, schedule.total_kimg).ticks(5):
        share = value / schedule.total_kimg
        end = "start" if share < 0.02 else "end" if share > 0.9 else "middle"
        unit = "" if value else " kimg"
        text = figure(value) + unit
        parts.append(tag("text", text, class_="x", x=_percent(share), y=y, text_anchor=end))
    return parts


def _now(done: float, base: float) -> Html:
    x = _percent(done)
    return tag("line", class_="now", x1=x, x2=x, y1=_TOP, y2=base + 6)


def _in_words(schedule: Schedule, images_seen: float) -> str:
    total = schedule.total_images
    stages = ", ".join(
        f"{r} px from {kimg(schedule.start_of(i))} kimg"
        for i, r in enumerate(schedule.resolutions)
        if schedule.start_of(i) < total
    )
    return f"Growth over {kimg(total)} kimg: {stages}. Seen so far: {kimg(images_seen)} kimg."


def _percent(share: float) -> str:
    return f"{100 * min(1.0, share):.2f}%"


def _text(value: float) -> str:
    return kimg(value * 1000)
