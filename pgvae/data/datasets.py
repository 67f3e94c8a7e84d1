"""What `--dataset` may be: a prepared set by name or path, or plain images."""

import contextlib
import hashlib
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pgvae.config import nearest, require
from pgvae.data import images
from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import RECIPES, Split, folder
from pgvae.data.sources import nearest_parent, open_source, printable
from pgvae.data.store import MANIFEST, Store, folder_of
from pgvae.errors import InputError


def prepared_in(data_root: Path) -> list[str]:
    """Names of the finished sets in a data root."""
    # A preparation killed before its last rename leaves NAME.tmp with all its files.
    names = [path.parent.name for path in data_root.glob(f"*/{MANIFEST}")]
    return sorted(name for name in names if not name.endswith(".tmp"))


def open_dataset(
    name_or_path: str,
    data_root: str | Path = "datasets",
    resolution: int | None = None,
    say: Callable[[str], None] = print,
) -> Store:
    """The store that a user means by a name, or by a path of a store, a folder or a zip.

    Plain images are prepared on first use, under a name with a hash of their path, files and
    resolution, so that the next run finds them. Raises InputError with the command to run where
    nothing is prepared.

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
    if (data_root / name_or_path / MANIFEST).is_file():
        return Store(data_root / name_or_path)
    if (path / MANIFEST).is_file() or (path / folder_of(4)).is_dir():
        return Store(path)
    if (data_root / f"{name_or_path}.tmp").is_dir():
        raise InputError(
            f"{name_or_path} is half-prepared in {data_root}: rerun "
            f"`pgvae data prepare {name_or_path}` and let it finish"
        )
    if path.is_dir() or path.is_file():
        return _prepared_on_first_use(path, data_root, resolution, say)
    if name_or_path in RECIPES:
        raise InputError(
            f"{name_or_path} is not prepared in {data_root}: run `pgvae data prepare "
            f"{name_or_path} {RECIPES[name_or_path].needs} --data-root {data_root}`"
        )
    if "/" in name_or_path or path.suffix == ".zip":
        raise InputError(f"no such data set: {path} ({nearest_parent(path)})")
    known = prepared_in(data_root)
    hint = nearest(name_or_path, known) if known else "nothing is prepared there yet"
    raise InputError(
        f"no data set {name_or_path!r} in {data_root} ({hint}), and no such folder or zip: run "
        f"`pgvae data prepare PATH --name {name_or_path} --data-root {data_root}`"
    )


def load_images(
    paths: Sequence[str | Path],
    resolution: int,
    channels: int = 3,
    crop: images.Crop = "center",
    count: int | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Any images, of files, folders or zips: uint8 [N, C, R, R] fitted by `crop`, and names.

    count: read the first so many and no more; None: all.
    The same rules as for training data, but small images are enlarged. Raises InputError for a
    path without images and for the first file that cannot be decoded.
    """
    pixels, names = [], []
    files = (file for path in map(Path, paths) for file in _files_of(path))
    for name, data in itertools.islice(files, count):
        try:
            image = images.decode(data).image
            fitted = images.fit(image, resolution, crop, upscale=True)
        except images.RejectError as error:
            raise InputError(f"{name!r}: {error}; mend it or leave it out") from error
        pixels.append(images.to_pixels(fitted, channels))
        names.append(name)
    require(bool(pixels), "no images are given: name files, folders or zips")
    return np.stack(pixels), names


def _files_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of one file, or of each image in a folder or zip."""
    if path.is_file() and not zipfile.is_zipfile(path):
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
    path: Path, data_root: Path, resolution: int | None, say: Callable[[str], None]
) -> Store:
    source = open_source(path)
    with contextlib.closing(source):
        fingerprint = [str(path.resolve()), source.fingerprint(), resolution]
    short = hashlib.sha256(json.dumps(fingerprint).encode()).hexdigest()[:8]
    stem = re.sub(r"[^\w.-]", "_", printable(path.resolve().stem)).lstrip(".-")
    name = f"{stem[:40]}-{short}"
    if (data_root / name / MANIFEST).is_file():
        return Store(data_root / name)
    say(f"preparing {path} as {data_root / name} (5 % of the images are held out)")
    options = Options(resolution=resolution)
    return prepare(folder(name, path, Split()), options, data_root, say=say)
