"""Small networks, and the steps of a forward pass written out in plain PyTorch."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.nn import build_nets
from pgvae.nn.layers import SpectralWeight
from pgvae.types import Nets

ARCHS = ("pggan", "residual")
ENCODER_NORMS = {
    "pggan": ("spectral", "equalized", "none"),
    "residual": ("spectral", "equalized", "none", "batch"),
}
GENERATOR_NORMS = {
    "pggan": ("pixel", "spectral", "none"),
    "residual": ("pixel", "spectral", "none", "batch"),
}

# Widths differ between 4, 8 and 16 px: 12, 8 and 4.
TINY = {"resolution": 16, "latent_dim": 6, "fmap_base": 32, "fmap_max": 12}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(count: int, d: int = 6, seed: int = 0) -> Tensor:
    return F.normalize(randn(count, d, seed=seed))


def tiny_nets(resolution: int = 8, fading: bool = False, seed: int = 0, **settings) -> Nets:
    """Small networks whose biases are not zero and whose spectral norms are exact."""
    nets = build_nets(ModelConfig(**{**TINY, **settings}), resolution, fading=fading, seed=seed)
    for seed_of_biases, net in ((1, nets.generator), (2, nets.encoder)):
        give_biases(net, seed_of_biases)
        converge(net)
    return nets


def give_biases(net: nn.Module, seed: int) -> None:
    """Random biases, and random factors of batch norm: all that starts at 0 or 1."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.3)
            elif parameter.ndim == 1:
                parameter.copy_(1 + torch.randn(parameter.shape, generator=rng) * 0.3)


def converge(net: nn.Module, iterations: int = 300) -> None:
    """Power iterations until every spectral norm is exact."""
    for module in net.modules():
        if isinstance(module, SpectralWeight):
            for _ in range(iterations):
                module.iterate()


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


def vectors_of(net: nn.Module) -> dict[str, Tensor]:
    """The singular vectors of every spectral norm."""
    return {k: v for k, v in state_of(net).items() if k.endswith((".u", ".v"))}


# --- steps of a forward pass


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * 0.2)


def pixel_norm(x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(dim=1, keepdim=True) + 1e-8).sqrt()


def up2(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def mean2x2(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def in_use(weight: Tensor, norm: str, gain: float = math.sqrt(2)) -> Tensor:
    """The kernel [O, I, K, K] that a network of this norm uses for a stored weight."""
    if norm == "spectral":
        return weight / torch.linalg.matrix_norm(weight.flatten(1), 2)
    if norm in ("equalized", "pixel"):
        return weight * (gain / math.sqrt(weight[0].numel()))
    return weight


def opening(weight: Tensor, norm: str, fan_in: int) -> Tensor:
    """The generator's first kernel [d, C, 4, 4], or of another base, for `conv_transpose2d`."""
    if norm == "pixel":
        return weight * math.sqrt(2 / fan_in)
    kernel = in_use(weight, norm).transpose(0, 1)
    unit_vectors = fan_in == kernel[0, 0].numel() * len(kernel) and norm != "spectral"
    return kernel * math.sqrt(len(kernel)) if unit_vectors else kernel
