"""Thousands of iterations through seven sizes: what a run holds and leaves does not grow."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from events import records_of
from long_run import ITERATIONS, KEPT
from PIL import Image

from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import Split, folder
from pgvae.snapshot import snapshots_in
from pgvae.training.checkpoint import checkpoints_in, is_whole

DRIFT = 0.02
LOOK = 0.5  # seconds
LEFT = 80  # iterations that are not done when it is killed: more than it does between two looks


def records_in(file: Path) -> list[dict]:
    """Every line of a file of JSON that is being written; the last one may lack its end."""
    *lines, _ = file.read_text().split("\n") if file.exists() else [""]
    return [json.loads(line) for line in lines]


def look(run: Path) -> None:
    """What a run keeps is not more than it is asked to; one more while the newest is written."""
    assert len(checkpoints_in(run)) <= 3
    assert len(snapshots_in(run)) <= KEPT + len(ITERATIONS)
    records_in(run / "stats.jsonl")


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> tuple[Path, list[dict]]:
    """A run that was killed near its end, and what it held before each iteration."""
    place = tmp_path_factory.mktemp("long")
    (place / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(16):
        picture = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        picture.resize((256, 256)).save(place / "pictures" / f"{number}.png")
    recipe = folder("long", place / "pictures", Split(fraction=4 / 16))
    prepare(recipe, Options(workers=0), place / "data", say=lambda _: None)
    run, samples = place / "run", place / "samples.jsonl"
    run.mkdir()
    words = [Path(__file__).with_name("long_run.py"), place / "data" / "long", run, samples]
    with (
        (place / "said.txt").open("w") as said,
        subprocess.Popen(
            [sys.executable, *map(str, words)], stdout=said, stderr=subprocess.STDOUT
        ) as process,
    ):
        while len(records_in(samples)) < sum(ITERATIONS.values()) - LEFT:
            assert process.poll() is None, (place / "said.txt").read_text()[-2000:]
            look(run)
            time.sleep(LOOK)
        process.kill()
    return run, records_in(samples)


def settled(samples: list[dict], resolution: int) -> list[dict]:
    """Those of a stage after its fade and half of what follows: pictures have been made in it."""
    stage = [sample for sample in samples if sample["resolution"] == resolution]
    return stage[len(stage) * 5 // 8 :]


@pytest.mark.slow
def test_memory_files_and_threads_stay_as_they_are_within_each_stage(killed):
    _, samples = killed
    before: dict = {}
    for resolution in ITERATIONS:
        stage = settled(samples, resolution)
        middle = len(stage) // 2
        first, last = (
            statistics.median(sample["rss"] for sample in part)
            for part in (stage[:middle], stage[middle:])
        )
        now = {what: {sample[what] for sample in stage} for what in ("files", "threads")}
        print(f"{resolution} px: {first / 1024:.1f} -> {last / 1024:.1f} MiB, {now}")
        assert abs(last / first - 1) < DRIFT
        assert {len(values) for values in now.values()} == {1}, now
        before = before or now
        # The set's file of a size is opened once the size is reached.
        assert max(now["files"]) - max(before["files"]) <= len(ITERATIONS)
        assert max(now["threads"]) - max(before["threads"]) <= 2


@pytest.mark.slow
def test_what_a_killed_run_leaves_is_bounded_and_readable_to_its_last_line(killed):
    run, samples = killed
    assert len(checkpoints_in(run)) == 2
    assert all(map(is_whole, checkpoints_in(run)))
    assert len(snapshots_in(run)) <= KEPT + len(ITERATIONS) - 1
    stats = records_in(run / "stats.jsonl")
    assert {record["resolution"] for record in stats if "resolution" in record} == {*ITERATIONS}
    assert samples[-1]["images"] - stats[-1]["images"] <= 2 * samples[-1]["images"] / 100
    (events,) = run.glob("events.out.tfevents.*")
    assert len(records_of(events)) > 1000
