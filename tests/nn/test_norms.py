"""The norms of both architectures: every combination trains; spectral and batch norm in place."""

import itertools

import pytest
import torch
from small import (
    ARCHS,
    ENCODER_NORMS,
    GENERATOR_NORMS,
    TINY,
    randn,
    state_of,
    tiny_nets,
    vectors_of,
)
from torch import Tensor, nn

from pgvae.config import ModelConfig
from pgvae.nn import build_nets
from pgvae.nn.layers import SpectralWeight

COMBINATIONS = [
    (arch, *norms)
    for arch in ARCHS
    for norms in itertools.product(ENCODER_NORMS[arch], GENERATOR_NORMS[arch])
]


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("head", ["sphere", "gaussian"])
@pytest.mark.parametrize(("arch", "encoder_norm", "generator_norm"), COMBINATIONS)
def test_every_combination_trains(
    arch, encoder_norm, generator_norm, head, channels, classes
) -> None:
    """In mid-fade, where every parameter takes part."""
    config = ModelConfig(
        **TINY,
        arch=arch,
        encoder_norm=encoder_norm,
        generator_norm=generator_norm,
        head=head,
        channels=channels,
        classes=classes,
    )
    nets = build_nets(config, 8, fading=True)
    posterior = nets.encoder(randn(4, channels, 8, 8), 0.5)
    assert posterior.mean.shape == (4, 6)
    images = nets.generator(posterior.mean, 0.5)
    assert images.shape == (4, channels, 8, 8)
    outputs = [posterior.mean * randn(4, 6, seed=1), images.square()]
    if head == "gaussian":
        assert posterior.logvar.shape == (4, 6)
        outputs.append(posterior.logvar)
    if classes:
        logits = nets.encoder.classify(posterior.mean)
        assert logits.shape == (4, classes)
        outputs.append(logits.square())
    assert all(output.isfinite().all() for output in outputs)
    torch.stack([output.sum() for output in outputs]).sum().backward()
    for net in (nets.encoder, nets.generator):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        assert all(p.grad.any() for p in net.parameters() if p.ndim > 1)


# --- spectral norm


def spectral_weights(net: nn.Module) -> list[SpectralWeight]:
    return [module for module in net.modules() if isinstance(module, SpectralWeight)]


# Of the first two blocks: two layers each in pggan; in a residual encoder three and the full
# layer, in a residual generator three each and the first layer.
@pytest.mark.parametrize(
    ("arch", "which", "count"),
    [
        ("pggan", "encoder", 4),
        ("pggan", "generator", 4),
        ("residual", "encoder", 4),
        ("residual", "generator", 7),
    ],
)
def test_one_call_is_one_iteration_of_every_spectral_norm(arch, which, count) -> None:
    net = getattr(build_nets(ModelConfig(**TINY, arch=arch, generator_norm="spectral"), 8), which)
    assert len(spectral_weights(net)) == count
    expected = []
    for module in spectral_weights(net):
        v = module.weight.detach().permute(0, 2, 3, 1).flatten(1).T @ module.u
        expected.append(v / v.norm())
    net.power_iteration()
    for module, v in zip(spectral_weights(net), expected, strict=True):
        torch.testing.assert_close(module.v, v, rtol=1e-5, atol=1e-6)


def outputs_of(which: str, net: nn.Module, alpha: float = 1.0) -> Tensor:
    return net(randn(4, 3, 8, 8), alpha).mean if which == "encoder" else net(randn(4, 6), alpha)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("which", ["encoder", "generator"])
def test_a_forward_pass_never_moves_the_spectral_vectors(which, arch, training) -> None:
    config = ModelConfig(**TINY, arch=arch, generator_norm="spectral")
    net = getattr(build_nets(config, 8, fading=True), which).train(training)
    before = vectors_of(net)
    assert len(before) == 2 * len(spectral_weights(net))
    first = outputs_of(which, net, 0.5)
    assert torch.equal(outputs_of(which, net, 0.5), first)
    assert all(torch.equal(v, before[k]) for k, v in vectors_of(net).items())
    net.power_iteration()
    assert all(not torch.equal(v, before[k]) for k, v in vectors_of(net).items())


@pytest.mark.parametrize("arch", ARCHS)
def test_networks_of_other_norms_have_no_spectral_vectors_to_move(arch) -> None:
    nets = build_nets(ModelConfig(**TINY, arch=arch, encoder_norm="equalized"), 8)
    for net in (nets.encoder, nets.generator):
        before = state_of(net)
        assert not vectors_of(net)
        net.power_iteration()
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


# --- batch norm


def batch_normed(which: str) -> nn.Module:
    """A network whose running statistics have seen a few batches."""
    net = getattr(tiny_nets(arch="residual", encoder_norm="batch", generator_norm="batch"), which)
    for seed in range(3):
        net(randn(8, 3, 8, 8, seed=seed) if which == "encoder" else randn(8, 6, seed=seed))
    return net


@pytest.mark.parametrize("which", ["encoder", "generator"])
def test_batch_norm_takes_the_statistics_of_the_batch_in_training_only(which) -> None:
    net = batch_normed(which)
    before = state_of(net)
    training = outputs_of(which, net)
    moved = state_of(net)
    statistics = [k for k in before if "running_" in k]
    assert len(statistics) >= 4
    assert not any(torch.equal(moved[k], before[k]) for k in statistics)
    evaluated = outputs_of(which, net.eval())
    assert not torch.allclose(training, evaluated, rtol=0.01, atol=0.01)
    assert torch.equal(outputs_of(which, net), evaluated)
    assert all(torch.equal(v, moved[k]) for k, v in net.state_dict().items())
    torch.testing.assert_close(outputs_of(which, net.train()), training)


def test_in_evaluation_the_batch_changes_no_image() -> None:
    generator = batch_normed("generator").eval()
    z = randn(4, 6)
    alone = torch.cat([generator(row[None]) for row in z])
    torch.testing.assert_close(generator(z), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("which", ["encoder", "generator"])
def test_a_loaded_network_gives_the_same_numbers(which, arch) -> None:
    """Running statistics and singular vectors come with the weights."""
    norm = "batch" if arch == "residual" else "spectral"
    settings = {"arch": arch, "encoder_norm": norm, "generator_norm": norm}
    net, other = (getattr(tiny_nets(seed=seed, **settings), which) for seed in (0, 1))
    outputs_of(which, net)  # moves the running statistics
    net.eval()
    other.eval()
    assert not torch.allclose(outputs_of(which, other), outputs_of(which, net))
    other.load_state_dict(net.state_dict())
    assert torch.equal(outputs_of(which, other), outputs_of(which, net))
