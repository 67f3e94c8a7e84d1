"""What `--dataset` may be: a prepared set by name or path, or plain images."""

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pgvae.checks import nearest, require
from pgvae.data import images
from pgvae.data.kinds import is_container
from pgvae.data.manifest import MANIFEST, may_be_set
from pgvae.data.paths import is_file, is_folder, nearest_parent, printable
from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import RECIPES, Split, folder, own_name
from pgvae.data.sources import fingerprint_of, holds_many, open_source
from pgvae.data.store import Store
from pgvae.errors import InputError, PgvaeError
from pgvae.sizes import SQUARE, Base

_OF_PREPARE = ("--skip-bad", "--upscale", "--count", "--workers", "--name")  # training has none


def prepared_in(data_root: Path) -> list[str]:
    """Names of the finished sets in a data root."""
    # A preparation killed before its last rename leaves NAME.tmp with all its files.
    try:
        names = [path.name for path in data_root.iterdir() if may_be_set(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{data_root} cannot be listed: {error.strerror}") from error
    return sorted(name for name in names if not name.endswith(".tmp"))


def open_dataset(
    name_or_path: str,
    data_root: str | Path = "datasets",
    resolution: int | None = None,
    say: Callable[[str], None] = print,
    base: Base | None = None,
) -> Store:
    """The store that a user means by a name, or by a path of a store, a folder or a zip.

    Plain images are prepared on first use, under a name with a hash of their path, files and
    resolution, so that the next run finds them; but a set that `pgvae data prepare` made of the
    same files is taken, of any ratio where `base` is None. What looks like a path (`./photos`,
    `photos/`, `photos.zip`) is one where it is there, else a name goes first. Raises InputError
    with the command to run where nothing is prepared.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as photos, tempfile.TemporaryDirectory() as root:
    ...     for shade in ("black", "grey", "white"):
    ...         Image.new("RGB", (10, 8), shade).save(f"{photos}/{shade}.png")
    ...     store = open_dataset(photos, root, say=lambda _: None)
    ...     len(store), store.resolutions, store.get(2, 8).mean().item()
    (3, (4, 8), 255.0)
    """
    require(bool(name_or_path), "no data set is given: name a prepared one, a folder or a zip")
    data_root, path = Path(data_root), Path(name_or_path)
    found = prepared_set(name_or_path, data_root, say)
    if found is not None:
        return found
    if is_folder(data_root / f"{name_or_path}.tmp"):
        raise InputError(
            f"{name_or_path} is half-prepared in {data_root}: rerun "
            f"`pgvae data prepare {name_or_path}` and let it finish"
        )
    if is_folder(path) or is_file(path):
        return _prepared_on_first_use(path, data_root, resolution, say, base)
    if name_or_path in RECIPES:
        raise InputError(
            f"{name_or_path} is not prepared in {data_root}: run `pgvae data prepare "
            f"{name_or_path} {RECIPES[name_or_path].needs} --data-root {data_root}`"
        )
    if _is_path(name_or_path):
        raise InputError(f"no such data set: {path} ({nearest_parent(path)})")
    known = prepared_in(data_root)
    hint = nearest(name_or_path, known) if known else "nothing is prepared there yet"
    raise InputError(
        f"no data set {name_or_path!r} in {data_root} ({hint}), and no such folder or zip: run "
        f"`pgvae data prepare PATH --name {name_or_path} --data-root {data_root}`"
    )


def prepared_set(
    name_or_path: str, data_root: Path, say: Callable[[str], None] = print
) -> Store | None:
    """The prepared set that a user means; None where it is plain images, or nothing.

    What looks like a path is one where it is there, else a name goes first, which is said where a
    folder or file of that name has other images. Raises as `Store`.
    """
    prepared, path = data_root / name_or_path, Path(name_or_path)
    plain = is_folder(path) or is_file(path)
    if may_be_set(prepared) and not (plain and _is_path(name_or_path)):
        store = Store(prepared)
        if plain and path.resolve() != prepared.resolve() and _differs(store, path):
            say(
                f"{prepared} is taken, not {path}, which may have other images: ./{path} takes them"
            )
        return store
    if may_be_set(path):
        return Store(path)
    return None


def load_images(
    paths: Sequence[str | Path],
    resolution: int,
    channels: int = 3,
    crop: images.Crop = "center",
    count: int | None = None,
    base: Base = SQUARE,
) -> tuple[np.ndarray, list[str]]:
    """Any images, of files, folders or zips: uint8 [N, C, R, R] fitted by `crop`, and names.

    count: read the first so many and no more; None: all.
    The same rules as for training data, but small images are enlarged. Raises InputError for a
    path without images, for the first file that cannot be decoded and for no pixels or channels.
    """
    require(resolution >= 1, f"resolution is {resolution}: give 1 or more")
    require(channels in (1, 3), f"channels are {channels}: give 1 or 3")
    pixels, names = [], []
    files = (file for path in map(Path, paths) for file in _files_of(path))
    for name, data in itertools.islice(files, count):
        try:
            pixels.append(images.as_pixels(data, resolution, channels, crop, base))
        except images.RejectError as error:
            raise InputError(f"{name!r}: {error}; mend it or leave it out") from error
        names.append(name)
    require(bool(pixels), "no images are given: name files, folders or zips")
    return np.stack(pixels), names


def _files_of(path: Path) -> Iterator[tuple[str, bytes | images.Decoded]]:
    """Name and content of one file, or of each image in a folder, zip or array."""
    if is_file(path) and not holds_many(path):
        try:
            yield printable(str(path)), path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        return
    source = open_source(path)
    with contextlib.closing(source):
        for index, name in enumerate(source.names):
            try:
                yield name, source.read(index)
            except (images.RejectError, OSError) as error:
                raise InputError(f"{name!r} in {path}: {error}; mend it or leave it out") from error


def _prepared_on_first_use(
    path: Path,
    data_root: Path,
    resolution: int | None,
    say: Callable[[str], None],
    base: Base | None,
) -> Store:
    files = fingerprint_of(path)
    known = data_root / own_name(path)
    with contextlib.suppress(PgvaeError):
        store = Store(known)
        fits = resolution in (None, *store.resolutions) and base in (None, store.base)
        if store.manifest.get("source") == files and fits:
            say(f"{path} is prepared as {known}")
            return store
    shape = [] if base in (None, SQUARE) else [base]
    fingerprint = json.dumps([str(path.resolve()), files, resolution, *shape])
    short = hashlib.sha256(fingerprint.encode()).hexdigest()[:8]
    stem = re.sub(r"[^\w.-]", "_", printable(own_name(path))).lstrip(".-")
    name = f"{stem[:40]}-{short}"
    if (data_root / name / MANIFEST).is_file():
        return Store(data_root / name)
    command = f"`pgvae data prepare {path} --data-root {data_root}`"
    say(
        f"preparing {path} as {data_root / name} (5 % of the images are held out); "
        f"{command} has options"
    )
    recipe = folder(name, path, Split())
    options = Options(resolution=resolution, base=base or SQUARE)
    try:
        return prepare(recipe, options, data_root, shared=True, say=say)
    except PgvaeError as error:
        if any(option in str(error) for option in _OF_PREPARE):
            raise type(error)(f"{error}: options of {command}") from error
        raise


def _is_path(name_or_path: str) -> bool:
    return "/" in name_or_path or is_container(Path(name_or_path).name)


def _differs(store: Store, path: Path) -> bool:
    """Whether a path holds other images than those that a set was made of."""
    try:
        return store.manifest.get("source") != fingerprint_of(path)
    except InputError:
        return False  # no images at all
