"""A run that was stopped goes on as if it never was."""

import pytest
from runs import run_to, state_bytes, tiny_config

FADE_8, GROW_8, GROW_16 = 64, 48, 104


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_root):
    """Forty steps in one go: pioneer and vae."""
    from pgvae.data import Store

    runs = {}
    for objective in ("pioneer", "vae"):
        store = Store(data_root / "tiny")
        run_dir = tmp_path_factory.mktemp(objective)
        run_to(tiny_config(store, objective), store, run_dir, 0.160)
        store.close()
        runs[objective] = state_bytes(run_dir, 160)
    return runs


@pytest.mark.parametrize("objective", ["pioneer", "vae"])
@pytest.mark.parametrize("cut", [FADE_8, GROW_8 - 4, GROW_8, GROW_8 + 4, GROW_16, 80, 140])
def test_forty_steps_equal_two_parts_in_every_byte(objective, cut, whole, store, tmp_path):
    config = tiny_config(store, objective)
    run_to(config, store, tmp_path, cut / 1000)
    run_to(config, store, tmp_path, 0.160)
    parts = state_bytes(tmp_path, 160)
    assert parts.keys() == whole[objective].keys()
    assert [name for name in parts if parts[name] != whole[objective][name]] == []


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
