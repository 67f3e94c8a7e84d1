"""Networks of images that are not square: the same layers, from another base."""

import json

import pytest
import torch
from small import ARCHS, leaky, mean2x2, randn, tiny_nets, unit, up2
from test_pggan import expected_code as pggan_code
from test_pggan import expected_image as pggan_image
from test_residual import expected_code as residual_code
from test_residual import expected_image as residual_image
from torch.nn import functional as F

from pgvae import ops
from pgvae.config import ModelConfig, from_dict
from pgvae.nn import build_nets, parameter_count
from pgvae.sizes import size_at

BASES = [(3, 4), (2, 4), (4, 3), (4, 2)]
of_each_base = pytest.mark.parametrize("base", BASES)


@of_each_base
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_pggan_networks_are_their_layers_written_out(base, alpha) -> None:
    nets = tiny_nets(fading=alpha < 1, base=base)
    z, images = unit(4), randn(4, 3, *size_at(base, 8))
    made = nets.generator(z, alpha)
    assert made.shape == images.shape
    expected = pggan_image(nets.generator, z, alpha, fan_in=base[0] * base[1] * 6)
    torch.testing.assert_close(made.double(), expected, rtol=1e-4, atol=1e-5)
    code = nets.encoder(images, alpha).mean
    expected = F.normalize(leaky(pggan_code(nets.encoder, images, "spectral", alpha)))
    torch.testing.assert_close(code.double(), expected, rtol=1e-4, atol=1e-5)


@of_each_base
@pytest.mark.parametrize("norm", ["none", "spectral"])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_residual_networks_are_their_layers_written_out(base, norm, alpha) -> None:
    settings = {"arch": "residual", "head": "gaussian", "base": base}
    nets = tiny_nets(16, fading=alpha < 1, encoder_norm=norm, generator_norm=norm, **settings)
    z, images = randn(4, 6), randn(4, 3, *size_at(base, 16))
    made = nets.generator(z, alpha)
    assert made.shape == images.shape
    expected = residual_image(nets.generator, z, norm, alpha)
    torch.testing.assert_close(made.double(), expected, rtol=1e-4, atol=1e-5)
    mean, logvar = residual_code(nets.encoder, images, norm, alpha).chunk(2, dim=1)
    found = nets.encoder(images, alpha)
    torch.testing.assert_close(found.mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logvar.double(), logvar, rtol=1e-4, atol=1e-5)


@of_each_base
@pytest.mark.parametrize("arch", ARCHS)
def test_just_grown_ones_show_and_see_the_stage_before(arch, base) -> None:
    nets = tiny_nets(arch=arch, base=base)
    z, images = unit(4), randn(4, 3, *size_at(base, 16))
    made, code = nets.generator(z), nets.encoder(mean2x2(images)).mean
    for net in (nets.generator, nets.encoder):
        net.grow(seed=5)
    torch.testing.assert_close(nets.generator(z, 0.0), up2(made), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(nets.encoder(images, 0.0).mean, code, rtol=1e-5, atol=1e-6)


@of_each_base
def test_native_ops_and_the_reference_agree_with_their_gradients(base) -> None:
    found = []
    for impl in ("auto", "reference"):
        nets = tiny_nets(16, base=base, fmap_base=256, fmap_max=16)
        with ops.using(impl):
            code = nets.encoder(nets.generator(unit(4))).mean
        code.square().mul(torch.arange(6.0)).sum().backward()
        weights = (*nets.generator.parameters(), *nets.encoder.parameters())
        found.append([code, *(weight.grad for weight in weights)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@of_each_base
def test_only_the_first_and_last_layers_have_other_weights(base) -> None:
    """16 - h w pixels fewer: of d x f(4) weights in each network."""
    square, other = tiny_nets(16), tiny_nets(16, base=base)
    fewer = (16 - base[0] * base[1]) * 6 * 12
    for net in ("generator", "encoder"):
        counts = [parameter_count(getattr(nets, net)) for nets in (square, other)]
        assert counts[0] - counts[1] == fewer


@of_each_base
def test_a_base_travels_through_json(base) -> None:
    config = ModelConfig(base=base)
    values = json.loads(json.dumps(config.to_dict()))
    assert values["base"] == list(base)
    assert from_dict(ModelConfig, values, "model") == config
    with torch.device("meta"):
        assert build_nets(config, 64).generator(torch.empty(2, 512)).shape == (
            *(2, 3),
            *size_at(base, 64),
        )
