"""The images that commands read for a model. It brings PyTorch: import it inside of a command."""

from collections.abc import Sequence
from pathlib import Path

import click
import torch
from torch import Tensor

from pgvae.checks import nearest, require
from pgvae.data import (
    Store,
    fade_images,
    load_images,
    open_dataset,
    prepared_in,
    prepared_set,
    read_images,
)
from pgvae.data.paths import apart, exists, is_folder
from pgvae.inference import Model
from pgvae.inference.images import require_fitting

_STEM_BYTES = 200  # of a name of a file, which most drives let have 255


def read_paths(
    model: Model, paths: Sequence[str], count: int, data_root: Path
) -> tuple[Tensor, list[str]]:
    """Images of files, folders, zips or prepared sets: [N, C, R, R] in [-1, 1], and names.

    paths: as users write them, as `photos` may be a set in `data_root` and `./photos` a folder.
    Faded where the model is in mid-fade, as it was trained on them.
    """
    parts, names = [], []
    for path in paths:
        store = prepared_set(path, data_root, click.echo)
        if store is not None:
            images, found = _unseen(store, model, count)
        else:
            raw, found = load_images(
                [_images_at(Path(path), data_root)],
                model.resolution,
                model.config.channels,
                count=count,
                base=model.config.base,
            )
            images = torch.from_numpy(raw).float() / 127.5 - 1
        parts.append(images.contiguous())
        names += found
    images = torch.cat(parts)[:count].to(model.device)
    return fade_images(images, model.alpha), names[:count]


def _images_at(path: Path, data_root: Path) -> Path:
    """`path`; InputError where that is a run, or neither there nor a set in `data_root`."""
    require(
        not is_folder(path) or next(path.glob("snapshot-*.safetensors"), None) is None,
        f"{path} is a run, not images: give images; --snapshot takes one run",
    )
    known = [] if exists(path) else prepared_in(data_root)
    require(
        not known,
        f"no such folder or file: {path}, nor a set in {data_root} ({nearest(str(path), known)})",
    )
    return path  # which is refused where it is read


def open_for(model: Model, dataset: str, data_root: Path) -> Store:
    """The set of that name or path, prepared where it is not yet; InputError unless it fits."""
    store = open_dataset(dataset, data_root, model.resolution, click.echo, model.config.base)
    require_fitting(store, model)
    return store


def unique_stems(names: list[str]) -> list[str]:
    """Names of files without their endings, without clashes, short enough for another ending."""
    stems = (Path(name).stem.encode("utf-8", "backslashreplace") for name in names)
    return apart(stem[:_STEM_BYTES].decode("utf-8", "ignore") for stem in stems)


def _unseen(store: Store, model: Model, count: int) -> tuple[Tensor, list[str]]:
    """Validation images of a prepared set at the model's resolution, and a name for each."""
    require_fitting(store, model)
    indices = store.split("val")[:count]
    require(len(indices) > 0, f"{store.name} has no validation images: prepare it with some")
    click.echo(f"{len(indices):,} unseen images of {store.path}")
    return read_images(store, indices, model.resolution), [f"{store.name}-{i}" for i in indices]
