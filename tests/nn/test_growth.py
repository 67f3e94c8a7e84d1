"""Growth by a stage: what it keeps, what it adds, and the fade between the two."""

import pytest
import torch
from small import (
    ARCHS,
    ENCODER_NORMS,
    GENERATOR_NORMS,
    TINY,
    mean2x2,
    randn,
    state_of,
    tiny_nets,
    unit,
    up2,
)

from pgvae.config import ModelConfig
from pgvae.nn import build_nets

NETS = ("generator", "encoder")


@pytest.mark.parametrize(
    ("arch", "norm", "order"),
    [
        ("pggan", "pixel", "act_norm"),
        *((arch, norm, "norm_act") for arch in ARCHS for norm in GENERATOR_NORMS[arch]),
    ],
)
def test_a_just_grown_generator_gives_the_old_images_upsampled(arch, norm, order) -> None:
    net = tiny_nets(arch=arch, generator_norm=norm, order=order).generator
    z = unit(4)
    before = net(z)
    net.grow(seed=5)
    assert net.resolution == 16
    assert net.fading
    torch.testing.assert_close(net(z, 0.0), up2(before), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ["sphere", "gaussian"])
@pytest.mark.parametrize(
    ("arch", "norm"), [(arch, norm) for arch in ARCHS for norm in ENCODER_NORMS[arch]]
)
def test_a_just_grown_encoder_sees_the_image_at_half_size(arch, norm, head) -> None:
    net = tiny_nets(arch=arch, encoder_norm=norm, head=head).encoder
    images = randn(4, 3, 16, 16)
    before = net(mean2x2(images))
    net.grow(seed=5)
    assert net.resolution == 16
    assert net.fading
    after = net(images, 0.0)
    torch.testing.assert_close(after.mean, before.mean, rtol=1e-5, atol=1e-6)
    if head == "gaussian":
        torch.testing.assert_close(after.logvar, before.logvar, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_end_of_the_fade_changes_nothing(arch) -> None:
    nets = tiny_nets(arch=arch)
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


@pytest.mark.parametrize("arch", ARCHS)
def test_alpha_may_be_a_tensor(arch) -> None:
    nets = tiny_nets(fading=True, arch=arch)
    z, images, alpha = unit(4), randn(4, 3, 8, 8), torch.tensor(0.3)
    assert torch.equal(nets.generator(z, alpha), nets.generator(z, float(alpha)))
    assert torch.equal(nets.encoder(images, alpha).mean, nets.encoder(images, float(alpha)).mean)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("which", NETS)
def test_growth_keeps_what_there_is_bit_for_bit(which, arch) -> None:
    net = getattr(tiny_nets(arch=arch, classes=3), which)
    before = state_of(net)
    net.grow(seed=5)
    after = net.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    new = {k.rpartition(".")[0] for k in after if k not in before}
    assert {name.split(".")[1] for name in new} == {"16"}
    net.finish_fade()
    kept = {k for k in before if not k.startswith("rgb")}
    assert all(torch.equal(net.state_dict()[k], before[k]) for k in kept)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("which", NETS)
def test_growth_is_seeded_and_leaves_the_global_generator_alone(which, arch) -> None:
    nets = [getattr(tiny_nets(arch=arch), which) for _ in range(3)]
    old = set(nets[0].state_dict())
    before = torch.random.get_rng_state()
    for net, seed in zip(nets, (5, 5, 6), strict=True):
        net.grow(seed=seed)
    assert torch.equal(torch.random.get_rng_state(), before)
    one, same, other = (state_of(net) for net in nets)
    assert all(torch.equal(one[k], same[k]) for k in one)
    drawn = [k for k, v in one.items() if k not in old and v.ndim == 4]
    assert len(drawn) >= 3
    assert not any(torch.equal(one[k], other[k]) for k in drawn)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_growth_leaves_the_generator_of_the_device_alone() -> None:
    net = tiny_nets().generator.cuda()
    torch.cuda.manual_seed(11)
    before = torch.cuda.get_rng_state()
    net.grow(seed=5)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("which", ["encoder", "ema", "ema_encoder"])
def test_a_network_stays_frozen_and_in_evaluation_when_it_grows(which) -> None:
    """Else the batch norms of its new block would take the statistics of each batch."""
    settings = {"arch": "residual", "encoder_norm": "batch", "generator_norm": "batch"}
    net = getattr(build_nets(ModelConfig(**TINY, **settings), 8), which).eval()
    net.grow(seed=5)
    assert not any(module.training for module in net.modules())
    assert all(p.requires_grad == (which == "encoder") for p in net.parameters())


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("which", NETS)
def test_every_kernel_is_channels_last_before_and_after_growth(which, arch) -> None:
    net = getattr(build_nets(ModelConfig(**TINY, arch=arch), 8), which)
    for _ in range(2):
        kernels = [p for p in net.parameters() if p.ndim == 4]
        assert all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)
        wide = [k for k in kernels if k.shape[1] > 1 and k.shape[2] > 1]
        assert not any(k.is_contiguous() for k in wide)
        net.grow(seed=5) if net.resolution == 8 else net.finish_fade()


@pytest.mark.parametrize("arch", ARCHS)
def test_a_grown_network_has_the_layers_of_one_built_at_that_size(arch) -> None:
    grown = tiny_nets(arch=arch)
    built = tiny_nets(resolution=16, fading=True, arch=arch)
    z, images = unit(4), randn(4, 3, 16, 16)
    for which in NETS:
        net, other = getattr(grown, which), getattr(built, which)
        net.grow(seed=5)
        shapes = {k: v.shape for k, v in net.state_dict().items()}
        assert shapes == {k: v.shape for k, v in other.state_dict().items()}
        net.load_state_dict(other.state_dict())
    assert torch.equal(grown.generator(z, 0.4), built.generator(z, 0.4))
    assert torch.equal(grown.encoder(images, 0.4).mean, built.encoder(images, 0.4).mean)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_network_grows_from_4_px_to_its_final_resolution(arch) -> None:
    nets = build_nets(ModelConfig(**TINY, arch=arch), 4)
    for resolution in (8, 16):
        for net in (nets.generator, nets.encoder):
            net.grow(seed=resolution)
        images = nets.generator(unit(3), 0.5)
        assert images.shape == (3, 3, resolution, resolution)
        assert nets.encoder(images, 0.5).mean.shape == (3, 6)
        assert nets.generator.fading
        assert nets.encoder.fading


@pytest.mark.parametrize("name", NETS)
def test_activations_that_are_worked_out_twice_give_the_same_bytes(name: str) -> None:
    found = []
    for start in (8, 1024):
        nets = tiny_nets()
        net = nets.parts()[name]
        net.recompute_from = start
        inputs = (randn(4, 3, 8, 8) if name == "encoder" else unit(4)).requires_grad_()
        output = net(inputs)
        (output.mean if name == "encoder" else output).square().sum().backward()
        found.append([inputs.grad, *(p.grad for p in net.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
