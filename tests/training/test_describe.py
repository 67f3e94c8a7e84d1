"""What `--dry-run` prints."""

import dataclasses

import pytest
import torch
from runs import NO_STORE, tiny_config

from pgvae.config import ModelConfig
from pgvae.nn import build_nets, parameter_count
from pgvae.objectives import OBJECTIVES
from pgvae.request import Request
from pgvae.schedule import from_preset
from pgvae.training.describe import describe, saved_bytes


def rows_of(table: str) -> list[list[str]]:
    """The words of each stage's line."""
    lines = [line.split() for line in table.splitlines()]
    head = next(i for i, words in enumerate(lines) if words[0] == "px")
    return lines[head + 1 :]


@pytest.fixture(params=["pioneer", "vae", "balanced_pioneer", "introvac"])
def config(request):
    return tiny_config(NO_STORE, request.param)


def test_the_parameters_are_those_of_networks_built_for_training(config):
    rows = rows_of(describe(config))
    assert [row[0] for row in rows] == ["4", "8", "16"]
    for row in rows:
        nets = build_nets(config.model, int(row[0]))
        counted = [f"{parameter_count(net):,}" for net in (nets.generator, nets.encoder)]
        assert row[5:7] == counted


def test_each_stage_names_its_start_fade_batch_and_rate(config):
    rows = [row[1:5] for row in rows_of(describe(config))]
    assert rows == [
        ["0", "-", "4", "0.001"],
        ["0.048", "0.032", "4", "0.001"],
        ["0.104", "0.032", "4", "0.001"],
    ]


def test_the_head_names_data_objective_seed_and_length(config):
    head = describe(dataclasses.replace(config, seed=5)).splitlines()[0]
    for word in ("tiny", str(config.objective["name"]), "seed 5", "0.16 kimg", "3 stages"):
        assert word in head


def test_stages_after_the_end_never_come(config):
    short = dataclasses.replace(config.schedule, total_kimg=0.06)
    rows = rows_of(describe(dataclasses.replace(config, schedule=short)))
    assert [row[0] for row in rows] == ["4", "8", "16"]
    assert rows[2][1:] == ["never"]
    assert rows[1][1] == "0.048"


def test_the_whole_model_is_described_without_memory_for_it():
    model = ModelConfig(resolution=1024)
    schedule = from_preset(OBJECTIVES["pioneer"].schedule, (512, 1024))
    config = dataclasses.replace(tiny_config(NO_STORE), model=model, schedule=schedule)
    memory = [float(row[7]) for row in rows_of(describe(config))]
    assert memory[0] > 0
    assert memory[1] > 0


BATCH_NORM = {"arch": "residual", "encoder_norm": "batch", "generator_norm": "batch"}


@pytest.mark.parametrize("changes", [{}, {"arch": "residual"}, BATCH_NORM], ids=str)
@pytest.mark.parametrize("head", ["sphere", "gaussian"])
def test_activations_take_memory_that_grows_with_the_resolution(head, changes):
    widths = {"fmap_base": 256, "fmap_max": 16}
    model = ModelConfig(resolution=64, latent_dim=8, head=head, **widths, **changes)
    sizes = [saved_bytes(model, resolution) for resolution in (4, 8, 16, 32, 64)]
    for part in (0, 1):
        figures = [size[part] for size in sizes]
        assert figures[0] > 0
        assert figures == sorted(set(figures))


@pytest.mark.parametrize("changes", [{}, {"arch": "residual"}, BATCH_NORM], ids=str)
def test_the_estimate_is_what_a_real_pass_keeps(changes):
    model = ModelConfig(resolution=32, latent_dim=8, fmap_max=8, **changes)
    nets = build_nets(model, 32)
    images = torch.zeros(2, 3, 32, 32, requires_grad=True)
    passes = ((nets.generator, torch.zeros(2, 8)), (nets.encoder, images))
    for (net, inputs), estimate in zip(passes, saved_bytes(model, 32), strict=True):
        weights, kept = {id(p) for p in net.parameters()}, {}

        def keep(tensor, weights=weights, kept=kept):
            if id(tensor) not in weights and tensor.ndim == 4 and len(tensor) == 2:
                kept[id(tensor)] = tensor  # held, so that no other gets its id
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            net(inputs)
        assert estimate == sum(t.numel() * t.element_size() for t in kept.values()) // 2 > 0


def test_a_larger_batch_takes_more_memory():
    def memory(batch: int) -> float:
        schedule = from_preset(OBJECTIVES["pioneer"].schedule, (64,), Request(batch=batch))
        model = ModelConfig(resolution=64)
        config = dataclasses.replace(tiny_config(NO_STORE), model=model, schedule=schedule)
        return float(rows_of(describe(config))[0][7])

    small, large = memory(16), memory(64)
    assert 0 < small < large < 4 * small


def test_the_global_device_is_as_it_was(config):
    describe(config)
    assert torch.zeros(1).device.type == "cpu"
