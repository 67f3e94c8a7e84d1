"""PIONEER's networks: parameter counts, and a forward pass written out."""

import json

import pytest
import torch
from small import in_use, leaky, mean2x2, opening, pixel_norm, randn, state_of, tiny_nets, unit, up2
from snapshots import join, make, split, written
from torch import Tensor
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.errors import InputError
from pgvae.nn import Encoder, Generator, parameter_count
from pgvae.snapshot import load_snapshot

# Active parameters of PIONEER's networks, G and E.
PIONEER_PARAMETERS = {
    64: (22_484_227, 24_254_464),
    128: (22_926_467, 25_139_200),
    256: (23_036_995, 25_360_384),
    1024: (23_071_507, 25_429_504),
}


def rgb(state: dict[str, Tensor], resolution: int, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f"rgb.{resolution}.weight"], state[f"rgb.{resolution}.bias"])


def expected_image(
    net, z: Tensor, alpha: float, norm: str = "pixel", order: str = "norm_act", fan_in: int = 16 * 6
) -> Tensor:
    """PIONEER's generator at 8 px in float64, from the weights of `net`."""
    state = {k: v.double() for k, v in state_of(net).items()}
    steps = (pixel_norm, leaky) if order == "norm_act" else (leaky, pixel_norm)

    def activated(name: str, x: Tensor) -> Tensor:
        x = x + state[f"{name}_bias"].view(1, -1, 1, 1)
        for step in steps if norm == "pixel" else (leaky,):
            x = step(x)
        return x

    def layer(name: str, x: Tensor) -> Tensor:
        return activated(name, F.conv2d(x, in_use(state[f"{name}.weight"], norm), padding=1))

    first = "blocks.4.first.weight" if norm == "pixel" else "blocks.4.first.kernel.weight"
    kernel = opening(state[first], norm, fan_in)
    x = activated("blocks.4.first", F.conv_transpose2d(z.double()[:, :, None, None], kernel))
    x = layer("blocks.4.second", x)
    old = rgb(state, 4, x) if alpha < 1 else None
    x = layer("blocks.8.second", layer("blocks.8.first", up2(x)))
    image = rgb(state, 8, x)
    return image if old is None else (1 - alpha) * up2(old) + alpha * image


def expected_code(net, images: Tensor, norm: str, alpha: float) -> Tensor:
    """PIONEER's encoder at 8 px in float64, before its head, from the weights of `net`."""
    state = {k: v.double() for k, v in state_of(net).items()}

    def conv(name: str, x: Tensor, padding: int) -> Tensor:
        weight = in_use(state[f"{name}.weight"], norm)
        return F.conv2d(x, weight, state[f"{name}_bias"], padding=padding)

    images = images.double()
    x = rgb(state, 8, images)
    x = leaky(conv("blocks.8.first", x, 1))
    x = mean2x2(leaky(conv("blocks.8.second", x, 1)))
    if alpha < 1:
        x = (1 - alpha) * rgb(state, 4, mean2x2(images)) + alpha * x
    x = leaky(conv("blocks.4.first", x, 1))
    return conv("blocks.4.second", x, 0).flatten(1)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_generator_is_pioneers_written_out(order, channels, alpha) -> None:
    net = tiny_nets(fading=alpha < 1, order=order, channels=channels).generator
    z = unit(4)
    image = net(z, alpha)
    assert image.shape == (4, channels, 8, 8)
    expected = expected_image(net, z, alpha, order=order)
    torch.testing.assert_close(image.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_a_generator_of_another_norm_has_no_pixel_norm(norm, alpha) -> None:
    net = tiny_nets(fading=alpha < 1, generator_norm=norm).generator
    z = unit(4)
    expected = expected_image(net, z, alpha, norm)
    torch.testing.assert_close(net(z, alpha).double(), expected, rtol=1e-4, atol=1e-5)


def test_latents_of_a_gaussian_prior_are_expected_to_have_length_sqrt_d() -> None:
    net = tiny_nets(head="gaussian").generator
    z = randn(4, 6)
    expected = expected_image(net, z, 1.0, fan_in=6)
    torch.testing.assert_close(net(z).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("norm", ["spectral", "equalized", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_is_pioneers_written_out(norm, channels, alpha) -> None:
    net = tiny_nets(fading=alpha < 1, encoder_norm=norm, channels=channels).encoder
    images = randn(4, channels, 8, 8)
    posterior = net(images, alpha)
    expected = F.normalize(leaky(expected_code(net, images, norm, alpha)))
    torch.testing.assert_close(posterior.mean.double(), expected, rtol=1e-4, atol=1e-5)
    assert posterior.logvar is None


def test_the_last_activation_of_the_encoder_can_be_off() -> None:
    images = randn(4, 3, 8, 8)
    net = tiny_nets(last_activation=False).encoder
    expected = F.normalize(expected_code(net, images, "spectral", 1.0))
    torch.testing.assert_close(net(images).mean.double(), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, F.normalize(leaky(expected)), atol=0.1)


def test_a_gaussian_head_has_no_last_activation_to_switch_off() -> None:
    images = randn(4, 3, 8, 8)
    on, off = (tiny_nets(head="gaussian", last_activation=a).encoder for a in (True, False))
    assert torch.equal(on(images).mean, off(images).mean)


def test_a_snapshot_that_says_nothing_of_the_last_activation_has_it(tmp_path) -> None:
    path = written(tmp_path / "old.safetensors")
    header, data = split(path)
    about = json.loads(header["__metadata__"]["pgvae"])
    assert about["model"].pop("last_activation") is True
    del about["sha256"]  # which is newer
    header["__metadata__"]["pgvae"] = json.dumps(about)
    snapshot = load_snapshot(join(path, header, data))
    assert snapshot.config.last_activation is True
    images = randn(4, 3, 8, 8)
    assert torch.equal(snapshot.nets.encoder(images).mean, make().nets.encoder(images).mean)


@pytest.mark.parametrize("value", ["no", 0, None])
def test_the_last_activation_is_on_or_off(value) -> None:
    with pytest.raises(InputError, match=f"last_activation is {value!r}: use true or false"):
        ModelConfig(last_activation=value)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_a_gaussian_head_gives_mean_and_log_variance(alpha) -> None:
    net = tiny_nets(fading=alpha < 1, head="gaussian", encoder_norm="equalized").encoder
    images = randn(4, 3, 8, 8)
    mean, logvar = net(images, alpha)
    assert mean.shape == logvar.shape == (4, 6)
    expected_mean, expected_logvar = expected_code(net, images, "equalized", alpha).chunk(2, 1)
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logvar.double(), expected_logvar, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resolution", PIONEER_PARAMETERS)
@pytest.mark.parametrize("final", ["current", "1024"])
def test_active_parameters_are_pioneers(resolution, final) -> None:
    config = ModelConfig(resolution=resolution if final == "current" else 1024)
    with torch.device("meta"):
        counts = tuple(parameter_count(net(config, resolution)) for net in (Generator, Encoder))
    assert counts == PIONEER_PARAMETERS[resolution]


@pytest.mark.parametrize("which", ["encoder_norm", "generator_norm"])
def test_batch_norm_is_refused(which) -> None:
    with pytest.raises(InputError, match="batch norm is for arch residual"):
        ModelConfig(arch="pggan", **{which: "batch"})
