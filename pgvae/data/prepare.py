"""Build a store: read, check, crop, scale, write every resolution, and only then show it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from pgvae.choices import Codec, Crop
from pgvae.config import (
    MAX_RESOLUTION,
    MIN_RESOLUTION,
    check_resolution,
    require,
    require_choice,
    resolutions_between,
)
from pgvae.data import images
from pgvae.data.labels import Table
from pgvae.data.sources import Source
from pgvae.data.store import MANIFEST, REJECTS, Store
from pgvae.data.workers import Job, codec_at, made_in_order
from pgvae.data.writer import Writer
from pgvae.errors import InputError
from pgvae.files import disk_errors, fsync, locked, remove

_SHOWN = 3  # bad images that a message names
_LOOK_AHEAD = 256  # images to look at for more bad ones after the first


@dataclass(frozen=True)
class Recipe:
    """What to prepare, before what the user asked for is put in place.

    labels: of all the source's images, by their names; None for a set without labels.
    split:  of the images that are kept, given their indices in the source and their `Table`.
    """

    name: str
    source: Source
    labels: Callable[[list[str]], Table]
    split: Callable[[list[int], Table], np.ndarray]
    crop: Crop = "center"


@dataclass(frozen=True)
class Options:
    """How to prepare. resolution None: the largest power of two that the images have.

    crop:     None: the recipe's.
    codec:    of the resolutions above 128 px; those up to it are raw.
    skip_bad: leave out images that cannot be used, at most `max_bad` of them (None: any).
    count:    take the first so many images only; None: all.
    """

    resolution: int | None = None
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
    say: Callable[[str], None] = print,
) -> Store:
    """Prepare `recipe` as `data_root/NAME` and open it.

    Nothing is visible there before all of it is written and flushed. Raises InputError for data
    or options that cannot be used (and where NAME exists and not `force`), ResourceError when
    the disk is full.
    """
    require_choice("codec", options.codec, get_args(Codec))
    options = replace(options, crop=options.crop or recipe.crop)
    final = data_root / check_name(recipe.name)
    _check_free(final, force)
    table = recipe.labels(list(recipe.source.names))  # wrong labels fail before any work
    resolution = check_resolution(options.resolution or _largest_resolution(recipe.source, options))
    with _locked(data_root, recipe.name, say), disk_errors(final):
        _check_free(final, force)  # another process may have made it since
        aside, old = data_root / f"{recipe.name}.tmp", data_root / f"{recipe.name}.old.tmp"
        _restore(final, old)
        remove(aside)  # what a killed run left there
        try:
            aside.mkdir(mode=0o700)  # the images may be private
            _write(recipe, options, resolution, table, aside, say)
            if final.exists():
                final.rename(old)
            aside.rename(final)
            fsync(data_root)
        finally:
            remove(aside)
            _restore(final, old)
    return Store(final)


def check_name(name: str) -> str:
    """Return `name` if a folder in the data root may be called so; InputError otherwise."""
    plain = name.isprintable() and not set(name) & set("/\\:") and not name.startswith((".", "-"))
    require(
        bool(name) and plain and not name.endswith(".tmp") and len(os.fsencode(name)) <= 200,
        f"{name!r} cannot be the name of a set: give --name NAME, of letters, digits, - and _",
    )
    return name


def _check_free(final: Path, force: bool) -> None:
    """A set is replaced only with `force`, and anything that is not a set never is."""
    if not final.exists():
        return
    require(force, f"{final} exists: use --force to replace it or --name for another")
    require(
        (final / MANIFEST).is_file(),
        f"{final} is not a prepared set, so it is not replaced: use --name for another name",
    )


def _restore(final: Path, old: Path) -> None:
    """Put back the old set if a replacement stopped half-way; else it has served."""
    if old.exists() and not final.exists():
        old.rename(final)
    remove(old)


@contextlib.contextmanager
def _locked(data_root: Path, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the right to write NAME, which ends with this process; InputError if another has it."""
    with contextlib.ExitStack() as stack:
        try:
            data_root.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(locked(data_root / f".{name}.lock"))
        except BlockingIOError as error:
            raise InputError(
                f"{data_root / name} is being prepared by another process ({error.strerror}): "
                "wait for it, or use --name for another"
            ) from error
        except OSError as error:
            raise InputError(
                f"cannot write to {data_root} ({error.strerror}): give another --data-root"
            ) from error
        if not held:
            say(f"warning: no locks on this drive: prepare {name} in no second process")
        yield


def _largest_resolution(source: Source, options: Options) -> int:
    """The largest power of two, at most 1024, that every readable image has."""
    smallest, name = 2**20, ""
    for index in _taken(source, options):
        # An unreadable image says so when it is made; here it only has no size.
        with contextlib.suppress(images.RejectError, OSError):
            side = images.side_after(options.crop, *source.size(index))
            if side < smallest:
                smallest, name = side, source.names[index]
    source.close()
    if not name:
        return MIN_RESOLUTION  # none can be read: making them will tell why
    require(
        smallest >= MIN_RESOLUTION,
        f"{name!r} has {smallest} px a side, and {MIN_RESOLUTION} are the least: remove it, or "
        "give --resolution with --upscale or --skip-bad",
    )
    return min(MAX_RESOLUTION, 2 ** (smallest.bit_length() - 1))


def _taken(source: Source, options: Options) -> range:
    count = len(source.names)
    return range(count if options.count is None else min(count, options.count))


def _write(
    recipe: Recipe,
    options: Options,
    resolution: int,
    table: Table,
    aside: Path,
    say: Callable[[str], None],
) -> None:
    """All files of a store, the manifest last."""
    source = recipe.source
    sizes = resolutions_between(MIN_RESOLUTION, resolution)
    job = Job(source, resolution, options.crop, options.channels, options.codec, options.upscale)
    taken = _taken(source, options)
    bar = tqdm(total=len(taken), unit="img", desc="prepare", disable=None, dynamic_ncols=True)
    making = made_in_order(job, taken, options.workers)
    last = taken[-1]  # where to stop if there are bad images
    with Writer(aside, sizes, options.channels, len(taken)) as writer, bar:
        with contextlib.closing(making):
            for made in making:
                if made.reason:
                    last = last if writer.rejects else min(last, made.index + _LOOK_AHEAD)
                    writer.reject(source.names[made.index], made.reason)
                else:
                    writer.add(made)
                _check_rejects(writer.rejects, options, last=made.index >= last)
                bar.update()
        kept = writer.kept
        require(bool(kept), f"none of the {len(taken)} images can be used: {_some(writer.rejects)}")
    labels = table.values[kept]
    columns = {name: [cells[i] for i in kept] for name, cells in table.columns.items()}
    manifest = writer.finish(
        [source.names[i] for i in kept],
        labels,
        recipe.split(kept, Table(table.attributes, labels, columns)),
        [*source.skipped, *writer.rejects],
        about={
            "name": recipe.name,
            "codecs": {str(r): codec_at(r, options.codec) for r in sizes},
            "attributes": list(table.attributes),
            "crop": options.crop,
            "background": list(images.BACKGROUND),
            "seed": options.seed,
            "about": options.about,
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
        raise InputError(
            f"images that cannot be used: {_some(rejects)}; mend or remove them, or use --skip-bad"
            + (", --upscale or a lower --resolution" if small else "")
        )


def _some(rejects: list[dict[str, str]]) -> str:
    """The first bad images with their reasons."""
    shown = "; ".join(f"{r['name']!r}: {r['reason']}" for r in rejects[:_SHOWN])
    return shown + ("; ..." if len(rejects) > _SHOWN else "")


def _say_what_happened(
    manifest: dict[str, Any], writer: Writer, options: Options, say: Callable[[str], None]
) -> None:
    if writer.not_square:
        say(f"{writer.not_square:,} images are not square: crop policy {options.crop!r} applied")
    for note, count in writer.notes.items():
        say(f"warning: {count:,} images: {note}")
    if manifest["duplicates"]:
        say(f"warning: {manifest['duplicates']:,} images are byte-for-byte duplicates (kept)")
    if manifest["rejected"]:
        say(f"warning: {manifest['rejected']:,} images left out: see {REJECTS}")
    if manifest["count"] == 1:
        say("warning: one image only: it is used for training, and nothing is held out")
