"""Curves of the log and the growth of the networks, drawn by matplotlib as SVG."""

import base64
import io
import math
from collections import Counter
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import TICKDOWN

from pgvae.schedule import Schedule

MOST_POINTS = 1000
LEFT, RIGHT = 0.13, 0.95  # ends of a chart's axis, as shares of its width
STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), "#666"),
    **dict.fromkeys(("axes.spines.left", "axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.labelpad", "ytick.major.size", "ytick.minor.size"), 0),
    "axes.formatter.min_exponent": 5,
    "axes.formatter.useoffset": False,
    "font.size": 8,
    "svg.fonttype": "none",
}
_RED = "#d62728"
_MOST_CURVES = 5
_SECTIONS = {
    "val": "Unseen images",
    "train": "Training images, as the set has no unseen ones",
    "metric": "Metrics while training",
    "loss": "Training",
    "": "Pace",
}
_KNOWN = {  # term: title and unit
    "psnr": ("PSNR", "dB"),
    "psnr_gain": ("PSNR against the mean image", "dB"),
    "rmse": ("RMSE", "of 255"),
    "accuracy": ("Accuracy of the classifier", "%"),
    "img_per_s": ("Speed", "images/s"),
    "lr": ("Learning rate", ""),
    "skipped_steps": ("Skipped steps", ""),
}


class Curve(NamedTuple):
    """One line of a chart: its name in stats.jsonl, its label, images seen and values [N]."""

    name: str
    label: str
    images: np.ndarray
    values: np.ndarray


class Panel(NamedTuple):
    """One chart: curves of one quantity."""

    title: str
    unit: str
    curves: list[Curve]


def panels_of(series: dict[str, list[tuple[float, float]]]) -> dict[str, list[Panel]]:
    """Charts by section, in the order of the page; every curve of the log is in one.

    Resolution and alpha are left to the timeline, and a count of skipped steps that stays 0 out.
    """
    found: dict[str, dict[str, Panel]] = {section: {} for section in _SECTIONS}
    counts: Counter[tuple[str, str]] = Counter()
    for name, points in series.items():
        images, values = np.array(points).T
        if name in ("resolution", "alpha") or (name == "skipped_steps" and not values.any()):
            continue
        section, term, label = _place(name)
        title, unit = _KNOWN.get(term, (term, ""))
        part = counts[section, term] // _MOST_CURVES
        counts[section, term] += 1
        title += f" ({part + 1})" if part else ""
        panel = found[section].setdefault(title, Panel(title, unit, []))
        panel.curves.append(Curve(name, label, images, values * (100 if unit == "%" else 1)))
    return {_SECTIONS[s]: list(panels.values()) for s, panels in found.items() if panels}


def _place(name: str) -> tuple[str, str, str]:
    """Section, term and label: "encoder/rec" -> "loss", "rec", "encoder"."""
    first, slash, rest = name.partition("/")
    if not slash:
        return "", name, name
    if first == "metric":
        return first, rest.removesuffix(" floor"), rest
    term, _, attribute = rest.partition(" ")
    return (first, term, attribute or name) if first in _SECTIONS else ("loss", rest, first)


def thinned(curve: Curve) -> Curve:
    """At most `MOST_POINTS` of a curve's points: its ends, and the extremes of each of its spans.

    NaN counts as an extreme, so that it stays too.
    """
    count = len(curve.values)
    if count <= MOST_POINTS:
        return curve
    kept = {0, count - 1}
    for span in np.array_split(np.arange(count), MOST_POINTS // 2 - 1):
        kept |= {span[curve.values[span].argmin()], span[curve.values[span].argmax()]}
    chosen = sorted(kept)
    return curve._replace(images=curve.images[chosen], values=curve.values[chosen])


def drawable(values: np.ndarray) -> np.ndarray:
    """Which values have a place on an axis: finite, and below 1e100."""
    return np.abs(values) < 1e100


def limits(values: np.ndarray) -> tuple[float, float, bool]:
    """Lowest and highest of drawable values [N] that a chart shows, and whether its axis is log.

    Logarithmic for positive values that span a factor of 30; otherwise without the few ends that
    are further away than 6 times the range of the middle 96 %.
    """
    found = np.sort(values) if len(values) else np.zeros(1)
    cut = max(1, len(found) // 50) if len(found) >= 20 else 0
    low, high, inner_low, inner_high = found[[0, -1, cut, -1 - cut]]
    log, span = low > 1e-100 and inner_high > 30 * inner_low, inner_high - inner_low
    if log or not 0 < 6 * span < high - low:
        return low, high, log
    return max(low, inner_low - span / 4), min(high, inner_high + span / 4), log


def chart(panel: Panel, schedule: Schedule | None, images: float) -> Figure:
    """Curves over images seen, from 0 to `images`; its title and legend are the page's.

    Values that are not finite are bars at the bottom, and those beyond the axis are counted.
    """
    figure = Figure((4, 2))
    axes = figure.add_axes((LEFT, 0.18, RIGHT - LEFT, 0.7))
    values = np.concatenate([curve.values for curve in panel.curves])
    fine = values[drawable(values)]
    low, high, log = limits(fine)
    _set_up(axes, schedule, images / 1000, "log" if log else "linear")
    for index, curve in enumerate(map(thinned, panel.curves)):
        kimg, shown = curve.images / 1000, np.where(drawable(curve.values), curve.values, math.nan)
        # Curves that agree would hide each other: the first shows beside the ones on top of it.
        width = 2.2 if index == 0 and len(panel.curves) > 1 else 1.2
        width *= 0.5 if len(kimg) > 250 else 1
        dash = "--" if curve.name.endswith(" floor") else "-"
        every = None if len(kimg) <= 40 else [len(kimg) - 1]
        axes.plot(kimg, shown, dash, marker="o", ms=3, lw=width, markevery=every)
        lost = kimg[np.isnan(shown)]
        axes.plot(lost, 0 * lost, "|", color=_RED, transform=axes.get_xaxis_transform())
    beyond = ((fine < low) | (fine > high)).sum()
    if beyond:
        axes.set_ylim(low, high)
    remarks = ((beyond, "beyond the axis"), (len(values) - len(fine), "not finite"))
    said = ", ".join(f"{count} {what}" for count, what in remarks if count)
    axes.text(0, -0.25, said, transform=axes.transAxes, color=_RED)
    return figure


def timeline(schedule: Schedule, seen: float, snapshots: list[int], width: float) -> Figure:
    """A staircase with a slope for each fade: done and to come, snapshots, rates, pre-training.

    width: in inches, for windows of different sizes.
    """
    figure = Figure((width, 1.5))
    axes = figure.add_axes((0.01, 0.22, 0.98, 0.66))
    total = schedule.total_images
    _set_up(axes, schedule, total / 1000, "linear")
    axes.yaxis.set_visible(False)
    axes.set_ylim(0, len(schedule.stages))
    fades = [(-1, 0, round(stage.fade_kimg * 1000)) for stage in schedule.stages]
    corners = {schedule.start_of(i) + step for i, steps in enumerate(fades) for step in steps}
    for until, color in ((total, "#8884"), (min(round(seen), total), "#1f77b4aa")):
        there = sorted({0, *(corner for corner in corners if 0 < corner < until), until})
        moments = [schedule.at(images) for images in there]
        heights = [math.log2(m.resolution / moments[0].resolution) + m.alpha for m in moments]
        axes.fill_between(np.array(there) / 1000, heights, color=color, lw=0)
    for kimg in schedule.milestones_kimg:
        axes.axvline(kimg, color="C1", linestyle=":")
    axes.plot((0, schedule.pretrain_kimg), (0, 0), color="C1", lw=5, solid_capstyle="butt")
    kimg = np.minimum(snapshots, total) / 1000
    axes.plot(kimg, 0 * kimg, marker=TICKDOWN, linestyle="", color="#666", clip_on=False)
    if seen < total:
        axes.axvline(seen / 1000, color="#333")
    return figure


def _set_up(axes: Axes, schedule: Schedule | None, kimg: float, scale: str) -> None:
    """A grid from 0 to `kimg`; behind it, where they are known, stages and fades."""
    axes.set(xlim=(0, kimg), yscale=scale)
    axes.set_xlabel("kimg", loc="right")
    axes.grid(axis="y", color="#888", alpha=0.25)
    for index, stage in enumerate(schedule.stages if schedule else ()):
        start, end = (schedule.start_of(i) / 1000 for i in (index, index + 1))
        if start >= kimg:
            break
        axes.axvspan(start, start + stage.fade_kimg, color="#888", alpha=0.15, lw=0)
        axes.axvline(start, color="#888", alpha=0.3, lw=0.8)
        if min(kimg, end) - start > 0.1 * kimg:
            axes.text(start, 1.02, f"{stage.resolution} px", transform=axes.get_xaxis_transform())


def as_uri(figure: Figure) -> str:
    """A figure as a data: URI of SVG; its text is text."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True)
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
