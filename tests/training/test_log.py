"""What a run says: log.txt, stats.jsonl and TensorBoard."""

import json
import math
import os
from pathlib import Path

import pytest
import torch

from pgvae.errors import InputError
from pgvae.report.collect import read_run
from pgvae.schedule import Moment
from pgvae.training.log import RunLog

NOW = Moment(resolution=8, alpha=0.25, batch_size=4, lr=1e-3)


def lines_of(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]


def images_after(run_dir: Path, images_seen: int, *moments: int) -> list[int]:
    """Open the log at `images_seen` and write one record at each moment; -> those of the file."""
    log = RunLog(run_dir, images_seen, 1000)
    for moment in moments:
        log.stats(moment, {"loss": moment / 10})
    log.close()
    return [line["images"] for line in lines_of(run_dir)]


def test_what_is_said_goes_to_the_file_and_the_terminal_and_stays(tmp_path, capsys):
    for text in ("hello, run", "hello, again"):
        log = RunLog(tmp_path, 0, 1000)
        log.say(text)
        log.close()
        assert capsys.readouterr().out == f"{text}\n"
    first, second = (tmp_path / "log.txt").read_text().splitlines()
    assert first.endswith(" hello, run")
    assert second.endswith(" hello, again")


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
    assert first.pop("img_per_s") > 0
    assert first.pop("time") > 0
    assert first == {
        "images": 8,
        "resolution": 8,
        "alpha": 0.25,
        "lr": 1e-3,
        "skipped_steps": 2,
        "encoder/kl": 2.0,
        "generator/kl": 20.0,
    }
    assert (second["images"], second["encoder/kl"]) == (12, 7.0)
    assert "generator/kl" not in second
    text = (tmp_path / "log.txt").read_text()
    assert "encoder/kl 2" in text
    assert "alpha 0.25" in text


def test_a_number_that_is_not_finite_is_null_in_the_file_and_nan_in_a_report(tmp_path):
    log = RunLog(tmp_path, 0, 1000)
    log.stats(4, {"loss": math.nan, "kl": math.inf, "l1": -math.inf, "lr": 0.5})
    log.close()
    (line,) = (tmp_path / "stats.jsonl").read_text().splitlines()
    found = json.loads(line, parse_constant=pytest.fail)
    assert (found["loss"], found["kl"], found["l1"], found["lr"]) == (None, None, None, 0.5)
    (tmp_path / "config.json").write_text("{}")
    series = read_run(tmp_path).series
    assert series["lr"] == [(4, 0.5)]
    assert all(math.isnan(series[name][0][1]) for name in ("loss", "kl", "l1"))


def test_lines_after_the_checkpoint_are_dropped_at_resume(tmp_path):
    assert images_after(tmp_path, 0, 4, 8, 12, 16) == [4, 8, 12, 16]
    assert images_after(tmp_path, 8, 12, 20) == [4, 8, 12, 20]
    assert images_after(tmp_path, 0) == []


@pytest.mark.parametrize(
    "cut",
    [
        *("{", '{"images": 1', '{"images": 12, "time": 17', "4", "[]", "null", None),
        *('{"images": "x"}', '{"images": null}', '{"images": NaN}', '{"images": [8]}'),
    ],
)
def test_a_half_written_last_line_is_dropped_and_one_that_lacks_only_its_end_stays(tmp_path, cut):
    images_after(tmp_path, 0, 4, 8)
    path = tmp_path / "stats.jsonl"
    text = path.read_text()
    path.write_text(text + cut if cut else text.removesuffix("\n"))
    assert images_after(tmp_path, 100, 104) == [4, 8, 104]


def test_a_line_with_a_damaged_byte_is_dropped_with_a_word(tmp_path):
    images_after(tmp_path, 0, 4, 8)
    path = tmp_path / "stats.jsonl"
    for damaged in (b"\xff", b"\x85", b"\xc3"):
        path.write_bytes(b'{"images": 4' + damaged + b"}\n{\n" + path.read_bytes())
        (tmp_path / "log.txt").unlink()
        assert images_after(tmp_path, 100) == [4, 8]
        said = (tmp_path / "log.txt").read_text()
        assert said.endswith("warning: 2 damaged lines of stats.jsonl are dropped\n")


@pytest.mark.parametrize("name", ["log.txt", "stats.jsonl"])
def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} is a device, a pipe or a socket"):
        RunLog(tmp_path, 0, 1000)


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
