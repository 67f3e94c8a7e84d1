"""Reading a run directory."""

import json
import math

import pytest
from report_runs import PLAN, REQUEST, finished, make_run, picture, tick

from pgvae.errors import InputError
from pgvae.report.collect import read_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", [tick(100), tick(200)])


def test_a_finished_run_is_read_as_it_was_written(tmp_path):
    run = read_run(finished(tmp_path / "run"))
    assert (run.schedule, run.images_seen, run.status["status"]) == (PLAN, 8000, "done")
    assert run.series["encoder/rec"][:2] == [(100, 21), (200, 11)]
    assert run.series["val/psnr"][-1] == (8000, 21.125)
    assert [images for images, _ in run.grids["fakes"]] == [2000, 4000, 6000, 8000]
    assert run.command == REQUEST.words()
    assert (run.notes, run.evaluations) == ([], {})


@pytest.mark.parametrize("text", ["", "[]", '{"a":', "\udcff", "[" * 100_000])
def test_without_a_config_that_can_be_read_there_is_no_run(run, tmp_path, text):
    with pytest.raises(InputError, match="is not a run directory: it has no config"):
        read_run(tmp_path)
    (run / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"config.json cannot be read") as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_line_in_its_log_has_nothing_to_report(run):
    for text, why in (
        ("", "has no stats"),
        (None, "has no stats"),
        ("{\n{\n", "no line of it can"),
    ):
        (run / "stats.jsonl").unlink()
        if text is not None:
            (run / "stats.jsonl").write_text(text)
        with pytest.raises(InputError, match=f"nothing to report yet: .*{why}"):
            read_run(run)
        (run / "stats.jsonl").touch()


def test_damaged_lines_are_counted_but_for_a_last_one_that_is_cut_short(run):
    first, last = (run / "stats.jsonl").read_text().splitlines()
    bad = ["{", "[]", "null", '{"time": 1}', '{"images": NaN}', '{"images": "x"}', '{"images": 50}']
    (run / "stats.jsonl").write_text("\n".join([first, *bad, last[:-20]]))
    found = read_run(run)
    assert found.notes == ["Lines of stats.jsonl that could not be read: 7."]
    assert found.series["img_per_s"] == [(100, 10)]


def test_values_that_are_not_numbers_are_left_out_and_not_finite_ones_stay(tmp_path):
    line = {**tick(1, b=math.nan, c=-math.inf), "note": "hello", "yes": True, "list": [1]}
    late = [{"images": 2, "time": 1e300}, {"images": 3, "time": math.nan}]
    found = read_run(make_run(tmp_path / "run", [line, *late]))
    assert math.isnan(found.series["b"][0][1])
    assert found.series["c"] == [(1, -math.inf)]
    assert not {"note", "yes", "list", "time", "images"} & found.series.keys()
    assert found.times[0] == found.times[1]  # no clock shows the later ones


@pytest.mark.parametrize("name", ["status.json", "request.json", "evaluation-a.json"])
@pytest.mark.parametrize("text", ["{", "[]", '{"metrics": [], "images_seen": Infinity}', None])
def test_another_file_that_is_damaged_or_missing_is_a_note(run, name, text):
    (run / name).write_text(text or "")
    if text is None and not name.startswith("evaluation"):
        (run / name).unlink()
    [note] = read_run(run).notes
    assert note.startswith(f"{name} could not be read")
    assert read_run(run).images_seen == 200


def test_a_config_of_another_version_is_shown_as_it_is(run):
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "colour": "red"}))
    found = read_run(run)
    assert (found.schedule, found.values["colour"]) == (None, "red")
    assert "unknown run setting 'colour'" in found.notes[0]


def test_grids_are_in_the_order_of_images_and_other_pictures_are_not_taken(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)], snapshots=(2_000_000_000, 9))
    picture(run / "fakes-final.png")
    assert [images for images, _ in read_run(run).grids["fakes"]] == [9, 2_000_000_000]
