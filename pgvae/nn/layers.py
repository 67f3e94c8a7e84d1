"""Weight layers of the growing networks. Biases are added by the fused op that follows."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.ops.held import hold as as_held
from pgvae.types import finest

Taps = tuple[int, int]  # rows and columns of a kernel
_START = 0.01  # see `SpectralWeight`


def matrix_of(weight: Tensor) -> Tensor:
    """A convolution weight [O, I, H, W] as [O, H * W * I]: no copy in channels_last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


class _Weight(nn.Module):
    """Calling it gives the weight [O, I, K, K]: what it `made` anew, or the one that is held."""

    held: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("held", None, persistent=False)

    def forward(self) -> Tensor:
        return self.made() if self.held is None else self.held

    def made(self) -> Tensor:
        raise NotImplementedError


@torch.inference_mode(False)
@torch.no_grad()
def hold(net: nn.Module) -> None:
    """Have the weights of a network that is not trained any more made once: for few images.

    Takes as much memory as the weights again, and up to eleven times that in wide layers.
    """
    for module in net.modules():
        if isinstance(module, _Weight):
            module.held = as_held(module.made().detach())


class EqualizedWeight(_Weight):
    """Convolution weight under the equalized learning rate (PGGAN, section 4.1).

    Stored from N(0, 1) and multiplied at run time by He's constant sqrt(2 / fan_in), so that
    Adam moves every layer at the same relative speed. Calling it gives the weight [O, I, K, K].
    """

    def __init__(self, inputs: int, outputs: int, taps: Taps, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *taps))
        self.scale = gain / math.sqrt(inputs * math.prod(taps))

    def made(self) -> Tensor:
        return self.weight * self.scale


class SpectralWeight(_Weight):
    """Convolution weight divided by its largest singular value (Miyato et al., 2018, eq. 8).

    The singular vectors u and v are buffers, saved with the weights and moved by `iterate`
    alone, so a forward pass never changes them: several passes may share one backward, and
    evaluation is repeatable. Calling it gives W / sigma [O, I, K, K], sigma = u' W v.

    W's scale changes nothing but how far an update turns it. Adam's first one at rate r has up to
    r sqrt(O I K K) of spectral norm, as all signs may agree. So sigma starts at `_START` of that
    root at least, which is above He's (2015) from 64 maps on: a tenth of sigma at 1e-3, where
    512 maps had three quarters of it.
    """

    def __init__(self, inputs: int, outputs: int, taps: Taps) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *taps))
        fan_in = inputs * math.prod(taps)
        # W from N(0, 1) has a spectral norm of sqrt(O) + sqrt(I K K), about.
        steady = _START * math.sqrt(outputs * fan_in) / (math.sqrt(outputs) + math.sqrt(fan_in))
        nn.init.normal_(self.weight, std=max(math.sqrt(2 / fan_in), steady))
        u = torch.randn(outputs)
        self.register_buffer("u", u / u.norm())
        self.register_buffer("v", torch.zeros(fan_in))
        for _ in range(10):  # sigma is right to a few per cent before the first step
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One power iteration: v <- W'u / |W'u|, u <- W v / |W v|."""
        matrix = matrix_of(self.weight)  # [O, K * K * I]
        self.v.copy_(F.normalize(matrix.t() @ self.u, dim=0))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0))

    def made(self) -> Tensor:
        with torch.autocast(self.weight.device.type, enabled=False):
            return self.weight / torch.dot(self.u, matrix_of(self.weight) @ self.v)


class PlainWeight(_Weight):
    """Convolution weight from N(0, gain^2 / fan_in), as He et al. (2015) start theirs."""

    def __init__(self, inputs: int, outputs: int, taps: Taps, gain: float) -> None:
        super().__init__()
        std = gain / math.sqrt(inputs * math.prod(taps))
        self.weight = nn.Parameter(std * torch.randn(outputs, inputs, *taps))

    def made(self) -> Tensor:
        return self.weight


def weight_of(
    norm: str, inputs: int, outputs: int, kernel: int | Taps, gain: float = math.sqrt(2)
) -> nn.Module:
    """The weight [O, I, K, K] that goes with a network's norm; calling it gives the weight.

    "spectral" has no gain; the equalized learning rate goes with "equalized" and "pixel".
    kernel: K, or rows and columns.
    """
    taps = (kernel, kernel) if isinstance(kernel, int) else kernel
    if norm == "spectral":
        return SpectralWeight(inputs, outputs, taps)
    if norm in ("equalized", "pixel"):
        return EqualizedWeight(inputs, outputs, taps, gain)
    return PlainWeight(inputs, outputs, taps, gain)


class LatentToBase(nn.Module):
    """The generator's first layer: a 4x4 convolution with padding 3 on the 1x1 latent.

    On one pixel that is a matrix product, [N, d] -> [N, C, 4, 4]. Under pixel norm its weight is
    [d, C, 4, 4], indexed by output pixel (a convolution's kernel, transposed and flipped), with an
    equalized learning rate; He's constant counts d inputs for N(0, I) latents, and PIONEER the
    whole kernel, 16 d, for its unit vectors. Else it is `weight_of` the norm, [C, d, 4, 4],
    scaled from the 16 d inputs of a convolution to the d that there are; unit vectors are scaled
    to variance 1 then, but under spectral norm. With `unit_variance` they are under every norm,
    and He's constant counts d inputs. Images that are not square have their base in the place of
    4x4, and its pixels in that of 16.
    """

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        d, self.base = config.latent_dim, config.base
        pixels = math.prod(self.base)
        self.kernel: nn.Module | None = None
        unit_vectors = config.head == "sphere" and not config.unit_variance
        to_unit = config.unit_variance
        if config.generator_norm == "pixel":
            self.weight = nn.Parameter(torch.randn(d, outputs, *self.base))
            he = math.sqrt(2 / (pixels * d if unit_vectors else d))
            self.scale = he * (math.sqrt(d) if to_unit else 1)
        else:
            gain = math.sqrt(pixels) * math.sqrt(2)
            self.kernel = weight_of(config.generator_norm, d, outputs, self.base, gain)
            to_unit |= config.head == "sphere" and config.generator_norm != "spectral"
            self.scale = math.sqrt(d) if to_unit else 1.0

    def forward(self, latents: Tensor) -> Tensor:
        weight = self.weight if self.kernel is None else self.kernel().transpose(0, 1)
        pixels = (latents * self.scale) @ matrix_of(weight)  # [N, 4 * 4 * C]
        return pixels.unflatten(1, (*self.base, -1)).permute(0, 3, 1, 2)


class _Blend(torch.autograd.Function):
    """`torch.lerp` with a weight on the device, and as exact a gradient as for a Python number."""

    @staticmethod
    def forward(ctx, old: Tensor, new: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(alpha)
        wide = torch.promote_types(new.dtype, torch.float32)
        return torch.lerp(old.to(wide), new.to(wide), alpha.to(wide)).to(new.dtype)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor, None]:
        (alpha,) = ctx.saved_tensors
        return g * (1 - alpha), g * alpha, None


def blend(old: Tensor, new: Tensor, alpha: float | Tensor) -> Tensor:
    """Fade-in of features: (1 - alpha) old + alpha new, both of one shape; alpha a scalar."""
    alpha = torch.as_tensor(alpha, dtype=finest(new.device), device=new.device)
    return _Blend.apply(old, new, alpha)
