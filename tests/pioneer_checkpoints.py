"""PIONEER's checkpoints in small, and its networks written out in float64 from their tensors."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

STAGES = 9
# Number of a block's second convolution, and how a weight is called, by the generator's norm.
SECOND = {"pixel": 3, "spectral": 2, "none": 2}
WEIGHT = {"pixel": "conv.weight_orig", "spectral": "conv.weight_orig", "none": "weight"}
BIAS = {"pixel": "conv.bias", "spectral": "conv.bias", "none": "bias"}


def widths(nz: int) -> list[int]:
    """Feature maps at 4, 8, ..., 1024 px: 512 up to 32 px, then half as many each time."""
    return [nz // max(1, 2 ** (stage - 3)) for stage in range(STAGES)]


@dataclass
class Pioneer:
    """A checkpoint, the vectors of its spectral norms (None: exact norms), and what it computes."""

    content: dict[str, Any]
    norm: str
    vectors: list[Tensor] | None = None
    last_activation: bool = True
    prefix: str = field(default="module.", kw_only=True)

    def write(self, path: Path, **how: Any) -> Path:
        """The state file, and with vectors the file beside it."""
        torch.save(self.content, path, **how)
        if self.vectors is not None:
            torch.save(self.vectors, path.with_name(path.name.replace("_state", "_SNU")), **how)
        return path

    def images(self, z: Tensor, part: str = "G_running_state_dict") -> Tensor:
        """Latents [N, nz] to images [N, 3, R, R], not clamped, in float64."""
        phase, alpha, second = self.content["phase"], self.content["alpha"], SECOND[self.norm]
        x = z.double()[:, :, None, None]
        for stage in range(phase + 1):
            up = F.interpolate(x, scale_factor=2) if stage else x
            x = self._activated(self._conv(part, stage, 0, up, 1 if stage else 3, self.norm))
            x = self._activated(self._conv(part, stage, second, x, 1, self.norm))
        image = self._rgb(part, f"to_rgb.{phase}", x)
        if phase > 0 and 0 <= alpha < 1:
            image = (1 - alpha) * self._rgb(part, f"to_rgb.{phase - 1}", up) + alpha * image
        return image

    def codes(self, images: Tensor) -> Tensor:
        """Images [N, 3, R, R] to unit vectors [N, nz], in float64."""
        part, alpha = "D_state_dict", self.content["alpha"]
        images = images.double()
        newest = STAGES - 1 - self.content["phase"]
        x = self._rgb(part, f"from_rgb.{newest}", images)
        for index in range(newest, STAGES):
            last = index == STAGES - 1
            x = F.leaky_relu(self._conv(part, index, 0, x, 1, "spectral"), 0.2)
            x = self._conv(part, index, 2, x, 0 if last else 1, "spectral")
            if not last or self.last_activation:
                x = F.leaky_relu(x, 0.2)
            if not last:
                x = F.avg_pool2d(x, 2)
                if index == newest and 0 <= alpha < 1:
                    old = self._rgb(part, f"from_rgb.{index + 1}", F.avg_pool2d(images, 2))
                    x = (1 - alpha) * old + alpha * x
        x = x.flatten(1)
        return x / x.norm(dim=1, keepdim=True)

    def _tensor(self, part: str, name: str) -> Tensor:
        return self.content[part][self.prefix + name].double()

    def _rgb(self, part: str, name: str, x: Tensor) -> Tensor:
        weight, bias = (self._tensor(part, f"{name}.{kind}") for kind in ("weight", "bias"))
        return F.conv2d(x, weight, bias)

    def _conv(
        self, part: str, stage: int, number: int, x: Tensor, padding: int, norm: str
    ) -> Tensor:
        name = f"progression.{stage}.conv.{number}"
        weight = self._tensor(part, f"{name}.{WEIGHT[norm]}")
        if norm == "pixel":
            weight = weight * math.sqrt(2 / weight[0].numel())
        elif norm == "spectral":
            weight = weight / self._spectral_norm(part, stage, number, weight.flatten(1))
        return F.conv2d(x, weight, self._tensor(part, f"{name}.{BIAS[norm]}"), padding=padding)

    def _activated(self, x: Tensor) -> Tensor:
        if self.norm == "pixel":
            x = x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)
        return F.leaky_relu(x, 0.2)

    def _spectral_norm(self, part: str, stage: int, number: int, matrix: Tensor) -> Tensor:
        if self.vectors is None:
            return torch.linalg.matrix_norm(matrix, 2)
        before = {"G_state_dict": 0, "G_running_state_dict": 1, "D_state_dict": 2}[part]
        if self.norm != "spectral":
            before = 0
        u = self.vectors[18 * before + 2 * stage + number // 2].double()  # [O, 1]
        v = matrix.t() @ u
        v = v / v.norm()
        u = matrix @ v
        u = u / u.norm()
        return (u.t() @ matrix @ v).squeeze()


def make(
    phase: int,
    alpha: float = 1.0,
    norm: str = "pixel",
    *,
    nz: int = 64,
    vectors: bool = False,
    last_activation: bool = True,
    prefix: str = "module.",
) -> Pioneer:
    """A checkpoint with random weights, under which images and codes differ from one another."""
    rng = torch.Generator().manual_seed(100 * phase + nz)
    parts = {
        "G_state_dict": _generator(nz, norm, rng),
        "D_state_dict": _encoder(nz, rng),
        "G_running_state_dict": _generator(nz, norm, rng),
    }
    content = {
        **{part: {prefix + k: v for k, v in state.items()} for part, state in parts.items()},
        "optimizerD": _optimizer(),
        "optimizerG": _optimizer(),
        "iteration": 604_000,
        "phase": phase,
        "alpha": alpha,
    }
    starts = _vectors(nz, norm == "spectral", rng) if vectors else None
    pioneer = Pioneer(content, norm, starts, last_activation, prefix=prefix)
    # without pixel norm a signal fades from layer to layer: make up for it
    loudness = 1 / pioneer.images(unit_vectors(1, nz)).abs().max().item()
    for part in ("G_state_dict", "G_running_state_dict"):
        for stage in range(STAGES):
            content[part][f"{prefix}to_rgb.{stage}.weight"] *= loudness
            content[part][f"{prefix}to_rgb.{stage}.bias"] += 0.1 * _randn(rng, 3)
    return pioneer


def _generator(nz: int, norm: str, rng: torch.Generator) -> dict[str, Tensor]:
    state = {"label_embed.weight": _randn(rng, 1, 1)}
    inputs = nz
    for stage, outputs in enumerate(widths(nz)):
        for number, channels in ((0, inputs), (SECOND[norm], outputs)):
            kernel = 4 if stage == number == 0 else 3
            name = f"progression.{stage}.conv.{number}"
            weight = _weight(rng, norm, outputs, channels, kernel)
            if norm == "none" and stage == number == 0:
                weight = weight * math.sqrt(nz)  # the latents are unit vectors
            state[f"{name}.{WEIGHT[norm]}"] = weight
            size = 0.01 * 0.5**stage if norm == "spectral" else 0.1  # signals fade there
            state[f"{name}.{BIAS[norm]}"] = size * _randn(rng, outputs)
        state[f"to_rgb.{stage}.weight"] = _randn(rng, 3, outputs, 1, 1)
        state[f"to_rgb.{stage}.bias"] = torch.zeros(3)
        inputs = outputs
    return state


def _encoder(nz: int, rng: torch.Generator) -> dict[str, Tensor]:
    state = {}
    sizes = [*reversed(widths(nz)), nz]
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        last = index == STAGES - 1
        for number, channels in ((0, inputs), (2, outputs)):
            name = f"progression.{index}.conv.{number}.conv"
            kernel = 4 if last and number else 3
            state[f"{name}.weight_orig"] = _weight(rng, "spectral", outputs, channels, kernel)
            state[f"{name}.bias"] = 0.005 * _randn(rng, outputs)
        state[f"from_rgb.{index}.weight"] = 3 * _randn(rng, inputs, 3, 1, 1)
        state[f"from_rgb.{index}.bias"] = 0.1 * _randn(rng, inputs)
    return state


def _weight(rng: torch.Generator, norm: str, outputs: int, inputs: int, kernel: int) -> Tensor:
    """As PIONEER draws it; under spectral norm with singular values close to one another."""
    he = math.sqrt(2 / (inputs * kernel**2))
    weight = _randn(rng, outputs, inputs, kernel, kernel)
    if norm == "pixel":
        return weight
    if norm == "none":
        return he * weight
    rows = torch.linalg.qr(weight.flatten(1).t())[0].t()  # orthonormal, [O, I * K * K]
    rows = torch.linspace(1.0, 0.8, outputs)[:, None] * rows
    return rows.reshape(weight.shape).contiguous()


def _vectors(nz: int, generator: bool, rng: torch.Generator) -> list[Tensor]:
    """As Balanced PIONEER draws and orders them: generator's, average's, encoder's."""
    ours = [0.1 * _randn(rng, n, 1) for _ in range(2) for n in widths(nz) for _ in range(2)]
    outputs = [*reversed(widths(nz)), nz][1:]
    theirs = [0.1 * _randn(rng, n, 1) for n in outputs for _ in range(2)]
    return (ours if generator else []) + theirs


def _optimizer() -> dict[str, Any]:
    """The state dict of an Adam, keyed by addresses as old versions of PyTorch do."""
    state = {140_512_345_678_901: {"step": 3, "exp_avg": torch.zeros(2)}}
    group = {"lr": 0.001, "betas": (0.0, 0.99), "amsgrad": False, "params": list(state)}
    return {"state": state, "param_groups": [group]}


def _randn(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng)


def unit_vectors(count: int, nz: int = 64) -> Tensor:
    return F.normalize(_randn(torch.Generator().manual_seed(5), count, nz))


def smooth_images(count: int, side: int) -> Tensor:
    """Random images [N, 3, R, R] in [-1, 1] of four by four colours."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(6)) * 2 - 1
    return F.interpolate(coarse, size=(side, side))
