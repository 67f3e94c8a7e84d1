"""A run that was stopped goes on as if it never was."""

import dataclasses
from pathlib import Path

import pytest
from runs import LABELLED, PRETRAINED, StopAfter, run_to, state_bytes, tiny_config

from pgvae.data import Store
from pgvae.errors import Preempted
from pgvae.objectives import OBJECTIVES
from pgvae.training import engine

FADE_8, GROW_8, GROW_16 = 64, 48, 104
OTHERS = [name for name in OBJECTIVES if name not in ("pioneer", "vae")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_root):
    """Forty steps in one go: pioneer and vae."""
    runs = {}
    for objective in ("pioneer", "vae"):
        store = Store(data_root / "tiny")
        run_dir = tmp_path_factory.mktemp(objective)
        run_to(tiny_config(store, objective), store, run_dir, 0.160)
        store.close()
        runs[objective] = state_bytes(run_dir, 160)
    return runs


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Tensors of two checkpoints that are not the same."""
    assert one.keys() == other.keys()
    return [name for name in one if one[name] != other[name]]


@pytest.mark.parametrize("objective", ["pioneer", "vae"])
@pytest.mark.parametrize("cut", [FADE_8, GROW_8 - 4, GROW_8, GROW_8 + 4, GROW_16, 80, 140])
def test_forty_steps_equal_two_parts_in_every_byte(objective, cut, whole, store, tmp_path):
    config = tiny_config(store, objective)
    run_to(config, store, tmp_path, cut / 1000)
    run_to(config, store, tmp_path, 0.160)
    assert differing(state_bytes(tmp_path, 160), whole[objective]) == []


def stop_and_go_on(config, store: Store, folder: Path, monkeypatch, *steps: int) -> list[str]:
    """Run in one go, and in parts that a signal ends after `steps`; -> tensors that differ.

    A shorter schedule would not do as a stop: annealing goes by the share of the run.
    """
    total = config.schedule.total_kimg
    run_to(config, store, folder / "whole", total)
    for count in steps:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "train_step", StopAfter(count))
            with pytest.raises(Preempted):
                run_to(config, store, folder / "parts", total)
    run_to(config, store, folder / "parts", total)
    images = round(1000 * total)
    whole, parts = (state_bytes(folder / name, images) for name in ("whole", "parts"))
    return differing(parts, whole)


@pytest.mark.parametrize("objective", OTHERS)
def test_every_other_objective_goes_on_from_pretraining_and_from_a_fade(
    objective, data_root, faces, tmp_path, monkeypatch
):
    store = Store(faces if objective in LABELLED else data_root / "tiny")
    config = tiny_config(store, objective, pretrain_kimg=0.012 if objective in PRETRAINED else 0.0)
    shorter = dataclasses.replace(config.schedule, total_kimg=0.08)
    config = dataclasses.replace(config, schedule=shorter)
    # After 8 and after 64 images: within pre-training, and half-way of the fade of 8 px.
    assert stop_and_go_on(config, store, tmp_path, monkeypatch, 2, 14) == []
    store.close()


def test_a_run_with_batch_norm_and_balanced_labels_goes_on(faces, tmp_path, monkeypatch):
    store = Store(faces)
    config = tiny_config(store, "vac")
    norms = {"encoder_norm": "batch", "generator_norm": "batch"}
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **norms),
        labels=dataclasses.replace(config.labels, balance=("hat",)),
        schedule=dataclasses.replace(config.schedule, total_kimg=0.08),
    )
    assert stop_and_go_on(config, store, tmp_path, monkeypatch, 14) == []
    store.close()


def test_the_bytes_hold_all_that_a_run_is(whole):
    names = whole["pioneer"]
    assert any(name.endswith(".u") for name in names)
    assert any(name.startswith("adam/encoder/exp_avg_sq/") for name in names)
    assert any(name.startswith("ema/") for name in names)
    assert "pool" in names


def test_another_seed_gives_other_bytes(whole, store, tmp_path):
    config = tiny_config(store, "pioneer", seed=1)
    run_to(config, store, tmp_path, 0.160)
    assert state_bytes(tmp_path, 160) != whole["pioneer"]
