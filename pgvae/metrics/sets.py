"""Sets of images as metrics take them: one tensor, or batches that come one after another."""

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType

import torch
from torch import Tensor

from pgvae.errors import InputError

Images = Tensor | Iterable[Tensor]
"""[N, C, H, W] in [-1, 1], or an iterable of such batches, read once and in order."""


def batches(images: Images, most: int = 64) -> Iterator[Tensor]:
    """Parts of `images` of at most `most` each, in order: float32 [n, C, H, W], no gradient.

    ValueError where a batch is no [N, C, H, W] of floats, or is shaped unlike the first one.

    >>> [len(batch) for batch in batches(torch.zeros(100, 3, 8, 8))]
    [64, 36]
    """
    shape = None
    for batch in [images] if isinstance(images, Tensor) else images:
        if batch.ndim != 4 or not batch.is_floating_point():
            raise ValueError(
                "images must be floats [N, C, H, W] in [-1, 1]: "
                f"got {batch.dtype} {list(batch.shape)}"
            )
        shape = shape or batch.shape[1:]
        if batch.shape[1:] != shape:
            raise ValueError(
                f"the images of a set must be of one shape: got {list(shape)}, "
                f"then {list(batch.shape[1:])}"
            )
        if len(batch):
            yield from batch.detach().float().split(most)


def to_levels(images: Tensor) -> Tensor:
    """[-1, 1] to whole 8-bit levels 0 to 255 (float32): as a file of the image would have it.

    >>> to_levels(torch.tensor([-1.0, 0.2, 1.0]))
    tensor([  0., 153., 255.])
    """
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round()


def optional(module: str, package: str, what: str) -> ModuleType:
    """Import a module of the extra `eval`; InputError says which package `what` misses.

    >>> optional("no_such_module", "no-such-package", "fid")
    Traceback (most recent call last):
    pgvae.errors.InputError: fid needs the package no-such-package: pip install 'pgvae[eval]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{what} needs the package {package}: pip install 'pgvae[eval]'"
        ) from error


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions in float32 on GPUs too, whatever a training around it has set."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
