"""`--keep-snapshots`: which snapshots of a run stay."""

import dataclasses
from pathlib import Path

import pytest
from runs import run_to, tiny_config

from pgvae.errors import InputError
from pgvae.inference import directions_path
from pgvae.schedule import Schedule, Stage
from pgvae.training.record import superfluous

STAGES = tuple(Stage(r, 4, 1e-3, r > 4, 1.0) for r in (4, 8, 16))  # they end at 1, 3 and 5 kimg


def snapshots_of(run_dir: Path) -> list[int]:
    return sorted(int(path.stem[9:]) for path in run_dir.glob("snapshot-*.safetensors"))


@pytest.mark.parametrize("keep", [1, 2, 5, 100])
@pytest.mark.parametrize("last", [400, 1000, 3001, 3400, 5200])
def test_the_newest_and_the_last_of_each_stage_stay(keep, last):
    schedule = Schedule(STAGES, total_kimg=6.0)
    images = [n for n in range(200, 5400, 200) if n <= last] + [n for n in (3001,) if n <= last]
    images = sorted({*images} - {3000})  # a batch went beyond the end of the stage
    gone = superfluous(images, schedule, keep)
    kept = [n for n in images if n not in gone]
    assert kept[-keep:] == images[-keep:]
    assert {n for n in (1000, 3001) if n <= last} <= {*kept}
    assert len(kept) <= keep + 2


def test_a_run_deletes_what_it_is_not_asked_to_keep(store, tmp_path):
    config = tiny_config(store, snapshot_kimg=0.012)
    run_to(config, store, tmp_path, 0.096)  # as it was before, without a limit
    found = snapshots_of(tmp_path)
    assert found == [12, 24, 36, 48, 60, 72, 84, 96]
    named = tmp_path / "snapshot-000000036.safetensors"
    directions_path(named).touch()  # somebody's work
    config = dataclasses.replace(config, keep_snapshots=2)
    run_to(config, store, tmp_path, 0.160)
    assert snapshots_of(tmp_path) == [36, 48, 104, 156, 160]
    assert len([*tmp_path.glob("fakes-*.png")]) > 8


def test_none_at_all_cannot_be_kept(store):
    with pytest.raises(InputError, match="keep_snapshots is 0: use 1 or more"):
        tiny_config(store, keep_snapshots=0)
