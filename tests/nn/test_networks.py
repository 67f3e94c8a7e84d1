"""Encoder and generator: parameter counts, a forward pass written out, growth and fading."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.nn import Encoder, Generator, build_nets, parameter_count

# Widths differ between 4, 8 and 16 px: 12, 8 and 4.
TINY = {"resolution": 16, "latent_dim": 6, "fmap_base": 32, "fmap_max": 12}

# Active parameters of PIONEER's networks, G and E.
PIONEER_PARAMETERS = {
    64: (22_484_227, 24_254_464),
    128: (22_926_467, 25_139_200),
    256: (23_036_995, 25_360_384),
    1024: (23_071_507, 25_429_504),
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_nets(resolution: int = 8, fading: bool = False, seed: int = 0, **settings):
    """Small networks whose biases are not zero and whose spectral norms are exact."""
    nets = build_nets(ModelConfig(**TINY, **settings), resolution, fading=fading, seed=seed)
    give_biases(nets.generator, 1)
    give_biases(nets.encoder, 2)
    converge(nets.encoder)
    return nets


def give_biases(net: torch.nn.Module, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.3)


def converge(encoder: torch.nn.Module) -> None:
    for _ in range(300):
        encoder.power_iteration()


def unit(count: int, d: int = 6, seed: int = 0) -> Tensor:
    return F.normalize(randn(count, d, seed=seed))


def state_of(net: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


# --- the networks, written out


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * 0.2)


def pixel_norm(x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(dim=1, keepdim=True) + 1e-8).sqrt()


def up2(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def mean2x2(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def rgb(state: dict[str, Tensor], resolution: int, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f"rgb.{resolution}.weight"], state[f"rgb.{resolution}.bias"])


def expected_image(net, z: Tensor, order: str, fan_in: int, alpha: float) -> Tensor:
    """PIONEER's generator at 8 px in float64, from the weights of `net`."""
    state = {k: v.double() for k, v in state_of(net).items()}
    steps = (pixel_norm, leaky) if order == "norm_act" else (leaky, pixel_norm)

    def layer(name: str, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        x = F.conv2d(x, weight, state[f"{name}_bias"], padding=padding)
        for step in steps:
            x = step(x)
        return x

    def equalized(name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return weight * math.sqrt(2 / (weight.shape[1] * 9))

    opening = state["blocks.4.first.weight"].transpose(0, 1).flip(2, 3)
    x = z.double()[:, :, None, None]
    x = layer("blocks.4.first", x, opening * math.sqrt(2 / fan_in), padding=3)
    x = layer("blocks.4.second", x, equalized("blocks.4.second"), padding=1)
    old = rgb(state, 4, x) if alpha < 1 else None
    x = layer("blocks.8.first", up2(x), equalized("blocks.8.first"), padding=1)
    x = layer("blocks.8.second", x, equalized("blocks.8.second"), padding=1)
    image = rgb(state, 8, x)
    return image if old is None else (1 - alpha) * up2(old) + alpha * image


def expected_code(net, images: Tensor, norm: str, alpha: float) -> Tensor:
    """PIONEER's encoder at 8 px in float64, before its head, from the weights of `net`."""
    state = {k: v.double() for k, v in state_of(net).items()}

    def conv(name: str, x: Tensor, padding: int) -> Tensor:
        weight = state[f"{name}.weight"]
        if norm == "spectral":
            weight = weight / torch.linalg.matrix_norm(weight.flatten(1), 2)
        else:
            weight = weight * math.sqrt(2 / weight[0].numel())
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
    expected = expected_image(net, z, order, 16 * 6, alpha)
    torch.testing.assert_close(image.double(), expected, rtol=1e-4, atol=1e-5)


def test_latents_of_a_gaussian_prior_are_expected_to_have_length_sqrt_d() -> None:
    net = tiny_nets(head="gaussian").generator
    z = randn(4, 6)
    expected = expected_image(net, z, "norm_act", 6, 1.0)
    torch.testing.assert_close(net(z).double(), expected, rtol=1e-4, atol=1e-5)


def test_a_tanh_output_is_the_tanh_of_the_linear_one() -> None:
    linear, tanh = (tiny_nets(output=output).generator for output in ("linear", "tanh"))
    z = unit(4)
    torch.testing.assert_close(tanh(z), torch.tanh(linear(z)))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("norm", ["spectral", "equalized"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_is_pioneers_written_out(norm, channels, alpha) -> None:
    net = tiny_nets(fading=alpha < 1, encoder_norm=norm, channels=channels).encoder
    images = randn(4, channels, 8, 8)
    posterior = net(images, alpha)
    expected = F.normalize(leaky(expected_code(net, images, norm, alpha)))
    torch.testing.assert_close(posterior.mean.double(), expected, rtol=1e-4, atol=1e-5)
    assert posterior.logvar is None


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_a_gaussian_head_gives_mean_and_log_variance(alpha) -> None:
    net = tiny_nets(fading=alpha < 1, head="gaussian", encoder_norm="equalized").encoder
    images = randn(4, 3, 8, 8)
    mean, logvar = net(images, alpha)
    assert mean.shape == logvar.shape == (4, 6)
    expected_mean, expected_logvar = expected_code(net, images, "equalized", alpha).chunk(2, 1)
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logvar.double(), expected_logvar, rtol=1e-4, atol=1e-5)


# --- parameters


@pytest.mark.parametrize("resolution", PIONEER_PARAMETERS)
@pytest.mark.parametrize("final", ["current", "1024"])
def test_active_parameters_are_pioneers(resolution, final) -> None:
    config = ModelConfig(resolution=resolution if final == "current" else 1024)
    with torch.device("meta"):
        counts = tuple(parameter_count(net(config, resolution)) for net in (Generator, Encoder))
    assert counts == PIONEER_PARAMETERS[resolution]


def test_only_the_layers_of_the_current_resolution_exist() -> None:
    for fading, rgbs in ((False, {"8"}), (True, {"4", "8"})):
        nets = tiny_nets(fading=fading)
        for net in (nets.encoder, nets.generator, nets.ema):
            names = [name.split(".") for name in net.state_dict()]
            assert {name[1] for name in names if name[0] == "blocks"} == {"4", "8"}
            assert {name[1] for name in names if name[0] == "rgb"} == rgbs
            assert {name[0] for name in names} == {"blocks", "rgb"}
            assert net.fading is fading
            assert net.resolution == 8


def test_building_is_seeded_and_leaves_the_global_generator_alone() -> None:
    config = ModelConfig(**TINY)
    before = torch.random.get_rng_state()
    first, again, other = (build_nets(config, 8, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    for net in ("encoder", "generator", "ema"):
        one, same, different = (state_of(getattr(n, net)) for n in (first, again, other))
        assert all(torch.equal(one[k], same[k]) for k in one)
        name = "blocks.8.first.weight"
        assert not torch.equal(one[name], different[name])


def test_the_average_begins_as_a_copy_of_the_generator() -> None:
    nets = build_nets(ModelConfig(**TINY), 8)
    ema, generator = nets.ema.state_dict(), nets.generator.state_dict()
    assert list(ema) == list(generator)
    for name, value in generator.items():
        assert torch.equal(ema[name], value)
        assert ema[name].data_ptr() != value.data_ptr()


# --- heads


def test_codes_on_the_sphere_have_length_one() -> None:
    mean, logvar = tiny_nets().encoder(randn(16, 3, 8, 8) * 3)
    assert logvar is None
    torch.testing.assert_close(mean.norm(dim=1), torch.ones(16), rtol=0, atol=1e-6)


@pytest.mark.parametrize("head", ["sphere", "gaussian"])
def test_codes_are_float32_under_bf16_autocast(head) -> None:
    encoder = tiny_nets(head=head).encoder
    images = randn(16, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = encoder(images)
    assert posterior.mean.dtype == torch.float32
    assert not torch.equal(posterior.mean, posterior.mean.bfloat16().float())
    torch.testing.assert_close(posterior.mean, encoder(images).mean, rtol=0.1, atol=0.05)
    if head == "sphere":
        torch.testing.assert_close(posterior.mean.norm(dim=1), torch.ones(16), rtol=0, atol=1e-6)
    else:
        assert posterior.logvar.dtype == torch.float32


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_the_generator_trains_under_bf16_autocast(order, alpha) -> None:
    generator = tiny_nets(fading=alpha < 1, order=order).generator
    z = unit(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(z, alpha)
    torch.testing.assert_close(images.float(), generator(z, alpha), rtol=0.1, atol=0.1)
    images.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in generator.parameters())


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("norm", ["spectral", "equalized"])
def test_the_encoder_trains_under_bf16_autocast(norm, alpha) -> None:
    encoder = tiny_nets(fading=alpha < 1, encoder_norm=norm).encoder
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = encoder(randn(4, 3, 8, 8), alpha).mean
    code[:, 0].sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


# --- growth


@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_a_just_grown_generator_gives_the_old_images_upsampled(order) -> None:
    net = tiny_nets(order=order).generator
    z = unit(4)
    before = net(z)
    net.grow(seed=5)
    assert net.resolution == 16
    assert net.fading
    torch.testing.assert_close(net(z, 0.0), up2(before), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ["sphere", "gaussian"])
def test_a_just_grown_encoder_sees_the_image_at_half_size(head) -> None:
    net = tiny_nets(head=head).encoder
    images = randn(4, 3, 16, 16)
    before = net(mean2x2(images))
    net.grow(seed=5)
    assert net.resolution == 16
    assert net.fading
    after = net(images, 0.0)
    torch.testing.assert_close(after.mean, before.mean, rtol=1e-5, atol=1e-6)
    if head == "gaussian":
        torch.testing.assert_close(after.logvar, before.logvar, rtol=1e-5, atol=1e-6)


def test_the_end_of_the_fade_changes_nothing() -> None:
    nets = tiny_nets()
    z, images = unit(4), randn(4, 3, 16, 16)
    for net in (nets.generator, nets.encoder):
        net.grow(seed=5)
    faded = nets.generator(z, 1.0), nets.encoder(images, 1.0).mean
    for net in (nets.generator, nets.encoder):
        net.finish_fade()
        assert not net.fading
        assert net.resolution == 16
        assert {k.split(".")[1] for k in net.state_dict() if k.startswith("rgb")} == {"16"}
    torch.testing.assert_close(nets.generator(z), faded[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(nets.encoder(images).mean, faded[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.25, 0.5, torch.tensor(0.9)])
def test_the_generator_is_linear_in_alpha(alpha) -> None:
    net = tiny_nets(fading=True).generator
    z = unit(4)
    old, new = net(z, 0.0), net(z, 1.0)
    assert (old - new).abs().max() > 0.01
    torch.testing.assert_close(net(z, alpha), (1 - alpha) * old + alpha * new)


def test_alpha_may_be_a_tensor_for_the_encoder_too() -> None:
    net = tiny_nets(fading=True).encoder
    images = randn(4, 3, 8, 8)
    torch.testing.assert_close(net(images, torch.tensor(0.3)).mean, net(images, 0.3).mean)


@pytest.mark.parametrize("which", ["generator", "encoder"])
def test_growth_keeps_what_there_is_bit_for_bit(which) -> None:
    net = getattr(tiny_nets(), which)
    before = state_of(net)
    net.grow(seed=5)
    after = net.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    new = {k.rpartition(".")[0] for k in after if k not in before}
    assert {name.split(".")[1] for name in new} == {"16"}
    net.finish_fade()
    kept = {k for k in before if not k.startswith("rgb")}
    assert all(torch.equal(net.state_dict()[k], before[k]) for k in kept)


@pytest.mark.parametrize("which", ["generator", "encoder"])
def test_growth_is_seeded_and_leaves_the_global_generator_alone(which) -> None:
    nets = [getattr(tiny_nets(), which) for _ in range(3)]
    before = torch.random.get_rng_state()
    for net, seed in zip(nets, (5, 5, 6), strict=True):
        net.grow(seed=seed)
    assert torch.equal(torch.random.get_rng_state(), before)
    one, same, other = (state_of(net) for net in nets)
    assert all(torch.equal(one[k], same[k]) for k in one)
    for name in ("blocks.16.first.weight", "blocks.16.second.weight", "rgb.16.weight"):
        assert not torch.equal(one[name], other[name])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_growth_leaves_the_generator_of_the_device_alone() -> None:
    net = tiny_nets().generator.cuda()
    torch.cuda.manual_seed(11)
    before = torch.cuda.get_rng_state()
    net.grow(seed=5)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_the_average_stays_frozen_when_it_grows() -> None:
    ema = build_nets(ModelConfig(**TINY), 8).ema
    assert not any(p.requires_grad for p in ema.parameters())
    ema.grow(seed=5)
    assert not any(p.requires_grad for p in ema.parameters())


def test_a_grown_network_has_the_layers_of_one_built_at_that_size() -> None:
    grown = tiny_nets()
    built = tiny_nets(resolution=16, fading=True)
    for which in ("generator", "encoder"):
        net = getattr(grown, which)
        net.grow(seed=5)
        shapes = {k: v.shape for k, v in net.state_dict().items()}
        assert shapes == {k: v.shape for k, v in getattr(built, which).state_dict().items()}
        net.load_state_dict(getattr(built, which).state_dict())


# --- spectral norm


def vectors_of(net: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in state_of(net).items() if k.endswith((".u", ".v"))}


@pytest.mark.parametrize("training", [True, False])
def test_a_forward_pass_never_moves_the_spectral_vectors(training) -> None:
    encoder = build_nets(ModelConfig(**TINY), 8, fading=True).encoder.train(training)
    before = vectors_of(encoder)
    assert len(before) == 8
    images = randn(4, 3, 8, 8)
    first = encoder(images, 0.5).mean
    assert torch.equal(encoder(images, 0.5).mean, first)
    assert all(torch.equal(v, before[k]) for k, v in vectors_of(encoder).items())
    encoder.power_iteration()
    assert all(not torch.equal(v, before[k]) for k, v in vectors_of(encoder).items())


def test_several_passes_share_one_backward_after_a_power_iteration() -> None:
    encoder = tiny_nets().encoder
    encoder.power_iteration()
    loss = (
        encoder(randn(4, 3, 8, 8)).mean[:, 0].sum() - encoder(randn(4, 3, 8, 8, seed=1)).mean.sum()
    )
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_a_loaded_encoder_gives_the_same_codes() -> None:
    one, other = (build_nets(ModelConfig(**TINY), 8, seed=seed).encoder for seed in (0, 1))
    images = randn(4, 3, 8, 8)
    assert not torch.allclose(one(images).mean, other(images).mean)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(images).mean, other(images).mean)


def test_an_equalized_encoder_has_no_spectral_vectors_to_move() -> None:
    encoder = build_nets(ModelConfig(**TINY, encoder_norm="equalized"), 8).encoder
    before = state_of(encoder)
    assert not vectors_of(encoder)
    encoder.power_iteration()
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
