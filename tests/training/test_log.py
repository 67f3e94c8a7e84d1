"""What a run says: log.txt, stats.jsonl and TensorBoard."""

import json
from pathlib import Path

import pytest
import torch

from pgvae.schedule import Moment
from pgvae.training.log import RunLog

NOW = Moment(resolution=8, alpha=0.25, batch_size=4, lr=1e-3)


def lines_of(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]


def write(run_dir: Path, images_seen: int, *moments: int) -> None:
    """Open the log at `images_seen` and write one record at each moment."""
    log = RunLog(run_dir, images_seen, 1000)
    for moment in moments:
        log.stats(moment, {"loss": moment / 10})
    log.close()


def test_what_is_said_goes_to_the_file_and_the_terminal(tmp_path, capsys):
    log = RunLog(tmp_path, 0, 1000)
    log.say("hello, run")
    log.close()
    assert capsys.readouterr().out == "hello, run\n"
    line = (tmp_path / "log.txt").read_text()
    assert line.endswith(" hello, run\n")
    assert len(line.splitlines()) == 1


def test_a_tick_writes_the_means_since_the_last_one(tmp_path):
    log = RunLog(tmp_path, 0, 1000)
    for images, values in ((4, (1.0, 10.0)), (8, (3.0, 30.0))):
        named = dict(zip(("encoder/kl", "generator/kl"), map(torch.tensor, values), strict=True))
        log.step(named, images, NOW)
    log.tick(8, NOW, skipped_steps=2)
    log.step({"encoder/kl": torch.tensor(7.0)}, 12, NOW)
    log.tick(12, NOW)
    log.close()
    first, second = lines_of(tmp_path)
    assert first["images"] == 8
    assert (first["encoder/kl"], first["generator/kl"]) == (2.0, 20.0)
    assert (first["resolution"], first["alpha"], first["lr"]) == (8, 0.25, 1e-3)
    assert first["skipped_steps"] == 2
    assert first["img_per_s"] > 0
    assert (second["images"], second["encoder/kl"]) == (12, 7.0)
    assert "generator/kl" not in second
    text = (tmp_path / "log.txt").read_text()
    assert "encoder/kl 2" in text
    assert "alpha 0.25" in text


def test_lines_after_the_checkpoint_are_dropped_at_resume(tmp_path):
    write(tmp_path, 0, 4, 8, 12, 16)
    write(tmp_path, 8, 12, 20)
    assert [line["images"] for line in lines_of(tmp_path)] == [4, 8, 12, 20]


def test_a_resume_from_the_start_drops_them_all(tmp_path):
    write(tmp_path, 0, 4, 8)
    write(tmp_path, 0)
    assert lines_of(tmp_path) == []


@pytest.mark.parametrize(
    "cut", ["{", '{"images": 1', '{"images": 12, "time": 17', "4", "[]", "null"]
)
def test_a_half_written_last_line_is_dropped(tmp_path, cut):
    write(tmp_path, 0, 4, 8)
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write(cut)
    write(tmp_path, 100, 104)
    assert [line["images"] for line in lines_of(tmp_path)] == [4, 8, 104]


def test_a_last_line_that_lacks_only_its_end_is_not_run_into_the_next(tmp_path):
    write(tmp_path, 0, 4, 8)
    path = tmp_path / "stats.jsonl"
    path.write_text(path.read_text().removesuffix("\n"))
    write(tmp_path, 100, 104)
    assert [line["images"] for line in lines_of(tmp_path)] == [4, 8, 104]


def test_the_text_of_earlier_parts_stays(tmp_path):
    for text in ("first", "second"):
        log = RunLog(tmp_path, 0, 1000)
        log.say(text)
        log.close()
    assert [line.split()[-1] for line in (tmp_path / "log.txt").read_text().splitlines()] == [
        "first",
        "second",
    ]


def test_tensorboard_has_the_same_scalars_and_the_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, 0, 1000)
    log.stats(8, {"loss": 0.5})
    grid = torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()
    log.picture("fakes", grid, 8)
    log.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    [scalar] = events.Scalars("loss")
    assert (scalar.step, scalar.value) == (8, 0.5)
    assert events.Tags()["images"] == ["fakes"]
