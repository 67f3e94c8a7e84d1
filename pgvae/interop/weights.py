"""PyTorch files that others wrote, opened without trusting them: tensors and numbers only."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgvae.checks import require
from pgvae.errors import InputError

LEAST_TORCH = (2, 10)  # before it, a crafted file could corrupt memory in spite of weights_only


def load_weights(path: Path) -> Any:
    """The tensors (on the CPU), numbers and containers that `torch.save` wrote, old format or new.

    Nothing in the file is ever executed. InputError where there is no such file, it holds anything
    else, it is damaged, or this PyTorch is too old to open files of strangers.
    """
    require(
        torch.__version__ >= LEAST_TORCH,
        f"PyTorch {torch.__version__} cannot open {path} safely: upgrade to 2.10 or later",
    )
    require(path.is_file(), f"no such file: {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles: whatever matters is an error here
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        code = re.search(r"GLOBAL (\S{1,100})", str(error))
        raise InputError(
            f"{path} holds code or objects ({code[1]}), of which nothing was run: give a file of "
            "tensors and numbers"
            if code
            else f"{path} is truncated or no file of PyTorch: copy it again, or give another"
        ) from error


@dataclass(frozen=True)
class StateDict:
    """The tensors of one network in a file, without the prefix of DataParallel.

    path, name: the file, and what the network is called there.
    """

    path: Path
    name: str
    tensors: dict[str, Any]

    @classmethod
    def of(cls, path: Path, checkpoint: dict[str, Any], name: str) -> "StateDict":
        """The state dict `name` of a checkpoint; InputError where it has none."""
        tensors = checkpoint.get(name)
        require(isinstance(tensors, dict), f"{path} has no {name}: give a checkpoint that has one")
        return cls(path, name, {str(k).removeprefix("module."): v for k, v in tensors.items()})

    def get(self, name: str, dimensions: int) -> Tensor:
        """A tensor in float32 and in memory of its own.

        InputError unless it is there, of so many dimensions, and finite.
        """
        where = f"{self.path}: {self.name} has"
        tensor = self.tensors.get(name)
        require(isinstance(tensor, Tensor), f"{where} no {name}: give a complete checkpoint")
        usable = tensor.device.type == "cpu" and tensor.layout == torch.strided
        require(
            usable and tensor.is_floating_point() and tensor.ndim == dimensions,
            f"{where} a {name} of {tensor.dtype}, {list(tensor.shape)}: give a checkpoint where it "
            f"has {dimensions} dimensions of floats",
        )
        tensor = tensor.detach().to(torch.float32, copy=True)
        require(
            bool(tensor.isfinite().all()),
            f"{where} numbers in {name} that are not finite: give an earlier checkpoint",
        )
        return tensor
