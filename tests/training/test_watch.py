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
def test_a_sign_that_stays_is_told_once_at_the_tenth_tick(means, words):
    watch = Watch("gaussian")
    said = [watch.warnings(means) for _ in range(30)]
    assert [tick for tick, lines in enumerate(said, start=1) if lines] == [10]
    [line] = said[9]
    assert line.startswith("warning: ")
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("means", [LOST, COLLAPSED], ids=["lost", "collapsed"])
def test_a_sign_that_goes_for_one_tick_starts_again(means):
    watch = Watch("gaussian")
    assert told(watch, means, 9) == []
    assert told(watch, FINE, 1) == []
    assert told(watch, means, 19) == [10]
    assert told(watch, FINE, 1) == []
    assert told(watch, means, 10) == [10]


def test_both_signs_at_once_are_both_told():
    watch = Watch("gaussian")
    means = {"encoder/kl_gap": -2.0, "encoder/kl_real": 0.0}
    assert told(watch, means, 9) == []
    assert len(watch.warnings(means)) == 2


@pytest.mark.parametrize(
    "means",
    [
        FINE,
        {"encoder/kl_gap": 0.0, "encoder/kl_real": 1.0},  # neither is below
        {"both/rec": 1.0},
        {},
    ],
)
def test_a_run_without_signs_is_left_in_peace(means):
    assert told(Watch("gaussian"), means, 20) == []


def test_the_moment_kl_of_a_sphere_is_no_posteriors_and_may_be_anything():
    assert told(Watch("sphere"), {"encoder/kl_real": 0.0}, 20) == []
    assert told(Watch("sphere"), LOST, 20) == [10]


def test_the_kl_of_any_phase_counts():
    for phase in ("pretrain", "encoder", "both"):
        assert told(Watch("gaussian"), {f"{phase}/kl_real": 0.5}, 12) == [10]


def test_a_collapse_is_in_the_log_of_a_run(store, tmp_path):
    """A VAE whose KL is all that counts; each of its steps is a tick."""
    config = tiny_config(store, "vae")
    config = dataclasses.replace(
        config,
        objective={"name": "vae", "rec": "mse", "beta_kl": 1e6},
    )
    run_to(with_stages(config, lr=0.03), store, tmp_path, 0.160)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert sum("warning: the KL of real images has been below 1 nat" in line for line in lines) >= 1
    assert not any("kl_gap" in line for line in lines)


def test_a_run_that_goes_well_is_not_warned(store, tmp_path):
    run_to(tiny_config(store, "ae"), store, tmp_path, 0.040)
    assert "warning: the KL" not in (tmp_path / "log.txt").read_text()
