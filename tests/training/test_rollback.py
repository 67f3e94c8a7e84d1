"""Numbers that stop being finite: once back to the newest checkpoint, and then a clear stop."""

import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from runs import altered, run_to, state_after, state_bytes, tiny_config

from pgvae.errors import NotFiniteError
from pgvae.objectives import objective_from
from pgvae.training import engine
from pgvae.training.checkpoint import checkpoints_in, load_checkpoint
from pgvae.training.ranks import Ranks
from pgvae.training.rundir import RunDirectory

BAD = range(14, 17)  # iterations of the first try, at 56 to 64 images, after the checkpoint at 48


@pytest.fixture
def poisoned(monkeypatch):
    """Make the losses of all tries not a number in the iterations that `is_bad` says."""

    def poison(is_bad) -> None:
        calls = iter(range(10_000))

        def change(_, phase, nets, losses, context):
            bad = is_bad(next(calls))
            return {name: value * torch.nan if bad else value for name, value in losses.items()}

        monkeypatch.setattr(
            engine, "objective_from", lambda values: altered(objective_from(values), change)
        )

    return poison


def told(run_dir: Path) -> tuple[list[dict], str, dict]:
    """stats.jsonl, log.txt and status.json."""
    lines = (run_dir / "stats.jsonl").read_text().splitlines()
    status = json.loads((run_dir / "status.json").read_text())
    return [json.loads(line) for line in lines], (run_dir / "log.txt").read_text(), status


def test_three_bad_iterations_go_back_once_and_on_with_other_images(
    store, tmp_path, poisoned, monkeypatch
):
    seeds, loader = [], engine.Loader
    monkeypatch.setattr(
        engine,
        "Loader",
        lambda *a, seed, **more: seeds.append(seed) or loader(*a, seed=seed, **more),
    )
    poisoned(lambda call: call in BAD)
    config = tiny_config(store, "vae")
    run_to(config, store, tmp_path, 0.160)
    stats, log, status = told(tmp_path)
    assert (status["status"], status["images_seen"]) == ("done", 160)
    assert [(s["images"], s["rollbacks"]) for s in stats if "rollbacks" in s] == [(48, 1)]
    assert [s["images"] for s in stats] == sorted(s["images"] for s in stats)
    assert "not finite (both/rec nan" in log
    assert "back to the checkpoint at 48, once, with another order of images" in log
    assert seeds[0] == config.seed
    assert len(seeds) == len(set(seeds)) == 2

    # A run that goes on from a checkpoint after it is the same run.
    whole = state_bytes(tmp_path, 160)
    shutil.rmtree(tmp_path / "checkpoint-000000160")
    run_to(config, store, tmp_path, 0.160)
    assert state_bytes(tmp_path, 160) == whole


def test_the_networks_that_failed_are_gone_before_those_of_the_checkpoint_are_loaded(
    store, tmp_path, poisoned, monkeypatch
):
    poisoned(lambda call: call in BAD)
    step, load, trained, left = engine.train_step, engine.load_newest, [], []

    def stepping(state, *arguments):
        trained[:] = [weakref.ref(net) for net in state.nets.parts().values()]
        return step(state, *arguments)

    def loading(*arguments):
        left.append([net for net in trained if net() is not None])
        return load(*arguments)

    monkeypatch.setattr(engine, "train_step", stepping)
    monkeypatch.setattr(engine, "load_newest", loading)
    run_to(tiny_config(store, "vae"), store, tmp_path, 0.080)
    assert left == [[], []]
    assert trained


def test_where_going_back_does_not_help_the_run_stops_and_the_checkpoint_stays(
    store, tmp_path, poisoned
):
    poisoned(lambda call: call >= BAD[0])
    with pytest.raises(NotFiniteError, match=r"of 3 iterations in a row .*--lr") as caught:
        run_to(tiny_config(store, "vae"), store, tmp_path, 0.160)
    stats, log, status = told(tmp_path)
    assert (
        (status["status"], status["exit_code"])
        == ("failed", caught.value.exit_code)
        == (
            "failed",
            4,
        )
    )
    assert log.count("back to the checkpoint") == 1
    assert [p.name for p in checkpoints_in(tmp_path)] == ["checkpoint-000000048"]
    assert all(s["skipped_steps"] <= 3 for s in stats if "skipped_steps" in s)


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(store, tmp_path, poisoned):
    poisoned(lambda call: True)
    with pytest.raises(NotFiniteError):
        run_to(tiny_config(store, "vae"), store, tmp_path, 0.160)
    assert "back to" not in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("index", [0, 1])
def test_every_process_of_a_run_goes_back_at_the_same_iteration(
    index, store, tmp_path, poisoned, monkeypatch
):
    poisoned(lambda call: call in range(2, 5))  # between two checks, where the first one writes
    steps, step = [], engine.train_step
    monkeypatch.setattr(engine, "train_step", lambda *a: steps.append(1) or step(*a))
    ranks = Ranks()
    ranks.index, ranks.count = index, 2
    run = RunDirectory(tmp_path)
    with pytest.raises(NotFiniteError):
        engine.train(tiny_config(store, "vae"), store, run, torch.device("cpu"), ranks=ranks)
    run.close()
    assert len(steps) == 5


def test_a_moment_that_is_not_finite_never_gets_into_a_checkpoint(store, tmp_path, monkeypatch):
    step, broken = engine.train_step, []

    def breaking(state, *arguments):
        scalars = step(state, *arguments)
        if state.images_seen == 60 and not broken:  # once
            moments = state.optimizers["encoder"].state.values()
            broken.append(next(iter(moments))["exp_avg_sq"].fill_(torch.inf))
        return scalars

    monkeypatch.setattr(engine, "train_step", breaking)
    run_to(tiny_config(store, "vae"), store, tmp_path, 0.160)
    assert broken
    _, log, status = told(tmp_path)
    assert status["status"] == "done"
    assert "the optimiser's exp_avg_sq of encoder/" in log
    assert "at 104 images: back to the checkpoint at 48" in log
    for path in checkpoints_in(tmp_path):
        load_checkpoint(path, tiny_config(store, "vae"), torch.device("cpu")).require_finite()


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_averages_and_moments_are_looked_at(value):
    state = state_after(8, "vae")
    state.require_finite()
    adam = state.optimizers["generator"].state
    places = [
        state.nets.encoder.state_dict(),
        state.nets.ema.state_dict(),
        adam[next(iter(adam))],
    ]
    for tensors in places:
        tensor = next(t for t in tensors.values() if t.is_floating_point() and t.ndim > 0)
        kept = tensor.clone()
        with torch.no_grad():
            tensor.view(-1)[-1] = value
        with pytest.raises(NotFiniteError, match="became not finite"):
            state.require_finite()
        with torch.no_grad():
            tensor.copy_(kept)
    state.require_finite()
