"""Which run a request means, what may change as it goes on, and what is refused by name."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from runs import NO_STORE, FakeStore, tiny_config

from pgvae.errors import CorruptFileError, InputError
from pgvae.files import SUMS
from pgvae.objectives import OBJECTIVES
from pgvae.request import FREE, Request, kinds
from pgvae.training.plan import plan
from pgvae.training.resume import Kept, gone_on, in_force, newest_like
from pgvae.training.rundir import RunDirectory
from pgvae.values import option

ASKED = Request(dataset="faces", objective="pioneer", resolution=16, total_kimg=0.16)
DIGEST = FakeStore().digest
IDENTITY = ("objective", "resolution", "seed", "init_from")
# For every option that must stay: another value than that of the run.
OTHERS = {
    "objective": "vae",
    "resolution": 8,
    "size": "16x12",
    "seed": 3,
    "init_from": "a.safetensors",
    "grow": False,
    "start_resolution": 8,
    "settings": ("lambda_x=3",),
    "mirror": True,
    "optimizer": "muon",
    "augment": True,
    "schedule": "pggan",
    "kimg_per_stage": 3.0,
    "hours": 2.0,
    "ema_kimg": 5.0,
    "arch": "residual",
    "unit_variance": True,
    "encoder_norm": "none",
    "generator_norm": "none",
    "latent_dim": 16,
    "fmap_base": 16,
    "fmap_max": 16,
    "attributes": ("hat",),
    "label_thresholds": (0.2, 0.8),
    "balance": ("hat",),
}
# Of these, what needs other data, more of it, or another objective.
UNFIT = ("size", "attributes", "augment", "hours", "label_thresholds")


def made(outdir: Path, asked: Request = ASKED, start: str | None = None, **changes) -> Path:
    """The run directory of a request."""
    config = dataclasses.replace(plan(asked, FakeStore()), init_from=start, **changes)
    run = RunDirectory.create(outdir, config, asked)
    run.close()
    return run.path


def found(
    outdir: Path,
    asked: Request,
    digest: str = DIGEST,
    start: str | None = None,
    said: list[str] | None = None,
):
    """The run directory that `newest_like` finds; said: gets what it says."""
    planned, said = None, [] if said is None else said
    if start or not asked.init_from:
        planned = plan(asked, FakeStore())
        planned = dataclasses.replace(planned, dataset_digest=digest, init_from=start)
    kept = newest_like(outdir, asked, digest, start, planned, said.append)
    return kept and kept.path


def going_on(path: Path, digest: str = DIGEST, start: str | None = None, **asked):
    return gone_on(Kept.read(path), Request(**asked), digest, start)


# Finding the run


def test_a_run_goes_on_with_another_batch_in_some_stages_and_keeps_both_in_words(tmp_path):
    path = made(tmp_path, dataclasses.replace(ASKED, batch=8, lr={4: 0.25}))
    before = Kept.read(path).config.schedule.stages
    request, config, changes = going_on(path, batch={8: 2}, lr={16: 0.5})
    stages = config.schedule.stages
    assert [stage.batch_size for stage in stages] == [8, 2, 8]
    assert [stage.lr for stage in stages] == [0.25, before[1].lr, 0.5]
    assert (request.batch, request.lr) == ({4: 8, 8: 2, 16: 8}, {4: 0.25, 16: 0.5})
    assert "--batch 8:2 (before: 8)" in changes


def test_of_several_runs_of_a_request_the_newest_is_found_though_it_was_moved(tmp_path):
    paths = [made(tmp_path / "a") for _ in range(3)]
    assert found(tmp_path / "a", ASKED) == paths[2]
    assert found(paths[0], ASKED) == paths[0]  # a run directory itself
    assert found(tmp_path / "nowhere", ASKED) is None
    moved = shutil.move(tmp_path / "a", tmp_path / "moved") / paths[2].name
    assert found(tmp_path / "moved", ASKED) == moved
    assert going_on(moved) == (ASKED, Kept.read(moved).config, [])  # all stays as it was


@pytest.mark.parametrize("name", IDENTITY)
def test_a_request_for_another_run_finds_none_and_passes_the_others_over(name, tmp_path):
    first = made(tmp_path)
    other = dataclasses.replace(ASKED, **{name: OTHERS[name]})
    assert found(tmp_path, other) is None
    made(tmp_path, other, start="1" * 64 if name == "init_from" else None)
    assert found(tmp_path, ASKED) == first


def test_other_images_are_another_run_and_equal_ones_elsewhere_the_same(tmp_path):
    path = made(tmp_path)
    other = dataclasses.replace(ASKED, dataset="others")
    assert found(tmp_path, other, digest="f" * 64) is None
    with pytest.raises(InputError, match="the images, labels or split of faces have changed since"):
        found(tmp_path, ASKED, digest="f" * 64)
    assert found(tmp_path, dataclasses.replace(ASKED, dataset="elsewhere/faces")) == path
    with pytest.raises(InputError, match=r"digest f{16}, there 0{16}.*--dataset"):
        going_on(path, digest="f" * 64)


def test_other_hours_are_named_and_not_what_came_of_them(tmp_path):
    made(tmp_path, dataclasses.replace(ASKED, hours=1.0, kimg_per_stage=0.04))
    with pytest.raises(InputError, match=r"differs in --hours \(1 there, 2 here\): give"):
        found(tmp_path, dataclasses.replace(ASKED, hours=2.0, kimg_per_stage=0.08))


@pytest.mark.parametrize(
    "name",
    [n for n in OTHERS if n not in (*IDENTITY, *UNFIT)],
)
def test_a_slip_in_another_option_is_refused_by_name(name, tmp_path):
    path = made(tmp_path)
    with pytest.raises(InputError) as caught:
        found(tmp_path, dataclasses.replace(ASKED, **{name: OTHERS[name]}))
    assert f"differs in {option(name)} (" in str(caught.value)
    assert f"--resume {path}" in str(caught.value)


def test_what_is_said_or_left_open_is_the_same_where_the_value_is(tmp_path):
    path = made(tmp_path)
    for same in (
        dataclasses.replace(ASKED, seed=0, grow=True, start_resolution=4, fmap_max=512),
        dataclasses.replace(ASKED, size="16x16"),
        dataclasses.replace(ASKED, ema_kimg=10.0, schedule="pioneer"),
        dataclasses.replace(ASKED, objective=None, resolution=None, mirror=False),
    ):
        assert found(tmp_path, same) == path


def test_a_half_life_that_is_in_force_may_be_said_again(tmp_path):
    path = made(tmp_path)
    assert going_on(path, ema_kimg=10.0)[1].ema_kimg == 10.0
    by_iterations = made(tmp_path, dataclasses.replace(ASKED, schedule="pioneer_code"))
    with pytest.raises(InputError, match="cannot change in --ema-kimg"):
        going_on(by_iterations, ema_kimg=10.0)


def test_the_weights_count_that_a_run_started_from_and_not_their_name(tmp_path):
    first = dataclasses.replace(ASKED, init_from="/a/best.safetensors")
    path = made(tmp_path, first, start="1" * 64)
    same_name = dataclasses.replace(ASKED, init_from="/a/best.safetensors")
    moved = dataclasses.replace(ASKED, init_from="/b/moved.safetensors")
    assert found(tmp_path, same_name, start="1" * 64) == path
    assert found(tmp_path, same_name, start="2" * 64) is None
    assert found(tmp_path, moved, start="1" * 64) == path
    assert found(tmp_path, same_name) == path  # the file is gone, and not needed any more
    assert found(tmp_path, moved) is None
    assert going_on(path, init_from="/b/moved.safetensors", start="1" * 64)[2] != []
    with pytest.raises(InputError, match="cannot change in --init-from"):
        going_on(path, init_from="/a/best.safetensors", start="2" * 64)


@pytest.mark.parametrize("file", ["config.json", "request.json"])
@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "7", '{"resolutions": 3}', "\xff\xfe", None])
def test_a_damaged_run_is_passed_over_with_a_word_and_refused_where_it_is_named(
    file, text, tmp_path
):
    good, bad = made(tmp_path), made(tmp_path)
    error, words = CorruptFileError, f"{file} cannot be read"
    (bad / file).write_bytes((text or "").encode("latin-1"))
    if text is None:
        (bad / file).unlink()
        error, words = InputError, f"is no run directory|earlier version.*--init-from {bad}"
    said: list[str] = []
    assert found(tmp_path, ASKED, said=said) == good
    assert [line.startswith(f"warning: {bad} is passed over: ") for line in said] == [True]
    why = f"has lost its {file}" if text is None else f"{file} is not as it was written"
    with pytest.raises(CorruptFileError, match=why):
        Kept.read(bad)
    shutil.rmtree(good)
    with pytest.raises(CorruptFileError, match=f"{why}.*or leave --resume out to start a new run"):
        found(tmp_path, ASKED)  # it may be the one: nothing starts from zero here
    assert found(tmp_path, dataclasses.replace(ASKED, resolution=8)) is None
    (bad / SUMS).unlink()  # as of earlier versions
    with pytest.raises(error, match=words):
        Kept.read(bad)


def test_a_run_of_an_earlier_version_is_never_started_over(tmp_path):
    path = made(tmp_path)
    (path / "request.json").unlink()
    (path / SUMS).unlink()  # which such runs have not
    (path / "checkpoint-000000096").mkdir()
    with pytest.raises(InputError, match="earlier version"):
        found(tmp_path, ASKED)
    assert found(tmp_path, dataclasses.replace(ASKED, seed=1)) is None


# Going on


def test_every_option_may_change_or_is_refused_by_name(tmp_path):
    assert OTHERS.keys() | FREE == kinds().keys()
    path = made(tmp_path)
    for name, value in OTHERS.items():
        with pytest.raises(InputError, match="cannot change in --"):
            going_on(path, **{name: value})


def test_changes_are_in_the_config_and_told(tmp_path):
    path = made(tmp_path)
    kept = {"snapshot_kimg": 0.5, "metrics": ("psnr",), "metric_kimg": 0.25, "precision": "tf32"}
    asked = {"total_kimg": 9.0, "batch": 2, "lr": 0.5, "lr_milestones": (1.0, 2.0), **kept}
    asked |= {"device": "cpu", "workers": 1, "dataset": "moved/faces"}
    request, config, changes = going_on(path, **asked)
    before = Kept.read(path).config
    assert [(s.batch_size, s.lr) for s in config.schedule.stages] == [(2, 0.5)] * 3
    assert config.schedule.total_kimg == 9.0
    assert config.schedule.milestones_kimg == (1.0, 2.0)
    assert [config.schedule.start_of(i) for i in range(3)] == [0, 2_400_000, 4_800_000]
    assert config == dataclasses.replace(before, schedule=config.schedule, **kept)
    assert "--batch 2 (before: the default)" in changes
    assert len(changes) == len(asked)
    assert request == dataclasses.replace(ASKED, **asked)


def test_a_longer_run_keeps_what_were_shares_of_its_length(tmp_path):
    path = made(tmp_path, dataclasses.replace(ASKED, objective="as_introvae"))
    before = Kept.read(path).config.schedule
    assert (before.pretrain_kimg, before.anneal_kimg) == (0.16 / 200, 0.16)
    _, longer, _ = going_on(path, total_kimg=1.6)
    assert longer.schedule == dataclasses.replace(before, total_kimg=1.6)
    assert longer.schedule.at(160).progress == 1.0


def test_a_total_below_what_is_done_is_refused_and_the_old_one_is_not(tmp_path):
    path = made(tmp_path)
    (path / "checkpoint-000000300").mkdir()  # of a run of 160, its last batch went beyond
    with pytest.raises(InputError, match=r"--total-kimg 0.2: .* is at 0.3 of 0.16 kimg already"):
        going_on(path, total_kimg=0.2)
    assert going_on(path, total_kimg=0.16)[1] == Kept.read(path).config


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_is_not_pretrained_refuses_it_as_a_new_one_does(name, tmp_path):
    labels = ("hat",) if OBJECTIVES[name].needs_labels else None
    asked = dataclasses.replace(ASKED, objective=name, attributes=labels)
    path = made(tmp_path, asked)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    if OBJECTIVES[name].pretraining:
        assert going_on(path, pretrain_kimg=0.05)[1].schedule.pretrain_kimg == 0.05
    else:
        with pytest.raises(InputError, match=f"--pretrain-kimg 0.05: {name} is not pre-trained;"):
            going_on(path, pretrain_kimg=0.05)
    assert going_on(path, pretrain_kimg=0.0)[1].schedule.pretrain_kimg == 0.0
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


# Checkpoints that are gone


@pytest.mark.parametrize("there", ["status", "snapshot-000000096.safetensors", "best.safetensors"])
def test_a_run_whose_checkpoints_are_gone_does_not_start_over(there, tmp_path):
    path = made(tmp_path)
    Kept.read(path).require_checkpoint()  # it has nothing yet, and starts over
    if there == "status":
        (path / "status.json").write_text(json.dumps({"status": "running", "images_seen": 96}))
    else:
        (path / there).write_bytes(b"weights")
    with pytest.raises(InputError, match=r"has no checkpoint any more.*--init-from"):
        Kept.read(path).require_checkpoint()
    (path / "checkpoint-000000096").mkdir()
    with pytest.raises(CorruptFileError, match="all 1 checkpoints of"):
        Kept.read(path).require_checkpoint()
    assert Kept.read(path).images_seen == 96


def test_a_setting_that_an_earlier_run_has_not_is_at_its_default():
    config = tiny_config(NO_STORE, "pioneer")
    known = dict(config.objective)
    assert known.pop("rec_to_generator") is False
    earlier = dataclasses.replace(config, objective=known)
    assert in_force(earlier) == in_force(config)
    other = dataclasses.replace(config, objective={**known, "rec_to_generator": True})
    assert in_force(earlier)["settings"] != in_force(other)["settings"]
