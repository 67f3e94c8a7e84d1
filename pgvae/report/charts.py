"""Curves of the log and the growth of the networks, drawn by matplotlib as SVG."""

import base64
import io
import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import TICKDOWN

from pgvae.schedule import Schedule

STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), "#666"),
    **dict.fromkeys(("axes.spines.left", "axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.labelpad", "ytick.major.size", "ytick.minor.size"), 0),
    "axes.formatter.min_exponent": 5,
    "axes.formatter.useoffset": False,
    "font.size": 8,
    "path.simplify_threshold": 1,  # pixels: a line of any length takes little room
    "svg.fonttype": "none",
}
_RED = "#d62728"
_MOST_CURVES = 5
_MANY = 40  # values of a curve from which on its mean is drawn too
_SECTIONS = {
    "val": "Unseen images",
    "train": "Training images, as the set has no unseen ones",
    "metric": "Metrics while training",
    "loss": "Training",
    "augment": "Augmentation of what the critic is shown",
    "": "Pace",
}
_OF_IMAGES = ("val", "train", "metric")  # whose figures are of one resolution
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
    """One chart: curves of one quantity, which may compare only within a stage, or be of batches,
    and so noisy that their means are drawn too."""

    title: str
    unit: str
    curves: list[Curve]
    by_stage: bool = False
    noisy: bool = False


def panels_of(series: dict[str, list[tuple[float, float]]]) -> dict[str, list[Panel]]:
    """Charts of at most five curves by section, in the order of the page; every curve is in one.

    Resolution and alpha are left to the timeline, and a count of skipped steps that stays 0 out.
    """
    found: dict[str, dict[str, list[Curve]]] = {name: defaultdict(list) for name in _SECTIONS}
    for name, points in series.items():
        images, values = np.array(points).T
        if name in ("resolution", "alpha") or (name == "skipped_steps" and not values.any()):
            continue
        section, term, label = _place(name)
        values *= 100 if term == "accuracy" else 1
        found[section][term].append(Curve(name, label, images, values))
    return {
        title: [
            Panel(
                *_KNOWN.get(term, (term, "")),
                curves[k : k + _MOST_CURVES],
                by_stage=section in _OF_IMAGES,
                noisy=section == "loss",
            )
            for term, curves in found[section].items()
            for k in range(0, len(curves), _MOST_CURVES)
        ]
        for section, title in _SECTIONS.items()
        if found[section]
    }


def _place(name: str) -> tuple[str, str, str]:
    """Section, term and label: "encoder/rec" -> "loss", "rec", "encoder"."""
    first, slash, rest = name.partition("/")
    if not slash:
        return "", name, name
    term, _, attribute = rest.partition(" ")
    return (first, term, attribute or term) if first in _SECTIONS else ("loss", rest, first)


def chart(panel: Panel, schedule: Schedule | None, images: float) -> Figure:
    """Curves over images seen, from 0 to `images`; its title and legend are the page's.

    Logarithmic for positive values that span a factor of 30, but for the outer 4 %; otherwise the
    axis leaves out what is further away than 6 times the range of the others, and counts it.
    Values that are not finite are bars at the bottom. A line of figures that compare only within a
    stage is broken where one ends.
    """
    figure = Figure((4, 2))
    axes = figure.add_axes((0.13, 0.18, 0.82, 0.7))
    # What is not finite, or as good as that, has no place on an axis.
    lines = [np.where(np.abs(c.values) < 1e100, c.values, math.nan) for c in panel.curves]
    values = np.concatenate(lines)
    fine = values[~np.isnan(values)]
    ends = np.percentile(fine if len(fine) else [0], (0, 2, 98, 100))
    low, inner_low, inner_high, high = ends.tolist()
    log, span = low > 1e-100 and inner_high > 30 * inner_low, inner_high - inner_low
    _set_up(axes, schedule, images / 1000, "log" if log else "linear")
    for index, (curve, shown) in enumerate(zip(panel.curves, lines, strict=True)):
        # Curves that agree would hide each other: the first shows beside the ones on top of it.
        width = 2.2 if index == 0 and len(lines) > 1 else 1.2
        _draw(axes, panel, curve._replace(values=shown), schedule, width)
    if not log and 0 < 6 * span < high - low:
        axes.set_ylim(max(low, inner_low - span / 4), min(high, inner_high + span / 4))
    bottom, top = axes.get_ylim()
    remarks = {
        "beyond the axis": ((fine < bottom) | (fine > top)).sum(),
        "not finite": len(values) - len(fine),
    }
    said = ", ".join(f"{count} {what}" for what, count in remarks.items() if count)
    axes.text(0, -0.25, said, transform=axes.transAxes, color=_RED)
    return figure


def _draw(axes: Axes, panel: Panel, curve: Curve, schedule: Schedule | None, width: float) -> None:
    """One line of a panel; many noisy values are faint, below their mean within each stage."""
    kimg, shown, is_long = curve.images / 1000, curve.values, len(curve.images) > _MANY
    width *= 0.5 if len(kimg) > 250 else 1
    dash = "--" if curve.name.endswith(" floor") else "-"
    ends = _ends(schedule, curve.images)
    breaks = ends if panel.by_stage else []
    drawn = np.insert(kimg, breaks, math.nan), np.insert(shown, breaks, math.nan)
    every = [len(drawn[0]) - 1] if is_long else None
    [line] = axes.plot(*drawn, dash, marker="o", ms=3, lw=width, markevery=every)
    if is_long and panel.noisy:
        line.set_alpha(0.4)
        parts = np.insert(kimg, ends, math.nan), smoothed(np.insert(shown, ends, math.nan))
        axes.plot(*parts, dash, color=line.get_color(), lw=1.4)
    lost = kimg[np.isnan(shown)]
    axes.plot(lost, 0 * lost, "|", color=_RED, transform=axes.get_xaxis_transform())


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean of each value [N] and of a fortieth of them on either side; -> [N].

    Nothing is averaged across a NaN, and it stays one.

    >>> smoothed(np.array([1.0, 3.0, 5.0, math.nan, 7.0])).tolist()
    [2.0, 3.0, 4.0, nan, 7.0]
    """
    reach = max(1, len(values) // 40)
    means = np.full(len(values), math.nan)
    edges = np.flatnonzero(np.diff(np.pad(~np.isnan(values), 1)))  # of what has no gap, in turn
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        padded = np.pad(values[start:end], reach, constant_values=math.nan)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
        means[start:end] = np.nanmean(windows, axis=1)
    return means


def _ends(schedule: Schedule | None, images: np.ndarray) -> np.ndarray:
    """Where in images seen, ascending, the next one is of another stage."""
    if schedule is None:
        return np.array([], int)
    stages = np.array([schedule.trained_at(round(seen)) for seen in images])
    return np.flatnonzero(np.diff(stages)) + 1


def timeline(schedule: Schedule, seen: float, grids: dict[str, list], width: float) -> Figure:
    """A staircase with a slope for each fade: done and to come, snapshots, rates, pre-training.

    grids: as in `Run`; width: in inches, for windows of different sizes.
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
    kimg = np.minimum([images for images, _ in grids.get("fakes", ())], total) / 1000
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
