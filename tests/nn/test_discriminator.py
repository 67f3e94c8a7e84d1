"""The discriminator: its layers written out, the minibatch's deviation, growth."""

import numpy as np
import pytest
import torch
from small import ARCHS, TINY, converge, give_biases, in_use, leaky, mean2x2, randn, state_of
from torch import Tensor
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.errors import InputError
from pgvae.nn import Discriminator, build_nets, parameter_count
from pgvae.nn.discriminator import minibatch_deviation
from pgvae.nn.growing import seeded
from pgvae.sizes import size_at

KINDS = ("image", "joint")


def a_net(resolution: int = 8, fading: bool = False, **settings) -> Discriminator:
    """A small one whose biases are not zero."""
    settings = {"encoder_norm": "equalized", "discriminator": "image", **settings}
    config = ModelConfig(**TINY, **settings)
    net = build_nets(config, resolution, fading=fading).discriminator
    give_biases(net, 1)
    converge(net)
    return net


def latents_for(net: Discriminator, count: int) -> Tensor | None:
    return randn(count, 6, seed=9) if net.config.discriminator == "joint" else None


# --- the minibatch's deviation


def plain_deviation(features: np.ndarray, size: int) -> list[float]:
    """For each image, the mean over features and pixels of the deviation within its group."""
    found = []
    for start in range(0, len(features), size):
        group = features[start : start + size].astype(np.float64)
        deviations = np.sqrt(((group - group.mean(axis=0)) ** 2).mean(axis=0) + 1e-8)
        found += [deviations.mean()] * len(group)
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 13])
def test_the_deviation_is_that_of_numpy_within_groups_of_four(count) -> None:
    features = 3 * randn(count, 5, 4, 4, seed=count)
    found = minibatch_deviation(features)
    assert found.shape == (count,)
    np.testing.assert_allclose(found.numpy(), plain_deviation(features.numpy(), 4), rtol=1e-5)


def test_images_that_are_the_same_have_no_deviation_and_finite_derivatives() -> None:
    features = randn(1, 5, 4, 4).double().repeat(4, 1, 1, 1).requires_grad_()
    found = minibatch_deviation(features)
    torch.testing.assert_close(found, torch.full((4,), 1e-4, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(found.sum(), features, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), features)
    assert gradient.isfinite().all()
    assert second.isfinite().all()


def test_the_deviation_of_halves_is_taken_in_full_precision() -> None:
    features = 100 + randn(4, 5, 4, 4)
    rounded = features.bfloat16()
    assert minibatch_deviation(rounded).dtype == torch.float32
    torch.testing.assert_close(minibatch_deviation(rounded), minibatch_deviation(rounded.float()))


# --- its layers


def written_out(net: Discriminator, x: Tensor, latents: Tensor | None) -> Tensor:
    """A pggan one at 8 px by plain PyTorch."""
    state, norm = net.state_dict(), net.config.encoder_norm

    def kernel(name: str, gain: float = 2**0.5) -> Tensor:
        return in_use(state[f"blocks.{name}.weight"], norm, gain)

    def bias(name: str) -> Tensor:
        return state[f"blocks.{name}_bias"].view(1, -1, 1, 1)

    x = F.conv2d(x, state["rgb.8.weight"], state["rgb.8.bias"])
    x = leaky(F.conv2d(x, kernel("8.first"), padding=1) + bias("8.first"))
    x = mean2x2(leaky(F.conv2d(x, kernel("8.second"), padding=1) + bias("8.second")))
    deviation = torch.tensor(plain_deviation(x.numpy(), 4), dtype=x.dtype)
    maps = [x, deviation.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])]
    if latents is not None:
        z = leaky(
            latents @ kernel("4.first_latent")[:, :, 0, 0].T + bias("4.first_latent").flatten()
        )
        z = leaky(z @ kernel("4.second_latent")[:, :, 0, 0].T + bias("4.second_latent").flatten())
        maps.append(z[:, :, None, None].expand(-1, -1, *x.shape[2:]))
    x = leaky(F.conv2d(torch.cat(maps, 1), kernel("4.first"), padding=1) + bias("4.first"))
    x = leaky(F.conv2d(x, kernel("4.second")) + bias("4.second"))
    return (F.conv2d(x, kernel("4.last", gain=1.0)) + bias("4.last")).flatten()


@pytest.mark.parametrize("base", [(4, 4), (3, 4), (4, 2)])
@pytest.mark.parametrize("norm", ["equalized", "spectral", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_layers_written_out(kind, norm, base) -> None:
    net = a_net(discriminator=kind, encoder_norm=norm, base=base)
    x = randn(6, 3, *size_at(base, 8))
    latents = latents_for(net, 6)
    with torch.no_grad():
        scores = net(x, 1.0, latents)
        assert scores.shape == (6,)
        expected = written_out(net, x, latents)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resolution", [4, 64, 128])
def test_it_is_pioneers_encoder_but_for_one_map_and_one_full_layer(resolution) -> None:
    config = ModelConfig(resolution=128, discriminator="image")
    with torch.device("meta"):
        nets = build_nets(config, resolution)
    one_map, full_layer = 9 * 512, 512 + 1
    there = parameter_count(nets.discriminator)
    assert there == parameter_count(nets.encoder) + one_map + full_layer
    if resolution == 128:
        assert there == 25_139_200 + 5121


@pytest.mark.parametrize("arch", ARCHS)
def test_a_joint_one_looks_at_both(arch) -> None:
    net = a_net(arch=arch, discriminator="joint")
    x, z = randn(4, 3, 8, 8), latents_for(net, 4)
    scores = net(x, 1.0, z)
    assert not torch.allclose(net(x.roll(1, 0), 1.0, z), scores)
    assert not torch.allclose(net(x, 1.0, z.roll(1, 0)), scores)


def test_images_of_other_groups_change_no_score() -> None:
    net, x = a_net(), randn(8, 3, 8, 8)
    torch.testing.assert_close(net(x)[:4], net(x[:4]), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(net(x)[:3], net(x[:3]))


# --- growth


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arch", ARCHS)
def test_a_just_grown_one_sees_the_image_at_half_size_and_then_all_of_it(arch, kind) -> None:
    net = a_net(arch=arch, discriminator=kind)
    x, z = randn(4, 3, 16, 16), latents_for(net, 4)
    before, old = net(mean2x2(x), 1.0, z), state_of(net)
    net.grow(seed=5)
    torch.testing.assert_close(net(x, 0.0, z), before, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in old.items())
    faded = net(x, 1.0, z)
    net.finish_fade()
    torch.testing.assert_close(net(x, 1.0, z), faded, rtol=1e-5, atol=1e-6)
    built = a_net(resolution=16, arch=arch, discriminator=kind)
    assert {k: v.shape for k, v in state_of(net).items()} == {
        k: v.shape for k, v in state_of(built).items()
    }


# --- which networks there are


def test_encoder_and_generator_are_drawn_as_without_a_discriminator() -> None:
    plain, judged = (
        build_nets(ModelConfig(**TINY, discriminator=kind), 8, seed=3) for kind in ("none", "image")
    )
    assert [*judged.parts()] == [*plain.parts(), "discriminator"]
    for part, net in plain.parts().items():
        theirs = judged.parts()[part].state_dict()
        assert all(torch.equal(theirs[name], value) for name, value in net.state_dict().items())


def test_without_an_encoder_there_is_none_and_no_average_of_it() -> None:
    nets = build_nets(ModelConfig(**TINY, encoder=False, discriminator="image"), 8)
    assert [*nets.parts()] == ["generator", "ema", "discriminator"]
    assert [*nets.trained()] == ["generator", "discriminator"]
    assert nets.averages() == {"ema": "generator"}
    with seeded(0):
        alone = build_nets(ModelConfig(**TINY, encoder=False), 8)
    assert [*alone.parts()] == ["generator", "ema"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": False, "classes": 2}, "need an encoder"),
        ({"encoder": False, "critic": True}, "need an encoder"),
        ({"encoder": False, "discriminator": "joint"}, "need an encoder"),
        ({"discriminator": "both"}, "discriminator is 'both': choose one of none, image, joint"),
        ({"discriminator": True}, "choose one of none, image, joint"),
        ({"encoder": 1}, "encoder is 1: use true or false"),
        (
            {"discriminator": "image", "arch": "residual", "encoder_norm": "batch"},
            "encoder_norm batch.*choose another",
        ),
    ],
    ids=str,
)
def test_networks_that_cannot_be_are_refused(settings, words) -> None:
    with pytest.raises(InputError, match=words):
        ModelConfig(**settings)
