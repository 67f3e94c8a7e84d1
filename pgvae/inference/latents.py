"""Latents in a file: NumPy's .npz, with names, or .npy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pgvae.checks import require
from pgvae.data.arrays import read_numpy
from pgvae.files import atomic_path

ENDINGS = (".npz", ".npy")


def check_latents_name(path: Path) -> None:
    """Raise InputError unless a file of latents may be called so.

    >>> check_latents_name(Path("latents.csv"))
    Traceback (most recent call last):
    pgvae.errors.InputError: latents.csv: a file of latents ends in .npz or .npy; name another
    """
    named = f"{path}: a file of latents ends in {' or '.join(ENDINGS)}; name another"
    require(path.suffix in ENDINGS, named)


def save_latents(path: Path, latents: Tensor, names: Sequence[str] = ()) -> None:
    """Write latents [N, d], float32, atomically; .npz has them as `latents`, beside `names`.

    InputError as `check_latents_name`, ResourceError when the disk is full.

    >>> save_latents(folder / "two.npz", model.encode(model.sample(2)), ["a.png", "b.png"])
    >>> latents, names = load_latents(folder / "two.npz", model.latent_dim)
    >>> latents.shape, names
    (torch.Size([2, 4]), ['a.png', 'b.png'])
    """
    check_latents_name(path)
    values = latents.detach().float().cpu().numpy()
    with atomic_path(path) as aside, aside.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, values)
        elif names:
            np.savez(file, latents=values, names=np.array([*names], dtype=np.str_))
        else:
            np.savez(file, latents=values)


def load_latents(path: Path, dim: int) -> tuple[Tensor, list[str]]:
    """Latents [N, dim] of a file, float32, and their names, as far as it has some.

    Of an .npz the array `latents`, or the only one. Nothing in it is executed. InputError where
    there is no such file, or it has no such numbers.
    """
    check_latents_name(path)
    values, names = _read(path)
    of_numbers = values.dtype.kind in "fiu"
    require(
        of_numbers and values.ndim == 2 and values.shape[1] == dim and len(values) > 0,
        f"{path} has {values.dtype} {[*values.shape]}: latents of this model are numbers "
        f"[N, {dim}]",
    )
    with np.errstate(over="ignore"):  # which leaves infinity
        latents = torch.from_numpy(values.astype(np.float32))
    require(bool(latents.isfinite().all()), f"{path} has latents that are not finite")
    fitting = names.dtype.kind == "U" and names.shape == (len(values),)
    return latents, [*map(_printable, names.tolist())] if fitting else []


def _printable(name: str) -> str:
    """A name that can be one of a file: a NUL could not be."""
    return "".join(letter if letter.isprintable() else "_" for letter in name)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The array of latents and that of names, which may be empty."""
    require(path.is_file(), f"no such file of latents: {path}")
    arrays = read_numpy(path)
    names = arrays.pop("names", np.array([], dtype=np.str_))
    chosen = "latents" if "latents" in arrays else next(iter(arrays), "")
    require(
        chosen == "latents" or len(arrays) == 1,
        f"{path} has no array `latents`: it has {', '.join(arrays) or 'nothing'}",
    )
    return arrays[chosen], names
