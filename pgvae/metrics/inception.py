"""The Inception v3 of the published FID: a network and a file of weights that fit each other.

Szegedy et al., 2016, as TensorFlow published it on 2015-12-05 and Heusel et al. (2017) used it.
It differs from the usual one: averages leave the padding out, the last block pools by maximum,
there are 1008 classes, and images are resized as TensorFlow 1 did.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae.checks import require
from pgvae.files import sha256_of

FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_SIDE = 299  # pixels

# Outputs of a convolution and its kernel; of two kernels, those of two convolutions side by side.
Layer = tuple[int | tuple[int, int], ...]
_FLAT, _TALL = (1, 7), (7, 1)
_FORK = ((1, 3), (3, 1))


def load_inception(weights: Path) -> nn.Module:
    """The network with the weights of the published file, which `weights` must be.

    InputError where it is not there or not that file, by its SHA-256.
    """
    expected = f"give {FILE} of the releases of pytorch-fid or torch-fidelity, SHA-256 {SHA256}"
    require(weights.is_file(), f"Inception weights {weights}: no such file; {expected}")
    found = sha256_of(weights)
    require(found == SHA256, f"Inception weights {weights}: SHA-256 is {found}; {expected}")
    network = Inception()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


def resize_as_tensorflow1(images: Tensor, side: int) -> Tensor:
    """Bilinear resizing of [N, C, H, W] to `side` pixels without half-pixel centres.

    Output pixel i lies at i * H / side of the input, and the last rows and columns are repeated
    beyond the border.

    >>> resize_as_tensorflow1(torch.tensor([[[[0.0, 10.0]]]]), 4)[0, 0, 0]
    tensor([ 0.,  5., 10., 10.])
    """
    for dim in (2, 3):
        size = images.shape[dim]
        places = torch.arange(side, dtype=torch.float32, device=images.device) * (size / side)
        below = places.long()
        share = (places - below).view(-1, 1) if dim == 2 else places - below
        above = (below + 1).clamp(max=size - 1)
        images = torch.lerp(images.index_select(dim, below), images.index_select(dim, above), share)
    return images


class Convolution(nn.Module):
    """Convolution, batch normalisation and ReLU. Padded to keep the size where `pad`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        pad: bool = True,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = tuple(side // 2 for side in sides) if pad else 0
        self.conv = nn.Conv2d(inputs, outputs, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H', W']."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, their outputs one after another.

    branches: the layers of each; "branch_pool" begins with `pool`. Where `halve`, the last
              layer of each has stride 2.
    """

    def __init__(
        self,
        inputs: int,
        branches: dict[str, list[Layer]],
        pool: Callable[[Tensor], Tensor],
        halve: bool = False,
    ) -> None:
        super().__init__()
        self._pool = pool
        self._steps: dict[str, list[list[str]]] = {}  # the modules of each layer of a branch
        for branch, layers in branches.items():
            self._steps[branch] = self._build(branch, inputs, layers, halve)

    def _build(self, branch: str, inputs: int, layers: list[Layer], halve: bool) -> list[list[str]]:
        steps = []
        for number, (outputs, *kernels) in enumerate(layers, 1):
            name = branch if len(layers) == 1 else f"{branch}_{number}"
            names = [name] if len(kernels) == 1 else [f"{name}a", f"{name}b"]
            shrinks = halve and number == len(layers)
            for module, kernel in zip(names, kernels, strict=True):
                made = Convolution(inputs, outputs, kernel, 2 if shrinks else 1, pad=not shrinks)
                self.add_module(module, made)
            steps.append(names)
            inputs = outputs
        return steps

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs of all branches, H, W] (or half of H, W)."""
        results = []
        for branch, steps in self._steps.items():
            y = self._pool(x) if branch == "branch_pool" else x
            for names in steps:
                y = torch.cat([self.get_submodule(name)(y) for name in names], dim=1)
            results.append(y)
        return torch.cat(results, dim=1)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _halving(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


def _block_a(inputs: int, pooled: int) -> Mixed:
    branches = {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
        "branch_pool": [(pooled, 1)],
    }
    return Mixed(inputs, branches, _average)


def _block_b(inputs: int) -> Mixed:
    branches = {
        "branch3x3": [(384, 3)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
        "branch_pool": [],
    }
    return Mixed(inputs, branches, _halving, halve=True)


def _block_c(inputs: int, width: int) -> Mixed:
    tall, flat = (width, _TALL), (width, _FLAT)
    branches = {
        "branch1x1": [(192, 1)],
        "branch7x7": [(width, 1), flat, (192, _TALL)],
        "branch7x7dbl": [(width, 1), tall, flat, tall, (192, _FLAT)],
        "branch_pool": [(192, 1)],
    }
    return Mixed(inputs, branches, _average)


def _block_d(inputs: int) -> Mixed:
    branches = {
        "branch3x3": [(192, 1), (320, 3)],
        "branch7x7x3": [(192, 1), (192, _FLAT), (192, _TALL), (192, 3)],
        "branch_pool": [],
    }
    return Mixed(inputs, branches, _halving, halve=True)


def _block_e(inputs: int, pool: Callable[[Tensor], Tensor]) -> Mixed:
    branches = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1), (384, *_FORK)],
        "branch3x3dbl": [(448, 1), (384, 3), (384, *_FORK)],
        "branch_pool": [(192, 1)],
    }
    return Mixed(inputs, branches, pool)


class Inception(nn.Module):
    """The network, with the names of the published file; `fc` is there for that alone."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2, pad=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, pad=False)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, _average)
        self.Mixed_7c = _block_e(2048, _maximum)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, levels: Tensor) -> Tensor:
        """Levels [N, 3, H, W] from 0 to 255 -> means of the last feature maps, [N, 2048]."""
        return self.features((resize_as_tensorflow1(levels, _SIDE) - 128) / 128)

    def features(self, x: Tensor) -> Tensor:
        """As `forward`, of images [N, 3, H, W] in [-1, 1) from 75 pixels on."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halving(x)))
        x = _halving(x)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean(dim=(2, 3))
