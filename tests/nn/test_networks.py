"""Encoder and generator of both architectures: how they are built, their heads, the classifier."""

import pytest
import torch
from small import ARCHS, TINY, randn, state_of, tiny_nets, unit

from pgvae.config import ModelConfig
from pgvae.nn import build_nets
from pgvae.types import AVERAGES

# --- building


@pytest.mark.parametrize("arch", ARCHS)
def test_only_the_layers_of_the_current_resolution_exist(arch) -> None:
    for fading, rgbs in ((False, {"8"}), (True, {"4", "8"})):
        nets = tiny_nets(fading=fading, arch=arch)
        for net in (nets.encoder, nets.generator, nets.ema):
            names = [name.split(".") for name in net.state_dict()]
            assert {name[1] for name in names if name[0] == "blocks"} == {"4", "8"}
            assert {name[1] for name in names if name[0] == "rgb"} == rgbs
            assert {name[0] for name in names} == {"blocks", "rgb"}
            assert net.fading is fading
            assert net.resolution == 8


@pytest.mark.parametrize("arch", ARCHS)
def test_building_is_seeded_and_leaves_the_global_generator_alone(arch) -> None:
    config = ModelConfig(**TINY, arch=arch, classes=3)
    before = torch.random.get_rng_state()
    first, again, other = (build_nets(config, 8, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    for net in ("encoder", "generator", "ema", "ema_encoder"):
        one, same, different = (state_of(getattr(n, net)) for n in (first, again, other))
        assert all(torch.equal(one[k], same[k]) for k in one)
        drawn = [k for k, v in one.items() if v.ndim > 1]
        assert len(drawn) >= 5
        assert not any(torch.equal(one[k], different[k]) for k in drawn)


@pytest.mark.parametrize("arch", ARCHS)
def test_each_average_begins_as_a_copy_of_its_network(arch) -> None:
    parts = build_nets(ModelConfig(**TINY, arch=arch), 8).parts()
    for average, followed in AVERAGES.items():
        mine, theirs = parts[average].state_dict(), parts[followed].state_dict()
        assert list(mine) == list(theirs)
        for name, value in theirs.items():
            assert torch.equal(mine[name], value)
            assert mine[name].data_ptr() != value.data_ptr()


# --- heads and outputs


@pytest.mark.parametrize("arch", ARCHS)
def test_a_tanh_output_is_the_tanh_of_the_linear_one(arch) -> None:
    linear, tanh = (tiny_nets(output=o, arch=arch).generator for o in ("linear", "tanh"))
    z = unit(4)
    torch.testing.assert_close(tanh(z), torch.tanh(linear(z)))


# --- bf16 autocast


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("head", ["sphere", "gaussian"])
def test_codes_are_float32_under_bf16_autocast(head, arch) -> None:
    encoder = tiny_nets(head=head, arch=arch).encoder
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
@pytest.mark.parametrize(
    ("arch", "norm", "order"),
    [
        ("pggan", "pixel", "norm_act"),
        ("pggan", "pixel", "act_norm"),
        *(("residual", norm, "norm_act") for norm in ("pixel", "spectral", "batch")),
    ],
)
def test_the_generator_trains_under_bf16_autocast(arch, norm, order, alpha) -> None:
    settings = {"arch": arch, "generator_norm": norm, "order": order}
    generator = tiny_nets(fading=alpha < 1, **settings).generator
    z = unit(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(z, alpha)
    torch.testing.assert_close(images.float(), generator(z, alpha), rtol=0.1, atol=0.1)
    images.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in generator.parameters())


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize(
    ("arch", "norm"),
    [
        ("pggan", "spectral"),
        ("pggan", "equalized"),
        ("residual", "spectral"),
        ("residual", "equalized"),
        ("residual", "batch"),
    ],
)
def test_the_encoder_trains_under_bf16_autocast(arch, norm, alpha) -> None:
    encoder = tiny_nets(fading=alpha < 1, arch=arch, encoder_norm=norm).encoder
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = encoder(randn(4, 3, 8, 8), alpha).mean
    code[:, 0].sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


# --- the classifier


@pytest.mark.parametrize("arch", ARCHS)
def test_logits_are_linear_in_the_latent_without_a_bias(arch) -> None:
    encoder = tiny_nets(arch=arch, classes=3).encoder
    assert dict(encoder.classifier.named_parameters()).keys() == {"weight"}
    weight = encoder.classifier.weight.detach()  # [K, d]
    latents = randn(5, 6)
    expected = torch.einsum("nd,kd->nk", latents, weight)
    torch.testing.assert_close(encoder.classify(latents), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_float32_under_bf16_autocast(dtype) -> None:
    encoder = tiny_nets(classes=3).encoder
    latents = randn(5, 6).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = encoder.classify(latents)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, encoder.classify(latents.float()))
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("arch", ARCHS)
def test_codes_do_not_depend_on_the_classifier(arch) -> None:
    plain, labelled = (tiny_nets(arch=arch, classes=classes).encoder for classes in (0, 3))
    assert not hasattr(plain, "classifier")
    assert set(labelled.state_dict()) - set(plain.state_dict()) == {"classifier.weight"}
    images = randn(4, 3, 8, 8)
    assert torch.equal(plain(images).mean, labelled(images).mean)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_a_critic_is_linear_in_the_features_that_the_codes_come_from(arch, alpha) -> None:
    config = ModelConfig(**TINY, arch=arch, head="gaussian", critic=True)
    encoder = build_nets(config, 8, fading=alpha < 1, seed=3).encoder
    images = randn(5, 3, 8, 8)
    seen, codes = [], encoder.blocks["4"].codes
    encoder.blocks["4"].codes = lambda features: seen.append(features) or codes(features)
    posterior, realism = encoder(images, alpha, judge=True)
    for one, same in zip(posterior, encoder(images, alpha), strict=True):
        assert torch.equal(one, same)
    means = seen[0].double().mean(dim=(2, 3))
    expected = 10 * (means * encoder.critic.weight.double()).sum(dim=1)
    torch.testing.assert_close(realism.double(), expected)
    assert realism.std() > 0


def test_a_network_has_a_critic_only_where_it_is_asked_for() -> None:
    plain, judging = (
        build_nets(ModelConfig(**TINY, head="gaussian", critic=critic), 8, seed=3).encoder
        for critic in (False, True)
    )
    assert set(judging.state_dict()) - set(plain.state_dict()) == {"critic.weight"}
