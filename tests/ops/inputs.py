"""What the ops are given in tests: numbers, layouts, incoming gradients, shapes."""

import torch
from torch import Tensor


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same numbers for every dtype and device, but for rounding."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same numbers in another layout; what lies between them is NaN."""
    if layout == "contiguous":
        return x.contiguous()
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced":
        big = x.new_full([size + 2 for size in x.shape], float("nan"))
        inside = big[(slice(1, -1),) * x.dim()]
    else:
        assert layout == "channels of channels_last"
        n, c, h, w = x.shape
        inside = x.new_full((n, h, w, c + 3), float("nan"))[..., 1:-2].permute(0, 3, 1, 2)
    return inside.copy_(x)


LAYOUTS = ["contiguous", "channels_last", "sliced", "transposed", "channels of channels_last"]
INCOMING = ["like the output", "a scalar expanded", "the other format", "transposed", "sliced"]


def incoming(out: Tensor, kind: str, seed: int) -> Tensor:
    """A gradient for `out` in dtype and shape, but in a layout of its own.

    Its mean is not 0, so that sums of it do not cancel and relative errors mean something.
    """
    values = (randn(*out.shape, seed=seed) + 0.5).to(out)
    if kind == "a scalar expanded":
        return torch.tensor(0.75).to(out).expand(out.shape)
    if kind == "like the output" or out.dim() < 2:
        return values.as_strided(out.shape, out.stride()).copy_(values.clone())
    if kind == "the other format" and out.dim() == 4:
        was_contiguous = out.is_contiguous()
        return laid_out(values, "channels_last" if was_contiguous else "contiguous")
    return laid_out(values, "sliced" if kind == "sliced" else "transposed")


def images(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: str, kind: str
) -> list[Tensor]:
    """Inputs of an op on activations: x and what goes with it (a bias, weights, another image)."""
    n, c, h, w = shape
    x = laid_out(randn(*shape, seed=1).to(device, dtype), layout)
    if kind.startswith("bias"):
        of_bias = (
            torch.bfloat16 if kind == "bias in bf16" else torch.promote_types(dtype, torch.float32)
        )
        return [x, randn(c, seed=2).to(device, of_bias)]
    if "weight" in kind:
        weight = randn(48 if kind == "weight to 48" else 5, c, 3, 3, seed=2).to(device, dtype)
        return [x, laid_out(weight, layout if layout == "channels_last" else "contiguous")]
    if kind == "four":
        return [x, *(laid_out(randn(*shape, seed=s).to(x), layout) for s in (2, 3, 4))]
    new = laid_out((randn(n, c, 2 * h, 2 * w, seed=2) + 1).to(device, dtype), layout)
    return [
        x,
        new,
        torch.tensor(0.3, dtype=torch.promote_types(dtype, torch.float32), device=device),
    ]


def latents(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: str, kind: str
) -> list[Tensor]:
    """z, spread evenly in every dimension, so that no variance vanishes; or mu, logvar, noise."""
    n, d = shape
    if kind == "three":
        mu, logvar, noise = (randn(n, d, seed=s) for s in (1, 2, 3))
        if layout == "halves":
            pair = torch.cat([mu, logvar], dim=1).to(device, dtype)
            return [*pair.chunk(2, dim=1), noise.to(device, dtype)]
        return [laid_out(t.to(device, dtype), layout) for t in (mu, logvar, noise)]
    places = randn(n, d, seed=1).argsort(0).double() / max(n - 1, 1) * 2 - 1
    z = 0.7 + 0.5 * randn(d, seed=2) + (0.5 + randn(d, seed=3).abs()) * places
    return [laid_out(z.to(device, dtype), "sliced" if layout == "halves" else layout)]


IMAGE_SHAPES = [
    (0, 3, 3, 5),
    (3, 1, 3, 5),
    (1, 1, 2, 2),
    (3, 7, 3, 2),
    (1, 3, 7, 4),
    (3, 7, 8, 8),
    (1, 16, 3, 5),
    (3, 48, 7, 4),
    (1, 130, 3, 5),
    (3, 130, 8, 8),
    (1, 512, 7, 4),
    (1, 7, 65, 3),  # more pixels than a tile of the contiguous kernels
    (3, 48, 20, 20),  # enough for sums of several parts
]
FOR_CUDA = [  # a fast pixel norm for every number of channels
    *((0, 8, 2, 2), (2, 8, 3, 5), (1, 32, 2, 6)),
    (1, 1024, 12, 11),  # more partial sums than the last stage adds in one pass
    (1, 520, 2, 3),  # more channels than the fast pixel norm takes
]
ONE_PIXEL = [(3, 512, 1, 1), (1, 3, 1, 1), (2, 1, 1, 1)]
LATENT_SHAPES = [
    *((2, 3), (3, 7), (7, 1), (7, 16), (7, 48)),
    *((64, 130), (3, 512), (65, 512), (300, 600)),
]
