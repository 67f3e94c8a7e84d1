"""IntroVAE's networks: residual blocks and forward passes written out."""

import pytest
import torch
from small import (
    ENCODER_NORMS,
    GENERATOR_NORMS,
    converge,
    give_biases,
    in_use,
    mean2x2,
    opening,
    pixel_norm,
    randn,
    state_of,
    tiny_nets,
)
from torch import Tensor
from torch.nn import functional as F

from pgvae.nn.growing import seeded
from pgvae.nn.residual import ResidualBlock

NORMS = ("spectral", "equalized", "pixel", "none", "batch")


def activated(state: dict[str, Tensor], name: str, x: Tensor, norm: str) -> Tensor:
    if norm == "batch":
        factor, bias = (state[f"{name}.batch_norm.{which}"] for which in ("weight", "bias"))
        x = F.batch_norm(x, None, None, factor, bias, training=True)
        return F.leaky_relu(x, 0.2)
    x = F.leaky_relu(x + state[f"{name}.bias"].view(1, -1, 1, 1), 0.2)
    return pixel_norm(x) if norm == "pixel" else x


def residual(state: dict[str, Tensor], name: str, x: Tensor, norm: str, up: bool = False) -> Tensor:
    """A residual block, from `state`; a gain of 1 where no activation follows."""
    x = F.interpolate(x, scale_factor=2) if up else x
    branch = F.conv2d(x, in_use(state[f"{name}first.weight"], norm), padding=1)
    branch = activated(state, f"{name}first_activation", branch, norm)
    branch = F.conv2d(branch, in_use(state[f"{name}second.weight"], norm, 1.0), padding=1)
    if f"{name}shortcut.weight" in state:
        x = F.conv2d(x, in_use(state[f"{name}shortcut.weight"], norm, 1.0))
    return activated(state, f"{name}activation", x + branch, norm)


def expected_image(net, z: Tensor, norm: str, alpha: float) -> Tensor:
    """IntroVAE's generator at 16 px in float64, from the weights of `net`; z from N(0, I)."""
    state = {k: v.double() for k, v in state_of(net).items()}

    def rgb(resolution: int, x: Tensor) -> Tensor:
        weight, bias = (state[f"rgb.{resolution}.{which}"] for which in ("weight", "bias"))
        return F.conv2d(x, weight, bias, padding=2)

    first = "blocks.4.first.weight" if norm == "pixel" else "blocks.4.first.kernel.weight"
    kernel = opening(state[first], norm, fan_in=z.shape[1])
    x = F.conv_transpose2d(z.double()[:, :, None, None], kernel)
    x = residual(
        state, "blocks.4.residual.", activated(state, "blocks.4.activation", x, norm), norm
    )
    x = residual(state, "blocks.8.", x, norm, up=True)
    image = rgb(16, residual(state, "blocks.16.", x, norm, up=True))
    if alpha == 1:
        return image
    return (1 - alpha) * F.interpolate(rgb(8, x), scale_factor=2) + alpha * image


def expected_code(net, images: Tensor, norm: str, alpha: float) -> Tensor:
    """IntroVAE's encoder at 16 px in float64, before its head, from the weights of `net`."""
    state = {k: v.double() for k, v in state_of(net).items()}

    def rgb(resolution: int, x: Tensor) -> Tensor:
        x = F.conv2d(x, state[f"rgb.{resolution}.0.weight"], padding=2)
        if f"rgb.{resolution}.0.bias" in state:
            x = x + state[f"rgb.{resolution}.0.bias"].view(1, -1, 1, 1)
        return activated(state, f"rgb.{resolution}.1", x, norm)

    images = images.double()
    x = residual(state, "blocks.16.residual.", mean2x2(rgb(16, images)), norm)
    if alpha < 1:
        x = (1 - alpha) * rgb(8, mean2x2(images)) + alpha * x
    x = residual(state, "blocks.8.residual.", mean2x2(x), norm)
    weight = in_use(state["blocks.4.weight.weight"], norm, 1.0)
    return F.conv2d(x, weight, state["blocks.4.bias"]).flatten(1)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("outputs", [5, 7])
@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_block_is_introvaes_written_out(norm, outputs, up) -> None:
    with seeded(0):
        block = ResidualBlock(norm, 5, outputs, up)
    give_biases(block, 1)
    converge(block)
    assert (block.shortcut is None) == (outputs == 5)
    x = randn(3, 5, 8, 8)
    expected = residual(
        {k: v.double() for k, v in state_of(block).items()}, "", x.double(), norm, up
    )
    assert expected.shape == (3, outputs, 16 if up else 8, 16 if up else 8)
    torch.testing.assert_close(block(x).double(), expected, rtol=1e-4, atol=1e-5)


# With at most 12 features every block of the encoder has a shortcut, with 8 one has none.
@pytest.mark.parametrize(
    ("alpha", "channels", "fmap_max"), [(0.0, 3, 8), (0.3, 1, 12), (1.0, 3, 8)]
)
@pytest.mark.parametrize("norm", GENERATOR_NORMS["residual"])
def test_the_generator_is_introvaes_written_out(norm, alpha, channels, fmap_max) -> None:
    net = tiny_nets(
        16,
        fading=alpha < 1,
        arch="residual",
        head="gaussian",
        generator_norm=norm,
        channels=channels,
        fmap_max=fmap_max,
    ).generator
    z = randn(4, 6)
    image = net(z, alpha)
    assert image.shape == (4, channels, 16, 16)
    expected = expected_image(net, z, norm, alpha)
    torch.testing.assert_close(image.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("alpha", "channels", "fmap_max"), [(0.0, 3, 8), (0.3, 1, 12), (1.0, 3, 8)]
)
@pytest.mark.parametrize("norm", ENCODER_NORMS["residual"])
@pytest.mark.parametrize("head", ["sphere", "gaussian"])
def test_the_encoder_is_introvaes_written_out(head, norm, alpha, channels, fmap_max) -> None:
    net = tiny_nets(
        16,
        fading=alpha < 1,
        arch="residual",
        head=head,
        encoder_norm=norm,
        channels=channels,
        fmap_max=fmap_max,
    ).encoder
    images = randn(4, channels, 16, 16)
    posterior = net(images, alpha)
    code = expected_code(net, images, norm, alpha)
    if head == "sphere":
        mean, logvar = F.normalize(code), None
    else:
        mean, logvar = code.chunk(2, dim=1)
        torch.testing.assert_close(posterior.logvar.double(), logvar, rtol=1e-4, atol=1e-5)
    assert (posterior.logvar is None) == (logvar is None)
    torch.testing.assert_close(posterior.mean.double(), mean, rtol=1e-4, atol=1e-5)
