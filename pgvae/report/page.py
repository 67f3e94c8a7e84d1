"""The page about a run: one file that needs nothing else."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template

from pgvae.errors import InputError
from pgvae.files import atomic_path
from pgvae.report.chart import MOST_POINTS, Frame, chart
from pgvae.report.collect import Run, last_stage, read_run
from pgvae.report.grids import Album, Interpolation
from pgvae.report.markup import Html, join, tag
from pgvae.report.numbers import duration, figure, kimg
from pgvae.report.panels import panels_of
from pgvae.report.tables import evaluation_table, settings_tables, stage_table
from pgvae.report.timeline import timeline

SNAPSHOTS = 9
_STATES = {"done": "Finished", "running": "Running", "preempted": "Stopped", "failed": "Failed"}
_NOT_RECORDED = ("--data-root", "--device", "--outdir", "--workers", "--inception-weights")
Section = tuple[str, str, Html]  # id, title, what is in it


def write_report(
    run_dir: Path,
    out: Path,
    *,
    snapshots: int = SNAPSHOTS,
    interpolation: Interpolation | None = None,
    now: datetime | None = None,
) -> None:
    """Write the page about a run directory to `out`, whole or not at all.

    snapshots:     show the grids of at most so many, 2 or more.
    interpolation: a picture to show; without it the newest interpolation*.png of the run.
    now:           when the page is made; default the clock's time.

    Raises InputError where there is nothing to show or `out` cannot be written.
    """
    run = read_run(run_dir)
    page = compose(run, snapshots, interpolation, now or datetime.now(UTC))
    try:
        with atomic_path(out) as aside:
            # A name in JSON may hold half a surrogate pair, which UTF-8 has no bytes for.
            aside.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; use another --out") from error


def compose(run: Run, snapshots: int, interpolation: Interpolation | None, now: datetime) -> str:
    """The page as text."""
    album = Album(run)
    sections = [
        ("growth", "Growth", _growth(run)),
        ("pictures", "Pictures", _pictures(album, snapshots, interpolation)),
        ("metrics", "Metrics", _metrics(run)),
        *_curves(run),
        ("repeat", "To repeat it", _repeat(run)),
    ]
    shown = [section for section in sections if section[2]]
    body = [
        _header(run, album.notes, shown, now),
        tag("main", [tag("section", tag("h2", t), c, id=i) for i, t, c in shown]),
        tag("footer", f"Written by pgvae report on {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC."),
    ]
    style, script = _file("page.css"), _file("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    )
    return Template(_file("page.html")).substitute(
        title=join([" ".join(run.name)]),
        policy=policy,
        style=style,
        script=script,
        body=join(body),
    )


def _header(run: Run, unread: list[str], sections: list[Section], now: datetime) -> Html:
    dataset, objective, resolution = run.name
    state = str(run.status.get("status", "unknown"))
    text = _STATES.get(state, f"Status {state}")
    if state == "running" and run.stats.times:
        ago = duration(now.timestamp() - run.stats.times[1])
        text += f", last heard of {ago} before this page was written"
    message = str(run.status.get("message") or "")
    notes = [tag("p", note) for note in (*run.notes, *unread)]
    return tag(
        "header",
        tag("p", text, class_=f"state {state}" if state in _STATES else "state"),
        tag("h1", dataset, tag("small", f" {objective}, {resolution}")),
        tag("p", run.path.resolve().name, class_="path"),
        tag("div", tag("p", message), class_=f"notes {state}") if message else None,
        tag("div", notes, class_="notes") if notes else None,
        _fact_list(run),
        tag("nav", [tag("a", title, href=f"#{name}") for name, title, _ in sections]),
    )


def _fact_list(run: Run) -> Html:
    return tag(
        "dl",
        [
            tag(
                "div",
                tag("dt", name),
                tag("dd", value, tag("small", f" {unit}") if unit else None),
                tag("dd", more, class_="more"),
            )
            for name, value, unit, more in _facts(run)
        ],
        class_="facts",
    )


def _facts(run: Run) -> Iterator[tuple[str, str, str, str]]:
    """How far, how long, how fast, how well: name, value, unit, more."""
    series, schedule = run.stats.series, run.schedule
    total = f"of {kimg(schedule.total_images)} kimg planned" if schedule else ""
    yield "Images seen", kimg(run.images_seen), "kimg", total
    if schedule:
        stage = last_stage(schedule, round(run.images_seen))
        how = f"fading in, alpha {stage.alpha:.2f}" if stage.alpha < 1 else "faded in"
        first = stage.resolution == schedule.resolutions[0]
        yield "Stage", f"{stage.resolution}", "px", "the first" if first else how
    if run.stats.times:
        first, last = run.stats.times
        yield "First to last entry", duration(last - first), "", _between(first, last)
    if "img_per_s" in series:
        yield "Speed", figure(series["img_per_s"].last), "images/s", "at the last entry"
    for split, more in (("val", "unseen images"), ("train", "training images")):
        if f"{split}/psnr" in series:
            if f"{split}/psnr_gain" in series:
                gain = series[f"{split}/psnr_gain"].last
                sign = "+" if gain > 0 else ""
                more += f", {sign}{figure(gain)} dB against the mean image"
            yield "PSNR", figure(series[f"{split}/psnr"].last), "dB", more


def _between(first: float, last: float) -> str:
    """Two moments, in seconds since 1970; the day once where it is the same."""
    start, end = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" for at in (first, last))
    return f"{start} to {end[11:] if start[:10] == end[:10] else end} UTC"


def _growth(run: Run) -> Html | None:
    schedule = run.schedule
    if schedule is None:
        return None
    key = ["Height: resolution. Slopes: fades, alpha from 0 to 1."]
    if run.fakes:
        key.append("Ticks below: snapshots.")
    if schedule.pretrain_kimg:
        key.append(f"Bar at the start: pre-training, {kimg(schedule.pretrain_kimg * 1000)} kimg.")
    if schedule.milestones_kimg:
        factor = figure(schedule.milestone_factor)
        key.append(f"Dashed lines: learning rate times {factor}.")
    return tag(
        "div",
        timeline(schedule, run.images_seen, [picture.images_seen for picture in run.fakes]),
        tag("ul", [tag("li", line) for line in key], class_="key"),
        tag("details", tag("summary", "Stages"), stage_table(schedule)),
    )


def _pictures(album: Album, snapshots: int, interpolation: Interpolation | None) -> Html | None:
    newest = album.newest(interpolation)
    strips = [
        album.earlier("fakes", "Earlier samples", snapshots),
        album.earlier("reconstructions", "Earlier reconstructions", snapshots),
    ]
    parts = [part for part in strips if part]
    if not (newest or parts):
        return tag("p", "There are no pictures yet: the first snapshot brings them.")
    said = "Choose a picture to enlarge it, and again to close it."
    if album.changed:
        said += " Large ones are compressed for this page; the files of the run are not."
    return tag("div", tag("p", said, class_="about"), tag("div", newest, class_="large"), parts)


def _metrics(run: Run) -> Html | None:
    if not run.evaluations:
        return None
    about = (
        "The floor is what other real images get in the place of samples or reconstructions. "
        "A distance between sets can hardly be below it; a reconstruction should be far better."
    )
    return tag("div", tag("p", about, class_="about"), list(map(evaluation_table, run.evaluations)))


def _curves(run: Run) -> list[Section]:
    frame = Frame(max(1.0, run.stats.images_seen), run.schedule)
    said = "Over thousands of images; grey bands are fades. A legend gives the last value."
    if max(len(series.values) for series in run.stats.series.values()) > MOST_POINTS:
        said += f" Of more than {MOST_POINTS:,} points, each span shows its lowest and highest."
    about = tag("p", said, class_="about")
    found = []
    for number, (title, panels) in enumerate(panels_of(run.stats).items()):
        charts = tag("div", [chart(panel, frame) for panel in panels], class_="charts")
        found.append((f"curves-{number}", title, join([None if number else about, charts])))
    return found


def _repeat(run: Run) -> Html:
    return tag(
        "div",
        _command(run),
        tag("details", tag("summary", "Settings"), settings_tables(run.values)),
    )


def _command(run: Run) -> list[Html]:
    return []


def _words(words: Iterable[str]) -> Html:
    """Code that is not broken within a word."""
    return tag("code", [[" " if i else None, tag("span", w)] for i, w in enumerate(words)])


def _file(name: str) -> str:
    return files("pgvae.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A script or style as the policy of a page names it: no other one is run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
