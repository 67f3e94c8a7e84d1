"""The page about a run: one file that needs nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import matplotlib

from pgvae.errors import InputError
from pgvae.files import atomic_path
from pgvae.report import charts
from pgvae.report.best import best_of
from pgvae.report.collect import Run, read_run
from pgvae.report.looks import Look
from pgvae.report.pictures import album, kimg

MARK = b"default-src 'none'; img-src data:;"  # near the start of every page


def write_report(
    run_dir: Path,
    out: Path,
    *,
    snapshots: int = 9,
    interpolation: tuple[bytes, str] | None = None,
    looks: Sequence[Look] = (),
) -> None:
    """Write the page about a run directory to `out`, whole or not at all.

    snapshots:     show the grids of at most so many, 2 or more.
    interpolation: a PNG and what it shows; without it the newest interpolation*.png of the run.
    looks:         more pictures (`pgvae.report.looks`).

    Raises InputError where there is nothing to show or `out` cannot be written.
    """
    page = compose(read_run(run_dir), snapshots, interpolation, looks)
    try:
        with atomic_path(out) as aside:
            # A name in JSON may hold half a surrogate pair, which UTF-8 has no bytes for.
            aside.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; use another --out") from error


def compose(
    run: Run,
    snapshots: int,
    interpolation: tuple[bytes, str] | None,
    looks: Sequence[Look] = (),
) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pgvae.report", ""),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,  # what a damaged file lacks, however deep
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(kimg=kimg, plain=plain, as_uri=charts.as_uri)
    style, *_ = environment.loader.get_source(environment, "page.css")
    newest, strips = album(run, snapshots, interpolation, looks)
    with matplotlib.rc_context(charts.STYLE):
        return environment.get_template("page.html").render(
            run=run,
            charts=charts,
            style=style,
            digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            best=best_of(run),
            newest=newest,
            strips=strips,
            now=datetime.now(UTC),
            last={name: series[-1][1] for name, series in run.series.items()},
            sections=charts.panels_of(run.series),
        )


def plain(value: object) -> str:
    """A value of JSON: 17.34, 0.000125, 12,346, 1.2e−07 or NaN, a text as it is, – for nothing."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if not isinstance(value, float):
        return f"{value:,}" if type(value) is int else str(value)
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"
    return text.replace("nan", "NaN").replace("-", "−")
