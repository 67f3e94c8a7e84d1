"""Tables of a report: evaluations, stages, settings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pgvae.report.collect import Evaluation
from pgvae.report.markup import Html, tag
from pgvae.report.numbers import figure, kimg
from pgvae.schedule import Schedule

# Of a metric: what has a column of its own.
_SAID = {"label", "value", "floor", "better", "details"}


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> Html:
    """A table that scrolls by itself where it is too wide; numbers stand to the right."""
    right = [any(isinstance(row[column], _Number) for row in rows) for column in range(len(head))]
    heads = [_cell("th", name, to_right) for name, to_right in zip(head, right, strict=True)]
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", heads)),
            tag(
                "tbody",
                [tag("tr", [_cell("td", c, isinstance(c, _Number)) for c in row]) for row in rows],
            ),
        ),
        class_="scroll",
    )


def evaluation_table(evaluation: Evaluation) -> Html:
    """One evaluation: each figure beside its floor, what real images get in its place."""
    values = evaluation.values
    rows = [_metric_row(name, metric) for name, metric in values["metrics"].items()]
    head = ["Metric", "Value", "Floor", "Better", "Details"]
    used = [i for i in range(len(head)) if i < 3 or any(row[i] for row in rows)]
    return tag(
        "div",
        tag("h3", evaluation.name, tag("span", _about(values), class_="unit")),
        table([head[i] for i in used], [[row[i] for i in used] for row in rows]),
    )


def stage_table(schedule: Schedule) -> Html:
    """What changes from stage to stage."""
    rows, total = [], schedule.total_images
    settings = schedule.settings or ({},) * (2 * len(schedule.resolutions) - 1)
    for index, resolution in enumerate(schedule.resolutions):
        start = schedule.start_of(index)
        if start >= total:
            break
        last = index + 1 == len(schedule.resolutions)
        end = total if last else min(total, schedule.start_of(index + 1))
        fade = min(end, start + schedule.fade_kimg * 1000) if index else start
        phases = settings[max(0, 2 * index - 1) : 2 * index + 1]
        rows.append(
            [
                f"{resolution} px",
                _Number(kimg(start)),
                _Number(kimg(end)),
                _Number(kimg(fade) if fade > start else "–"),
                _Number(f"{schedule.batch_sizes[index]:,}"),
                _Number(figure(schedule.learning_rates[index])),
                _changes(phases),
            ]
        )
    head = ["Stage", "From kimg", "To", "Faded in at", "Batch", "Learning rate", "Settings"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return table(head, rows)


def settings_tables(values: Mapping[str, Any]) -> Html:
    """config.json: a table for each part, what stands alone first."""
    parts = {name: part for name, part in values.items() if isinstance(part, dict)}
    alone = {name: value for name, value in values.items() if name not in parts}
    return tag(
        "div",
        [
            tag(
                "section",
                tag("h4", name),
                tag("dl", [_setting(key, value) for key, value in part.items()]),
            )
            for name, part in {"run": alone, **parts}.items()
        ],
        class_="settings",
    )


class _Number(str):
    """Text that stands to the right of its column."""


def _cell(name: str, value: object, to_right: bool) -> Html:
    return tag(name, value, class_="number" if to_right else None)


def _metric_row(name: str, metric: object) -> list[object]:
    """A metric is {"value": ..., "floor": ...} and more, or the value alone."""
    about = metric if isinstance(metric, dict) else {"value": metric}
    details = about.get("details")
    more = {key: value for key, value in about.items() if key not in _SAID}
    more |= details if isinstance(details, dict) else {}
    return [
        str(about.get("label") or name),
        _plain(about.get("value")),
        _plain(about.get("floor")),
        str(about.get("better") or ""),
        ", ".join(f"{key} {_plain(value)}" for key, value in more.items()),
    ]


def _plain(value: object) -> object:
    """A number or a text as it is, and a dash for nothing."""
    if value is None:
        return _Number("–")
    is_number = isinstance(value, float) or _is_number(value)
    return _Number(figure(float(value))) if is_number else _text(value)


def _about(values: Mapping[str, Any]) -> str:
    """Which snapshot, on what images."""
    said = [str(values[name]) for name in ("snapshot", "dataset", "split") if values.get(name)]
    for name, form in (("count", "{:,} images"), ("resolution", "{} px"), ("seed", "seed {}")):
        if _is_number(values.get(name)):
            said.append(form.format(values[name]))
    if _is_number(values.get("images_seen")):
        said.append(f"after {kimg(values['images_seen'])} kimg")
    return ", ".join(said)


def _changes(phases: Sequence[Mapping[str, Any]]) -> str:
    """Settings of a fade and of the rest of its stage, said once where they are the same."""
    texts = [", ".join(f"{n} {_text(v)}" for n, v in phase.items()) for phase in phases]
    if len(set(texts)) == 1:
        return texts[0]
    when = ("fading", "then")
    return "; ".join(f"{w} {text or 'as usual'}" for w, text in zip(when, texts, strict=True))


def _setting(name: str, value: object) -> list[Html]:
    return [tag("dt", name), tag("dd", _text(value))]


def _text(value: object) -> str:
    """A value of JSON in one line, texts without quotes."""
    if isinstance(value, str):
        return value
    if _is_number(value):
        return str(value).removesuffix(".0")
    return json.dumps(value, ensure_ascii=False)


def _is_number(value: object) -> bool:
    """Whether it is a finite number: JSON may hold NaN, infinities and integers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
