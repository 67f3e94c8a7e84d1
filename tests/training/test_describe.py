"""What `--dry-run` prints."""

import dataclasses

import pytest
import torch
from runs import NO_STORE, tiny_config

from pgvae.config import ModelConfig, RunConfig
from pgvae.nn import build_nets, parameter_count
from pgvae.objectives import OBJECTIVES
from pgvae.request import Request
from pgvae.schedule import from_preset
from pgvae.training import describe as describe_module
from pgvae.training.describe import describe, settings_lines


def rows_of(config: RunConfig) -> list[list[str]]:
    """The words of each stage's line."""
    lines = [line.split() for line in describe(config).splitlines()]
    head = next(i for i, words in enumerate(lines) if words[0] == "px")
    return lines[head + 1 :]


@pytest.mark.parametrize("objective", ["pioneer", "vae", "introvac", "pggan", "ali"])
def test_each_stage_has_its_start_fade_batch_rate_and_the_parameters_of_its_networks(
    objective, monkeypatch
):
    monkeypatch.setattr(describe_module, "memory_of", lambda *_, **__: 1.5)
    config = tiny_config(NO_STORE, objective, seed=5)
    starts = [("4", "0", "-"), ("8", "0.048", "0.032"), ("16", "0.104", "0.032")]
    rows = rows_of(config)
    for row, start in zip(rows, starts, strict=True):
        nets = build_nets(config.model, int(row[0]))
        order = (nets.generator, nets.encoder, nets.discriminator)
        counted = [f"{parameter_count(net):,}" for net in order if net is not None]
        words = [*start, "4", "0.001", *counted, "1.50", "GiB"]
        assert row[: len(words)] == words
    head = describe(config).splitlines()[0]
    for word in ("tiny", objective, "seed 5", "0.16 kimg", "3 stages"):
        assert word in head
    assert torch.zeros(1).device.type == "cpu"
    short = dataclasses.replace(config.schedule, total_kimg=0.06)
    never = rows_of(dataclasses.replace(config, schedule=short))
    assert never == [*rows[:2], ["16", "never"]]


def memory_of(resolutions: tuple[int, ...], batch: int | None = None) -> list[float]:
    """GiB at full width, by stage; described without memory for it."""
    schedule = from_preset(OBJECTIVES["pioneer"].schedule, resolutions, Request(batch=batch))
    model = ModelConfig(resolution=resolutions[-1])
    config = dataclasses.replace(tiny_config(NO_STORE), model=model, schedule=schedule)
    return [float(row[7]) for row in rows_of(config)]


def test_memory_grows_with_the_batch():
    assert min(memory_of((512, 1024))) > 0
    [small], [large] = memory_of((64,), 16), memory_of((64,), 64)
    assert 0 < small < large < 4 * small


def test_memory_is_of_the_images_at_hand():
    config = dataclasses.replace(tiny_config(NO_STORE), model=ModelConfig(resolution=16))
    whole, small = (describe(config, size) for size in (None, 1))
    assert describe(config, 4) == describe(config, 100) == whole
    assert describe(config, 2).splitlines()[-1].split()[3] == "4"  # the batch is what it was
    assert small != whole


@pytest.mark.parametrize(("name", "first"), [("age", "an autoencoder"), ("introvae", "a VAE")])
def test_what_comes_before_the_game_is_called_by_its_name(name, first) -> None:
    config = tiny_config(NO_STORE, name, pretrain_kimg=0.02)
    assert settings_lines(config)[-1] == f"{first} for 0.02 kimg"
