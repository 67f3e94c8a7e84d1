"""A run that was stopped goes on as if it never was."""

import dataclasses

import pytest
from runs import LABELLED, PRETRAINED, run_to, state_bytes, stop_after, tiny_config

from pgvae.data import Store
from pgvae.objectives import OBJECTIVES


@pytest.fixture(scope="module")
def whole_bytes(whole, tmp_path_factory, data_root) -> dict[str, dict[str, str]]:
    """Forty steps in one go: pioneer and vae."""
    store, vae = Store(data_root / "tiny"), tmp_path_factory.mktemp("vae")
    run_to(tiny_config(store, "vae"), store, vae, 0.160)
    store.close()
    return {"pioneer": state_bytes(whole, 160), "vae": state_bytes(vae, 160)}


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Tensors of two checkpoints that are not the same."""
    assert one.keys() == other.keys()
    return [name for name in one if one[name] != other[name]]


@pytest.mark.parametrize("objective", ["pioneer", "vae"])
@pytest.mark.parametrize("cut", [44, 48, 52, 64, 80, 104, 140])
def test_forty_steps_equal_two_parts_in_every_byte(objective, cut, whole_bytes, store, tmp_path):
    config = tiny_config(store, objective)
    run_to(config, store, tmp_path, cut / 1000)
    run_to(config, store, tmp_path, 0.160)
    assert differing(state_bytes(tmp_path, 160), whole_bytes[objective]) == []


BATCH_NORM = {"encoder_norm": "batch", "generator_norm": "batch"}


@pytest.mark.parametrize(
    ("objective", "norms", "balance"),
    [
        *((name, {}, ()) for name in OBJECTIVES if name not in ("pioneer", "vae")),
        ("vac", BATCH_NORM, ("hat",)),
    ],
    ids=str,
)
def test_every_other_objective_goes_on_from_pretraining_and_from_a_fade(
    objective, norms, balance, data_root, faces, tmp_path
):
    """A shorter schedule would not do as a stop: annealing goes by the share of the run."""
    store = Store(faces if objective in LABELLED else data_root / "tiny")
    config = tiny_config(store, objective, pretrain_kimg=0.012 if objective in PRETRAINED else 0.0)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **norms),
        labels=dataclasses.replace(config.labels, balance=balance),
        schedule=dataclasses.replace(config.schedule, total_kimg=0.08),
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_to(config, store, whole, 0.08)
    # After 8 and after 64 images: within pre-training, and half-way of the fade of 8 px.
    for count in (2, 14):
        stop_after(count, config, store, parts)
    run_to(config, store, parts, 0.08)
    assert differing(state_bytes(parts, 80), state_bytes(whole, 80)) == []
    store.close()


def test_the_bytes_hold_all_that_a_run_is_and_go_by_the_seed(whole_bytes, store, tmp_path):
    names = whole_bytes["pioneer"]
    assert any(name.endswith(".u") for name in names)
    assert any(name.startswith("adam/encoder/exp_avg_sq/") for name in names)
    assert any(name.startswith("ema/") for name in names)
    assert "pool" in names
    run_to(tiny_config(store, "pioneer", seed=1), store, tmp_path, 0.160)
    assert state_bytes(tmp_path, 160) != names
