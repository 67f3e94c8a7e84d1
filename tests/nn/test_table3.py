"""IntroVAE's networks at 1024 px are its Table 3, row by row; IntroVAC's at 128 px."""

import math
from typing import TypeVar

import pytest
import torch
from small import ENCODER_NORMS, GENERATOR_NORMS, randn
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.nn import Encoder, Generator, build_nets

Net = TypeVar("Net", Encoder, Generator)

# IntroVAE's Table 3: of each residual block its pixels per side, features, and whether a 1x1
# convolution is listed. At 16 px of the inference model the table lists one too, from 512 to 512
# features; the shortcut is left out there, as in every other row that keeps the features.
TABLE3_INFERENCE_MODEL = (
    (512, 32, True),
    (256, 64, True),
    (128, 128, True),
    (64, 256, True),
    (32, 512, True),
    (16, 512, False),
    (8, 512, False),
    (4, 512, False),
)
TABLE3_GENERATOR = (
    (4, 512, False),
    (8, 512, False),
    (16, 512, False),
    (32, 256, True),
    (64, 128, True),
    (128, 64, True),
    (256, 32, True),
    (512, 16, True),
    (1024, 16, False),
)


def table3(which: type[Net], **norms: str) -> Net:
    """A network of Table 3, without numbers."""
    config = ModelConfig(
        arch="residual", resolution=1024, fmap_base=8192, latent_dim=512, head="gaussian", **norms
    )
    with torch.device("meta"):
        return which(config, 1024)


def kernels_of(module: torch.nn.Module) -> list[tuple[int, ...]]:
    return sorted(tuple(p.shape) for p in module.parameters() if p.ndim == 4)


def kernels_of_row(inputs: int, outputs: int, shortcut: bool) -> list[tuple[int, ...]]:
    """The convolutions [O, I, K, K] of a residual block of Table 3."""
    kernels = [(outputs, inputs, 3, 3), (outputs, outputs, 3, 3)]
    return sorted([*kernels, (outputs, inputs, 1, 1)] if shortcut else kernels)


def numbers_in_rows(inputs: int, rows) -> int:
    """Weights of residual blocks on `inputs` features, counted from their rows."""
    total = 0
    for _, features, shortcut in rows:
        total += 9 * inputs * features + 9 * features * features + shortcut * inputs * features
        inputs = features
    return total


def activated_in_rows(rows) -> int:
    """Features that go through an activation in residual blocks: two in each."""
    return sum(2 * features for _, features, _ in rows)


def test_the_encoder_is_table_3_row_by_row() -> None:
    encoder = table3(Encoder, encoder_norm="none")
    assert list(encoder.rgb) == ["1024"]
    assert kernels_of(encoder.rgb["1024"]) == [(16, 3, 5, 5)]
    x = encoder.rgb["1024"](torch.empty(2, 3, 1024, 1024, device="meta"))
    assert x.shape == (2, 16, 1024, 1024)
    blocks = list(reversed(encoder.blocks.values()))
    for block, (side, features, shortcut) in zip(blocks[:-1], TABLE3_INFERENCE_MODEL, strict=True):
        assert kernels_of(block) == kernels_of_row(x.shape[1], features, shortcut)
        x = block(x)
        assert x.shape == (2, features, side, side)
    assert kernels_of(blocks[-1]) == [(1024, 512, 4, 4)]  # FC-1024 on 8192 numbers


def test_the_generator_is_table_3_row_by_row() -> None:
    generator = table3(Generator, generator_norm="none")
    (first, *rest) = generator.blocks.values()
    x = first.first(torch.empty(2, 512, device="meta"))
    assert kernels_of(first.first) == [(512, 512, 4, 4)]  # FC-8192 on 512 numbers
    assert x.shape == (2, 512, 4, 4)
    blocks = [first.residual, *rest]
    for block, (side, features, shortcut) in zip(blocks, TABLE3_GENERATOR, strict=True):
        assert kernels_of(block) == kernels_of_row(x.shape[1], features, shortcut)
        x = block(x)
        assert x.shape == (2, features, side, side)
    assert list(generator.rgb) == ["1024"]
    assert kernels_of(generator.rgb["1024"]) == [(3, 16, 5, 5)]
    assert generator.rgb["1024"](x).shape == (2, 3, 1024, 1024)


@pytest.mark.parametrize(
    ("which", "norm"),
    [
        *((Encoder, norm) for norm in ENCODER_NORMS["residual"]),
        *((Generator, norm) for norm in GENERATOR_NORMS["residual"]),
    ],
)
def test_the_weights_are_those_of_table_3_and_one_bias_for_each_activation_and_output(
    which, norm
) -> None:
    """Batch norm has a factor beside each bias of an activation."""
    if which is Encoder:
        net = table3(Encoder, encoder_norm=norm)
        weights = 5 * 5 * 3 * 16 + numbers_in_rows(16, TABLE3_INFERENCE_MODEL) + 8192 * 1024
        activated, outputs = 16 + activated_in_rows(TABLE3_INFERENCE_MODEL), 1024
    else:
        net = table3(Generator, generator_norm=norm)
        weights = 512 * 8192 + numbers_in_rows(512, TABLE3_GENERATOR) + 5 * 5 * 16 * 3
        activated, outputs = 512 + activated_in_rows(TABLE3_GENERATOR), 3
    assert sum(math.prod(shape) for shape in kernels_of(net)) == weights
    biases = sum(p.numel() for p in net.parameters() if p.ndim == 1)
    assert biases == activated * (2 if norm == "batch" else 1) + outputs


def test_128_px_has_the_channels_of_introvac() -> None:
    """IntroVAC, section 4.1: 32, 64, 128, 256, 512 and latents of 256; IntroVAE's code too."""
    channels = [32, 64, 128, 256, 512]
    config = ModelConfig(
        arch="residual", resolution=128, fmap_base=2048, latent_dim=256, head="gaussian"
    )
    with torch.device("meta"):
        encoder, generator = Encoder(config, 128), Generator(config, 128)
    assert kernels_of(encoder.rgb["128"]) == [(32, 3, 5, 5)]
    (*blocks, last) = reversed(encoder.blocks.values())
    widths = [block.residual.second.weight.shape[0] for block in blocks]
    assert widths == [*channels[1:], 512]
    assert kernels_of(last) == [(512, 512, 4, 4)]  # 2 * 256 outputs
    (first, *rest) = generator.blocks.values()
    widths = [block.second.weight.shape[0] for block in (first.residual, *rest)]
    assert widths == [*reversed(channels), 32]
    assert kernels_of(generator.rgb["128"]) == [(3, 32, 5, 5)]


@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_norm_features_keep_their_size_through_the_blocks(seed) -> None:
    config = ModelConfig(
        arch="residual",
        resolution=128,
        fmap_base=2048,
        latent_dim=64,
        head="gaussian",
        encoder_norm="none",
        generator_norm="none",
    )
    nets = build_nets(config, 128, seed=seed)
    with torch.no_grad():
        # Large structures, as in photographs: the 2x2 means take nothing away.
        x = nets.encoder.rgb["128"](F.interpolate(randn(2, 3, 4, 4), 128, mode="bilinear"))
        seen = [x] + [x := block(x) for block in list(reversed(nets.encoder.blocks.values()))[:-1]]
        (first, *rest) = nets.generator.blocks.values()
        x = first.activation(first.first(randn(4, 64)))
        made = [x, x := first.residual(x)] + [x := block(x) for block in rest]
    for features in (seen, made):
        moments = [x.square().mean().item() for x in features]
        assert max(moments) < 4 * min(moments), moments
