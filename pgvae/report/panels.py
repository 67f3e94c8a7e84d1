"""Which curves of a log stand in one chart, and what it is called."""

from collections.abc import Iterable
from dataclasses import dataclass

from pgvae.report.collect import Series, Stats

# term: title, unit, factor to that unit
_KNOWN = {
    "psnr": ("PSNR", "dB", 1.0),
    "psnr_gain": ("PSNR against the mean image", "dB", 1.0),
    "rmse": ("RMSE", "of 255", 1.0),
    "accuracy": ("Accuracy of the classifier", "%", 100.0),
    "img_per_s": ("Speed", "images/s", 1.0),
    "lr": ("Learning rate", "", 1.0),
    "skipped_steps": ("Skipped steps", "", 1.0),
}
_UNSEEN = "Unseen images"
_SECTIONS = {"val": _UNSEEN, "train": "Training images, as the set has no unseen ones"}
_METRICS, _LOSSES, _PACE = "Metrics while training", "Training", "Pace"
_ORDER = (*_SECTIONS.values(), _METRICS, _LOSSES, _PACE)
_IN_TIMELINE = {"resolution", "alpha"}
_FLOOR = " floor"
_MOST_CURVES = 5


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    name:  in stats.jsonl.
    label: in the legend.
    floor: whether it is what real images score against real ones.
    """

    name: str
    label: str
    series: Series
    floor: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart: curves of one quantity, drawn times `factor` in `unit`."""

    title: str
    unit: str
    factor: float
    curves: tuple[Curve, ...]


def panels_of(stats: Stats) -> dict[str, list[Panel]]:
    """Charts by section, in the order of the page; every curve of the log is in one.

    Resolution and alpha are left to the timeline, and a count of skipped steps that stays 0 out.
    """
    grouped: dict[tuple[str, str], list[Curve]] = {}
    for name, series in stats.series.items():
        if name in _IN_TIMELINE or (name == "skipped_steps" and not any(series.values)):
            continue
        section, term, label = _place(name)
        curve = Curve(name, label, series, floor=name.endswith(_FLOOR))
        grouped.setdefault((section, term), []).append(curve)
    found: dict[str, list[Panel]] = {section: [] for section in _ORDER}
    for (section, term), curves in grouped.items():
        found[section] += _panels(term, curves)
    return {section: panels for section, panels in found.items() if panels}


def _place(name: str) -> tuple[str, str, str]:
    """Section, term and label: "encoder/rec" -> losses, "rec", "encoder"."""
    first, slash, rest = name.partition("/")
    if not slash:
        return _PACE, name, name
    if first == "metric":
        return _METRICS, rest.removesuffix(_FLOOR), rest
    if first in _SECTIONS:
        term, _, attribute = rest.partition(" ")
        return _SECTIONS[first], term, attribute or name
    return _LOSSES, rest, first


def _panels(term: str, curves: list[Curve]) -> Iterable[Panel]:
    """A chart, or several of at most five curves each."""
    title, unit, factor = _KNOWN.get(term, (term, "", 1.0))
    parts = [curves[i : i + _MOST_CURVES] for i in range(0, len(curves), _MOST_CURVES)]
    for number, part in enumerate(parts, start=1):
        of = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        yield Panel(title + of, unit, factor, tuple(part))
