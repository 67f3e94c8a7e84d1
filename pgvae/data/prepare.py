"""Build a store: read, check, crop, scale, write every resolution, and only then show it."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from pgvae.checks import require, require_choice
from pgvae.choices import Codec, Crop
from pgvae.data import images
from pgvae.data.journal import may_go_on
from pgvae.data.labels import Table, check_names
from pgvae.data.making import Job, Known, Look, codec_at
from pgvae.data.manifest import MANIFEST, REJECTS, manifest_of
from pgvae.data.placing import check_free, check_name, locked, written_aside
from pgvae.data.source import Source
from pgvae.data.store import Store
from pgvae.data.workers import Crew
from pgvae.data.writer import Writer
from pgvae.errors import InputError
from pgvae.sizes import (
    MAX_RESOLUTION,
    MIN_RESOLUTION,
    SQUARE,
    Base,
    check_resolution,
    resolutions_between,
)

_SHOWN = 3  # bad images that a message names
_MANY = 2000  # images for which workers are worth it however fast one is made
_LOOKED_AT = 256  # headers that a worker looks at at a time
_CHUNK_PIXELS = 1 << 18  # of images that a worker makes at a time: 16 of 128 px
_LOOK_AHEAD = 256  # images to look at for more bad ones after the first


@dataclass(frozen=True)
class Recipe:
    """What to prepare, before what the user asked for is put in place.

    labels: of all the source's images, by their names; None for a set without labels.
    split:  of the images that are kept, given their indices in the source and their `Table`.
    known:  images of an older set, taken as they are; `old` is told which those were.
    further: more entries of the manifest, given the same.
    """

    name: str
    source: Source
    labels: Callable[[list[str]], Table]
    split: Callable[[list[int], Table], np.ndarray]
    crop: Crop = "center"
    known: Known | None = None
    old: dict[int, int] = field(default_factory=dict)
    further: Callable[[dict[int, int]], dict[str, Any]] = lambda old: {}


@dataclass(frozen=True)
class Options:
    """How to prepare. resolution None: the largest power of two that the images have.

    base:     the ratio of their sides.
    crop:     None: the recipe's.
    codec:    of the resolutions above 128 px; those up to it are raw.
    skip_bad: leave out images that cannot be used, at most `max_bad` of them (None: any).
    count:    take the first so many images only; None: all.
    """

    resolution: int | None = None
    base: Base = SQUARE
    crop: Crop | None = None
    channels: int = 3
    codec: Codec = "webp"
    upscale: bool = False
    skip_bad: bool = False
    max_bad: int | None = None
    count: int | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    seed: int = 0
    about: dict[str, Any] = field(default_factory=dict)


def prepare(
    recipe: Recipe,
    options: Options,
    data_root: Path,
    *,
    force: bool = False,
    shared: bool = False,
    say: Callable[[str], None] = print,
) -> Store:
    """Prepare `recipe` as `data_root/NAME` and open it.

    Nothing is visible there before all of it is written and flushed. Raises InputError for data
    or options that cannot be used (and where NAME exists and not `force`), ResourceError when
    the disk is full.

    shared: whoever prepares NAME makes the same set: wait for another process, and take its.
    """
    require_choice("codec", options.codec, get_args(Codec))
    if options.resolution:
        check_resolution(options.resolution)
    options = replace(options, crop=options.crop or recipe.crop)
    final = data_root / check_name(recipe.name)
    if not shared:
        check_free(final, force)
    with contextlib.closing(recipe.source):
        table = recipe.labels(list(recipe.source.names))  # what is wrong fails before any work
        check_names(table.attributes)
        taken = list(_taken(recipe.source, options))
        recipe.split(taken, table.take(taken))
        with locked(final, shared, say):
            if shared and (final / MANIFEST).is_file():
                return Store(final)
            check_free(final, force)  # another process may have made it since
            for note in (*_left_out(recipe.source), *table.notes):
                say(f"warning: {note}")
            with Crew(recipe.source, options.workers, say) as crew:
                if len(taken) >= _MANY:
                    crew.start()
                sides = _sides(recipe.source, options, crew)
                resolution = options.resolution or _largest_resolution(recipe.source, sides, say)
                job = _job_of(recipe, options, resolution)
                what = _what(recipe, options, job)
                with written_aside(final, lambda folder: may_go_on(folder, what)) as aside:
                    _write(recipe, options, job, what, table, aside, crew, say)
    return Store(final)


def _left_out(source: Source) -> list[str]:
    """How many images are passed over on purpose, by reason."""
    counts = Counter(entry["reason"] for entry in source.skipped)
    return [f"{count:,} images left out: {reason}" for reason, count in counts.items()]


def _sides(source: Source, options: Options, crew: Crew) -> list[tuple[int, int]]:
    """(pixels a side, index) of the images whose headers can be read.

    InputError for bad ones, if those that are bad by their headers alone are too many, and
    making the images would come upon them much later.
    """
    sides, rejects = [], {}
    look = Look(options.crop, options.resolution or 1, options.upscale, options.base)
    taken = _taken(source, options)
    for index, found in zip(taken, crew.map(look.side, taken, _LOOKED_AT), strict=True):
        if isinstance(found, str):
            rejects[index] = {"name": source.names[index], "reason": found}
        else:
            sides.append((found, index))
    if rejects and min(rejects) >= _LOOK_AHEAD:
        _check_rejects([*rejects.values()], options, last=True)
    return sides


def _largest_resolution(
    source: Source, sides: list[tuple[int, int]], say: Callable[[str], None]
) -> int:
    """The largest power of two, at most 1024, that every readable image has.

    A warning is said where most images have more.
    """
    if not sides:
        return MIN_RESOLUTION  # none can be read: making them will tell why
    sides = sorted(sides)
    smallest, index = sides[0]
    name = source.names[index]
    require(
        smallest >= MIN_RESOLUTION,
        f"{name!r} has {smallest} px a side, and {MIN_RESOLUTION} are the least: remove it, or "
        "give --resolution with --upscale or --skip-bad",
    )
    lowest, usual = _power_below(smallest), _power_below(sides[len(sides) // 2][0])
    if usual > lowest:
        below = sum(side < usual for side, _ in sides)
        say(
            f"warning: the set goes to {lowest} px and not to {usual}: {name!r} has {smallest} px, "
            f"and {below:,} of {len(sides):,} images are below {usual}; --resolution {usual} with "
            "--skip-bad leaves them out, with --upscale enlarges them"
        )
    return lowest


def _power_below(side: int) -> int:
    """The largest resolution up to `side`."""
    return min(MAX_RESOLUTION, 2 ** (side.bit_length() - 1))


def _taken(source: Source, options: Options) -> range:
    count = len(source.names)
    return range(count if options.count is None else min(count, options.count))


def _job_of(recipe: Recipe, options: Options, resolution: int) -> Job:
    taken = ("crop", "channels", "codec", "upscale", "base")
    return Job(resolution, known=recipe.known, **{name: getattr(options, name) for name in taken})


def _what(recipe: Recipe, options: Options, job: Job) -> dict[str, Any]:
    """All that the images of a set depend on, before its source may change."""
    settings = {f: getattr(job, f) for f in ("resolution", "crop", "channels", "codec", "upscale")}
    known = recipe.known.store.digest if recipe.known else ""
    return settings | {
        **manifest_of(job.base),
        "source": recipe.source.fingerprint(),
        "count": len(_taken(recipe.source, options)),
        "known": known,
    }


def _write(
    recipe: Recipe,
    options: Options,
    job: Job,
    what: dict[str, Any],
    table: Table,
    aside: Path,
    crew: Crew,
    say: Callable[[str], None],
) -> None:
    """All files of a store, the manifest last."""
    source, taken = recipe.source, _taken(recipe.source, options)
    sizes = resolutions_between(MIN_RESOLUTION, job.resolution)
    last = taken[-1]  # where to stop if there are bad images
    with Writer(aside, sizes, options.channels, len(taken), what, job.base) as writer:
        left = taken[writer.due :]
        if writer.due:
            say(f"going on after {writer.due:,} images that a stopped preparation made")
        making = crew.map(job.make, left, max(1, _CHUNK_PIXELS // job.resolution**2))
        bar = tqdm(
            total=len(taken),
            initial=writer.due,
            unit="img",
            desc="prepare",
            disable=None,
            dynamic_ncols=True,
        )
        with contextlib.closing(making), bar:
            for made in making:
                if made.reason:
                    last = last if writer.rejects else min(last, made.index + _LOOK_AHEAD)
                    writer.reject(made.index, source.names[made.index], made.reason)
                else:
                    writer.add(made)
                _check_rejects(writer.rejects, options, last=made.index >= last)
                bar.update()
        kept = writer.kept
        require(bool(kept), f"none of the {len(taken)} images can be used: {_some(writer.rejects)}")
    table = table.take(kept)
    if recipe.known:
        recipe.old.update(recipe.known.told_apart(writer.old, source.names))
    manifest = writer.finish(
        [source.names[i] for i in kept],
        table.values,
        recipe.split(kept, table),
        [*source.skipped, *writer.rejects],
        about={
            "name": recipe.name,
            "codecs": {str(r): codec_at(r, options.codec) for r in sizes},
            "attributes": list(table.attributes),
            "crop": options.crop,
            **manifest_of(job.base),
            "background": list(images.BACKGROUND),
            "seed": options.seed,
            "about": options.about,
            "source": what["source"],
            **recipe.further(recipe.old),
        },
    )
    _say_what_happened(manifest, writer, options, say)


def _check_rejects(rejects: list[dict[str, str]], options: Options, *, last: bool) -> None:
    """Raise InputError for bad images, or with `skip_bad` for one too many.

    Without it the first few are gathered before, so that a user sees more than one at a time.
    """
    if options.skip_bad:
        if options.max_bad is not None and len(rejects) > options.max_bad:
            raise InputError(
                f"more than {options.max_bad} images cannot be used: {_some(rejects)}; "
                "mend them or raise --max-bad"
            )
    elif rejects and (last or len(rejects) == _SHOWN):
        small = any("below the resolution" in reject["reason"] for reject in rejects)
        lower = "--resolution" if options.base == SQUARE else "--size"
        raise InputError(
            f"images that cannot be used: {_some(rejects)}; mend or remove them, or use --skip-bad"
            + (f", --upscale or a lower {lower}" if small else "")
        )


def _some(rejects: list[dict[str, str]]) -> str:
    """The first bad images with their reasons."""
    shown = "; ".join(f"{r['name']!r}: {r['reason']}" for r in rejects[:_SHOWN])
    return shown + ("; ..." if len(rejects) > _SHOWN else "")


def _say_what_happened(
    manifest: dict[str, Any], writer: Writer, options: Options, say: Callable[[str], None]
) -> None:
    if writer.not_square:
        height, width = options.base
        ratio = "square" if options.base == SQUARE else f"{width}:{height}"
        say(f"{writer.not_square:,} images are not {ratio}: crop policy {options.crop!r} applied")
    for note, count in writer.notes.items():
        say(f"warning: {count:,} images: {note}")
    if manifest["duplicates"]:
        say(f"warning: {manifest['duplicates']:,} images are byte-for-byte duplicates (kept)")
    if manifest["rejected"]:
        say(f"warning: {manifest['rejected']:,} images left out: see {REJECTS}")
    if manifest["count"] == 1:
        say("warning: one image only: it is used for training, and nothing is held out")
