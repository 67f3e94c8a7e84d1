"""The SHA-256 of a file's tensors and of what it says of them, kept in its header."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pgvae.errors import CorruptFileError
from pgvae.files import atomic_path, require_utf8

_DIGEST = "sha256"


def digest_of(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of `about` as JSON, and of names, types, shapes and bytes in the order of the names.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> digest_of({"a": zero, "b": one}, {}) == digest_of({"b": one, "a": zero}, {})
    True
    >>> digest_of({"a": zero}, {}) == digest_of({"a": zero.reshape(1, 1)}, {})
    False
    """
    digest = hashlib.sha256(json.dumps(about).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), [*tensor.shape]]).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_sealed(path: Path, tensors: dict[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, and JSON about them with their digest, atomically.

    ResourceError when the disk is full.
    """
    said = json.dumps({**about, _DIGEST: digest_of(tensors, about)})
    with atomic_path(path, needs=sum(tensor.nbytes for tensor in tensors.values())) as aside:
        write_tensors(aside, tensors, {"pgvae": said})


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """A safetensors file; OSError where it cannot be written, InputError by its name."""
    require_utf8(path)
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        said = re.search(r"os error (\d+)", str(error))
        number = int(said[1]) if said else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error


def is_sealed(path: Path) -> bool:
    """Whether a file that can be read has a digest; those of before have none."""
    with safe_open(path, framework="pt") as file:
        return _DIGEST in json.loads(file.metadata()["pgvae"])


def require_sealed(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Raise CorruptFileError unless all is as it was written; files of before pass.

    >>> require_sealed(Path("a"), {}, {"sha256": "0"})
    Traceback (most recent call last):
    pgvae.errors.CorruptFileError: a is damaged: its SHA-256 is not the one that was written with \
it; use another copy, or make it again
    """
    rest = {key: value for key, value in about.items() if key != _DIGEST}
    if _DIGEST in about and about[_DIGEST] != digest_of(tensors, rest):
        raise CorruptFileError(
            f"{path} is damaged: its SHA-256 is not the one that was written with it; use another "
            "copy, or make it again"
        )
