"""Signs that a run goes wrong are told after ten ticks in a row, once."""

import dataclasses

import pytest
from runs import run_to, tiny_config, with_stages

from pgvae.training.watch import Watch

LOST, COLLAPSED = {"encoder/kl_gap": -0.1}, {"both/kl_real": 0.9, "both/rec": 3.0}
FINE = {"encoder/kl_gap": 0.1, "encoder/kl_real": 1.1}


def told(watch: Watch, means: dict[str, float], ticks: int) -> list[int]:
    """After how many of these ticks, from 1, there was something to say."""
    return [tick for tick in range(1, ticks + 1) if watch.warnings(means)]


@pytest.mark.parametrize(
    ("means", "words"),
    [(LOST, ["kl_gap < 0", "--lr", "--batch", "margin"]), (COLLAPSED, ["collapsed", "1 nat"])],
    ids=["lost", "collapsed"],
)
def test_a_sign_is_told_once_at_the_tenth_tick_and_again_once_it_was_gone(means, words):
    watch = Watch("gaussian")
    assert told(watch, means, 9) == []
    assert told(watch, FINE, 1) == []
    assert told(watch, means, 9) == []
    [line] = watch.warnings(means)
    assert all(word in line for word in ("warning: ", *words))
    assert "\n" not in line
    assert told(watch, means, 20) == []
    assert told(watch, FINE, 1) == []
    assert told(watch, means, 30) == [10]


def test_both_signs_at_once_are_both_told():
    watch = Watch("gaussian")
    means = {"encoder/kl_gap": -2.0, "encoder/kl_real": 0.0}
    assert told(watch, means, 9) == []
    assert len(watch.warnings(means)) == 2


@pytest.mark.parametrize(
    ("head", "means", "ticks"),
    [
        ("gaussian", FINE, []),
        ("gaussian", {"encoder/kl_gap": 0.0, "encoder/kl_real": 1.0}, []),  # neither is below
        ("gaussian", {"both/rec": 1.0}, []),
        ("gaussian", {}, []),
        ("sphere", {"encoder/kl_real": 0.0}, []),  # the moment KL of a sphere is no posterior's
        ("sphere", LOST, [10]),
        *(("gaussian", {f"{p}/kl_real": 0.5}, [10]) for p in ("pretrain", "encoder", "both")),
    ],
)
def test_what_is_a_sign_and_what_is_none(head, means, ticks):
    assert told(Watch(head), means, 20) == ticks


@pytest.mark.parametrize("collapses", [True, False])
def test_a_collapse_is_in_the_log_of_a_run(collapses, store, tmp_path):
    """A VAE whose KL is all that counts, and an autoencoder; each of its steps is a tick."""
    config = tiny_config(store, "vae" if collapses else "ae")
    if collapses:
        objective = {"name": "vae", "rec": "mse", "beta_kl": 1e6}
        config = with_stages(dataclasses.replace(config, objective=objective), lr=0.03)
    run_to(config, store, tmp_path, 0.160 if collapses else 0.048)
    log = (tmp_path / "log.txt").read_text()
    assert ("warning: the KL of real images has been below 1 nat" in log) == collapses
    assert "kl_gap" not in log
