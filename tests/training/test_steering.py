"""How much a critic's images are augmented: p by its recurrence, and what a run keeps of it."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import (
    CPU,
    NO_STORE,
    FakeStore,
    all_bytes,
    random_batch,
    run_to,
    state_after,
    state_bytes,
    stop_after,
    tiny_config,
)

from pgvae.data import Store
from pgvae.errors import InputError
from pgvae.files import SUMS, sums_of
from pgvae.objectives import OBJECTIVES, objective_from
from pgvae.objectives.vae import Vae
from pgvae.request import Request
from pgvae.training import engine, steering
from pgvae.training.checkpoint import load_checkpoint, save_checkpoint
from pgvae.training.plan import plan
from pgvae.training.ranks import Ranks
from pgvae.training.rehearsal import bytes_of_iteration
from pgvae.training.steering import MOST, STEP, TARGET, Steering, gap_of, stepped
from pgvae.training.step import train_step

GAMES = [name for name, kind in OBJECTIVES.items() if kind().plays_at(16)]


@pytest.fixture
def often(monkeypatch) -> None:
    """A look every 12 images, and any gap at all is too much: p rises by 0.3 a look."""
    for module in (engine, steering):
        monkeypatch.setattr(module, "INTERVAL", 12)
    monkeypatch.setattr(steering, "STEP", 0.3)
    monkeypatch.setattr(steering, "TARGET", -1.0)


def stats_of(run: Path) -> list[dict[str, float]]:
    """What stats.jsonl says of the augmentation."""
    records = map(json.loads, (run / "stats.jsonl").read_text().splitlines())
    return [{k: v for k, v in r.items() if k != "time"} for r in records if "augment/p" in r]


# --- the recurrence


def test_p_follows_the_recurrence():
    gaps = [0.9, 0.6, 0.51, 0.2, 0.0, 0.1, math.nan, 1.0, *[1.0] * 20, 0.49]
    p, expected = 0.0, 0.0
    for gap in gaps:
        p = stepped(p, gap)
        if gap == gap:
            expected += STEP if gap >= TARGET else -STEP
            expected = 0.0 if expected < 0 else MOST if expected > MOST else expected
        assert p == pytest.approx(expected, abs=1e-6)
    assert p == pytest.approx(MOST - STEP)


@pytest.mark.parametrize("scale", [1.0, -3.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, -7.0])
def test_the_gap_is_the_share_of_the_way_whatever_the_scale(scale, shift):
    train, unseen, made = (abs(scale) * value + shift for value in (1.0, 1.75, 4.0))
    assert gap_of(train, unseen, made) == pytest.approx(0.25)
    assert gap_of(train, made, made) == 1.0
    assert gap_of(train, train, made) == 0.0
    assert gap_of(train, 2 * made - train, made) == 1.0
    assert gap_of(train, 2 * train - made, made) == 0.0


def test_a_critic_that_tells_nothing_has_learned_nothing_by_heart():
    assert gap_of(1.0, 5.0, 1.0) == 0.0
    assert gap_of(2.0, 5.0, 1.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_where_a_value_is_not_finite_p_stays(bad):
    for values in itertools.permutations((1.0, 2.0, bad)):
        assert stepped(0.35, gap_of(*values)) == 0.35


# --- a look


@pytest.mark.parametrize("name", GAMES)
def test_a_look_changes_p_and_nothing_else(name, data_root, faces, often):
    objective = OBJECTIVES[name]()
    store = Store(faces if objective.needs_labels else data_root / "tiny")
    state = state_after(108, name)
    state.augment = 0.2
    before, random = all_bytes(state), torch.random.get_rng_state()
    config = dataclasses.replace(state.config, augment=True)
    figures = Steering(config, store, CPU).look(state, config.schedule.at(107))
    assert list(figures) == ["p", "gap", "critic train", "critic unseen", "critic made"]
    assert figures["p"] == state.augment == 0.5
    assert all(map(math.isfinite, figures.values()))
    assert all_bytes(state) == before
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(net.training for net in state.nets.trained().values())
    store.close()


def test_a_critic_that_knows_its_images_by_heart_is_found(store, monkeypatch):
    """One that says how far an image is from the nearest training image."""
    state = state_after(4, "introvae")
    seen = Steering(state.config, store, CPU)._sides(4)[0]

    class ByHeart(type(objective_from(state.config.objective))):
        def unreal(self, nets, images, context):
            return (images[:, None] - seen[None]).abs().mean(dim=(2, 3, 4)).amin(dim=1).mean()

    found = Steering(state.config, store, CPU)
    found._objective = ByHeart(**dataclasses.asdict(found._objective))
    figures = found.look(state, state.config.schedule.at(0))
    train, unseen, made = (figures[f"critic {side}"] for side in ("train", "unseen", "made"))
    assert train < 1e-6 < unseen
    assert figures["gap"] == pytest.approx(min(1, unseen / made), rel=1e-4)


def test_sides_are_as_large_as_each_other_and_of_their_splits(store):
    train, unseen = Steering(tiny_config(store), store, CPU)._sides(8)
    assert train.shape == unseen.shape == (4, 3, 8, 8)
    assert len({image.numpy().tobytes() for image in (*train, *unseen)}) == 8


@pytest.mark.parametrize(("name", "moment"), [("rivae", 3), ("introvae", 3), ("vae", 3)])
def test_where_there_is_no_game_there_is_no_look(name, moment, store):
    config = tiny_config(store, name, pretrain_kimg=0.012 if name == "introvae" else 0.0)
    state = state_after(4, name)
    assert Steering(config, store, CPU).look(state, config.schedule.at(moment)) == {}
    assert state.augment == 0.0


def test_all_processes_have_the_p_of_the_first(store):
    class Told(Ranks):
        def told(self, value):
            return 0.65

    state = state_after(4, "introvae")
    state.ranks = Told()
    assert Steering(state.config, store, CPU).look(state, state.config.schedule.at(0))["p"] == 0.65
    assert state.augment == 0.65


# --- a run


@pytest.mark.parametrize("name", ["rivae", "introvae", "pioneer", "pggan"])
def test_a_run_that_was_stopped_goes_on_with_p_in_every_byte(name, store, often, tmp_path):
    config = tiny_config(store, name, augment=True)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_to(config, store, whole, 0.160)
    for count in (4, 11, 12):  # after 16, 44 and 48 images: 48 is a look
        stop_after(count, config, store, parts)
    run_to(config, store, parts, 0.160)
    assert state_bytes(parts, 160) == state_bytes(whole, 160)
    assert stats_of(parts) == stats_of(whole)
    found = [record["augment/p"] for record in stats_of(whole)]
    assert found == [0.3, 0.6, *[0.8] * (len(found) - 2)]
    about = json.loads((parts / "checkpoint-000000160" / "state.json").read_text())
    assert about["augment"] == 0.8


@pytest.mark.parametrize("name", ["rivae", "introvae", "age"])
def test_at_p_0_the_bytes_are_those_without(name, store, often, monkeypatch, tmp_path):
    monkeypatch.setattr(steering, "TARGET", 2.0)  # no gap is too much
    for augment in (False, True):
        config = tiny_config(store, name, augment=augment)
        run_to(config, store, tmp_path / str(augment), 0.160)
    one, other = (tmp_path / str(augment) for augment in (False, True))
    assert state_bytes(one, 160) == state_bytes(other, 160)
    assert stats_of(one) == []
    assert {record["augment/p"] for record in stats_of(other)} == {0.0}


def test_a_checkpoint_holds_p_and_one_of_before_goes_on_at_0(tmp_path):
    state = state_after(4)
    state.augment = 0.35
    path = save_checkpoint(tmp_path, state)
    assert load_checkpoint(path, state.config, CPU).augment == 0.35
    about = json.loads((path / "state.json").read_text())
    del about["augment"]
    (path / "state.json").write_text(json.dumps(about))
    (path / SUMS).write_bytes(sums_of(path, ("state.safetensors", "state.json")))
    assert load_checkpoint(path, state.config, CPU).augment == 0.0


@pytest.mark.parametrize("name", GAMES)
def test_an_augmented_step_learns_something_else(name):
    states = [state_after(72, name) for _ in range(2)]
    states[1].augment = 0.8
    for state in states:
        moment = state.config.schedule.at(100)
        state.enter(moment)
        state.images_seen = 100
        objective = OBJECTIVES[name](**({"game_from": 8} if name == "rivae" else {}))
        train_step(state, objective, moment, random_batch(state), "fp32")
    assert all_bytes(states[0]) != all_bytes(states[1])


# --- asked for


def test_it_is_planned_where_it_is_asked_for():
    asked = Request(objective="rivae", augment=True)
    store = FakeStore()
    store.split = lambda name: np.arange({"train": 3, "val": 9}[name])
    assert plan(asked, store).augment
    assert not plan(dataclasses.replace(asked, augment=False), store).augment
    assert not plan(dataclasses.replace(asked, augment=None), store).augment


@pytest.mark.parametrize("request_", [
    Request(objective="ae"), Request(objective="vae"),
    Request(objective="vac", attributes=("glasses",)),
    Request(objective="rivae", settings=("game=0",)),
    Request(objective="rivae", settings=("game_from=64",)),
    Request(objective="introvae", settings=("alpha=0",)),
], ids=lambda request: " ".join(request.words()))  # fmt: skip
def test_without_a_critic_it_is_refused_in_a_line(request_):
    with pytest.raises(InputError) as caught:
        plan(dataclasses.replace(request_, augment=True), FakeStore())
    assert str(caught.value) == (
        f"--augment: {request_.objective} as it is set has no critic that could learn images by "
        "heart; leave it out"
    )


def test_without_held_out_images_it_is_refused_in_a_line():
    with pytest.raises(InputError) as caught:
        plan(Request(objective="rivae", augment=True), FakeStore())
    assert str(caught.value) == (
        "--augment goes by held-out images, and faces has 1: prepare it with a --val-fraction that "
        "leaves 4 or more, or leave it out"
    )


def test_memory_is_rehearsed_with_it():
    plain, augmented = (
        sum(bytes_of_iteration(config, config.schedule.at(140)))
        for config in (tiny_config(NO_STORE, "introvae", augment=on) for on in (False, True))
    )
    assert augmented > plain
    assert Vae().plays_at(16) is False
