"""Reading a run directory."""

import json
import math
import os
from itertools import pairwise

import pytest
from report_runs import config, finished, make_run, picture, schedule, tick

from pgvae.errors import InputError
from pgvae.report.collect import evenly, last_stage, read_run


def test_a_finished_run_is_read_as_it_was_written(tmp_path):
    run = read_run(finished(tmp_path / "run"))
    assert run.config == config()
    assert run.name == ("faces", "pioneer", "16 px")
    assert run.status["status"] == "done"
    assert run.images_seen == run.stats.images_seen == 8000
    assert run.stats.series["encoder/rec"].images[:2] == [100, 200]
    assert run.stats.series["encoder/rec"].values[:2] == [21, 11]
    assert run.stats.series["val/psnr"].last == 21.125
    assert [p.images_seen for p in run.fakes] == [2000, 4000, 6000, 8000]
    assert run.reals == run.path / "reals.png"
    assert (run.notes, run.evaluations, run.interpolation) == ([], [], None)


def test_a_folder_without_a_config_is_not_a_run(tmp_path):
    with pytest.raises(InputError, match="is not a run directory: it has no config"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="is not a run directory"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "[]", '{"a":', "\udcff", "[" * 100_000])
def test_a_damaged_config_is_an_error_of_one_line(tmp_path, text):
    run = make_run(tmp_path / "run", [tick(100)])
    (run / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"config.json cannot be read") as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_line_in_its_log_has_nothing_to_report(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(InputError, match="nothing to report yet: it has no stats"):
        read_run(run)
    (run / "stats.jsonl").unlink()
    with pytest.raises(InputError, match="nothing to report yet"):
        read_run(run)
    (run / "stats.jsonl").write_text("{\n{\n")
    with pytest.raises(InputError, match="no line of it can be read"):
        read_run(run)


def test_a_last_line_cut_short_is_left_out_silently(tmp_path):
    run = make_run(tmp_path / "run", [tick(100), tick(200)])
    text = (run / "stats.jsonl").read_text()
    (run / "stats.jsonl").write_text(text[:-20])
    found = read_run(run)
    assert found.stats.images_seen == 100
    assert (found.stats.damaged, found.notes) == (0, [])


def test_other_lines_that_cannot_be_read_are_counted(tmp_path):
    run = make_run(tmp_path / "run", [tick(100), tick(200)])
    first, second = (run / "stats.jsonl").read_text().splitlines()
    bad = ["{", "[]", "null", '{"time": 1}', '{"images": NaN}', '{"images": "x"}', '{"images": 50}']
    (run / "stats.jsonl").write_text("\n".join([first, *bad, second]) + "\n")
    found = read_run(run)
    assert found.stats.damaged == len(bad)
    assert found.notes == ["7 lines of stats.jsonl could not be read."]
    assert found.stats.series["img_per_s"].images == [100, 200]


def test_values_that_are_not_numbers_are_left_out_and_not_finite_ones_stay(tmp_path):
    line = tick(100, **{"encoder/rec": math.nan, "encoder/kl": -math.inf})
    run = make_run(tmp_path / "run", [{**line, "note": "hello", "yes": True, "list": [1]}])
    series = read_run(run).stats.series
    assert math.isnan(series["encoder/rec"].last)
    assert series["encoder/kl"].last == -math.inf
    assert not {"note", "yes", "list", "time", "images"} & series.keys()


def test_a_time_that_no_clock_shows_is_left_out(tmp_path):
    run = make_run(tmp_path / "run", [{**tick(100), "time": 1e300}, {**tick(200), "time": -5}])
    assert read_run(run).stats.times is None


def test_without_its_status_a_run_is_shown_with_a_note(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    (run / "status.json").write_text("{")
    assert "status.json could not be read" in read_run(run).notes[0]
    (run / "status.json").unlink()
    found = read_run(run)
    assert "status.json could not be read (No such file" in found.notes[0]
    assert (found.status, found.images_seen) == ({}, 100)


def test_a_config_of_another_version_is_shown_as_it_is(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "colour": "red"}))
    found = read_run(run)
    assert (found.config, found.schedule) == (None, None)
    assert found.values["colour"] == "red"
    assert "unknown run setting 'colour'" in found.notes[0]


def test_evaluations_that_cannot_be_read_are_notes(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    (run / "evaluation.json").write_text('{"metrics": {"swd": {"value": 1}}}')
    (run / "evaluation-a.json").write_text('{"metrics": []}')
    (run / "evaluation-b.json").write_text("{")
    (run / "evaluation-c.json").write_text("{}")
    found = read_run(run)
    assert [e.name for e in found.evaluations] == ["evaluation.json"]
    assert [note.split()[0] for note in found.notes] == [
        *("evaluation-a.json", "evaluation-b.json", "evaluation-c.json")
    ]


def test_pictures_are_in_the_order_of_images_and_others_are_not_taken(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)], snapshots=(2_000_000_000, 9))
    picture(run / "fakes-final.png")
    assert [p.images_seen for p in read_run(run).fakes] == [9, 2_000_000_000]


def test_the_newest_interpolation_is_taken(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    for name, at in (("interpolation.png", 20), ("interpolation-b.png", 30), ("a.png", 40)):
        os.utime(picture(run / name), (at, at))
    assert read_run(run).interpolation == run / "interpolation-b.png"


@pytest.mark.parametrize("count", [2, 3, 5, 9, 40])
@pytest.mark.parametrize("total", [0, 1, 2, 3, 9, 10, 100])
def test_evenly_chosen_items_have_the_first_and_the_last_and_even_gaps(total, count):
    items = list(range(total))
    chosen = evenly(items, count)
    assert len(chosen) == min(total, count)
    assert chosen[:1] == items[:1]
    assert chosen[-1:] == items[-1:]
    gaps = {b - a for a, b in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert 0 not in gaps


@pytest.mark.parametrize("sizes", [(16, 16, 16), (32, 8, 4), (8, 32, 12), (300, 7, 64)])
@pytest.mark.parametrize("first_kimg", [2.0, 2.008, 0.01])
def test_a_grid_is_of_the_stage_in_which_its_newest_batch_began(sizes, first_kimg):
    plan = schedule(batch_sizes=sizes, first_kimg=first_kimg)
    seen = 0
    while seen < plan.total_images:  # as the engine does
        stage = plan.at(seen)
        seen += stage.batch_size
        assert last_stage(plan, seen) == stage
    assert last_stage(plan, 0) == plan.at(0)
