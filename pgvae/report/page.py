"""The page about a run: one file that needs nothing else."""

import base64
import hashlib
import shlex
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jinja2
import matplotlib

from pgvae.errors import InputError
from pgvae.files import atomic_path
from pgvae.report import charts
from pgvae.report.collect import Run, read_run
from pgvae.report.pictures import Interpolation, album, kimg


def write_report(
    run_dir: Path,
    out: Path,
    *,
    snapshots: int = 9,
    interpolation: Interpolation | None = None,
    now: datetime | None = None,
) -> None:
    """Write the page about a run directory to `out`, whole or not at all.

    snapshots:     show the grids of at most so many, 2 or more.
    interpolation: a picture to show; without it the newest interpolation*.png of the run.
    now:           when the page is made; default the clock's time.

    Raises InputError where there is nothing to show or `out` cannot be written.
    """
    page = compose(read_run(run_dir), snapshots, interpolation, now or datetime.now(UTC))
    try:
        with atomic_path(out) as aside:
            # A name in JSON may hold half a surrogate pair, which UTF-8 has no bytes for.
            aside.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; use another --out") from error


def compose(run: Run, snapshots: int, interpolation: Interpolation | None, now: datetime) -> str:
    """The page as text."""
    template, style, script = (
        files("pgvae.report").joinpath(f"page.{ending}").read_text("utf-8")
        for ending in ("html", "css", "js")
    )
    # What a damaged file lacks has no value, however deep.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for change in (digest, figure, kimg, plain, points, charts.as_uri):
        environment.filters[change.__name__] = change
    newest, strips = album(run, snapshots, interpolation)
    with matplotlib.rc_context(charts.STYLE):
        return environment.from_string(template).render(
            run=run,
            charts=charts,
            style=style,
            script=script,
            newest=newest,
            strips=strips,
            now=now.astimezone(UTC).replace(microsecond=0),
            end=max(1.0, run.images_seen),
            last={name: series[-1][1] for name, series in run.series.items()},
            command=shlex.join(("python", "train.py", *run.command)) if run.command else "",
            samples=[images for images, _ in run.grids.get("fakes", ())],
            sections=charts.panels_of(run.series),
        )


def figure(value: float) -> str:
    """Four digits of a number: 17.34, 0.000125, 12,345, 1.2e−07, NaN."""
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"
    return text.replace("nan", "NaN").replace("-", "−")


def plain(value: object) -> str:
    """A value of JSON: four digits of a number, a text without quotes, a dash for nothing."""
    if isinstance(value, float):
        return figure(value)
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    return f"{value:,}" if type(value) is int else str(value)


def digest(text: str) -> str:
    """A script or style as the policy of a page names it: no other one is run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def points(curve: charts.Curve) -> list[tuple[int, str]]:
    """What a chart shows of a curve, for the page's script: images and value."""
    _, _, images, values = charts.thinned(curve)
    return [(round(n), figure(value)) for n, value in zip(images, values, strict=True)]
