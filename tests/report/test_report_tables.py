"""Tables of the page: stages, evaluations."""

import json
import math

import pytest
from report_runs import config, make_run, page_of, schedule, tick


def test_stages_are_a_table(tmp_path):
    settings = ({}, {"lambda_x": 3.0}, {}, {"lambda_x": 4.0}, {"lambda_x": 4.0})
    plan = schedule(settings=settings, batch_sizes=(16, 8, 4))
    page = page_of(make_run(tmp_path / "run", [tick(100)], run_config=config(schedule=plan)))
    cells = [text for _, text in page.all("td")]
    assert [cells[i : i + 7] for i in range(0, len(cells), 7)] == [
        ["4 px", "0", "2", "–", "16", "0.001", ""],
        ["8 px", "2", "4", "3", "8", "0.001", "fading lambda_x 3; then as usual"],
        ["16 px", "4", "8", "5", "4", "0.001", "lambda_x 4"],
    ]


def test_an_evaluation_is_a_table_of_values_and_floors(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    details = {"16 px": 80.125, "8 px": 2}
    swd = {"label": "SWD x 1000", "value": 63.5, "floor": 7.25, "better": "lower"}
    metrics = {
        "swd": {**swd, "details": details},
        "fid": {"value": 55.25, "std": 0.5, "odd": [1, None]},
        "plain": 3,
        "broken": {"value": math.nan, "floor": None},
    }
    about = {"snapshot": "s.safetensors", "dataset": "faces", "split": "val", "count": 2000}
    values = {**about, "seed": 3, "resolution": 16, "images_seen": 6000, "metrics": metrics}
    (run / "evaluation-a.json").write_text(json.dumps(values))
    page = page_of(run)
    said = "s.safetensors, faces, val, 2,000 images, 16 px, seed 3, after 6 kimg"
    assert said in page.all("h3")[0][1]
    table = page.all("table")[-1][1]
    assert table.startswith("MetricValueFloorBetterDetails")
    assert ({"class": "number"}, "3") in page.all("td")
    for row in (
        "SWD x 100063.57.25lower16 px 80.12, 8 px 2",
        "fid55.25–std 0.5, odd [1, null]",
        "plain3–",
        "brokenNaN–",
    ):
        assert row in table


@pytest.mark.parametrize("metrics", [{}, {"a": None}, {"a": {}}, {"a": [1]}, {"a": 10**400}])
def test_an_odd_evaluation_is_shown_as_far_as_it_goes(tmp_path, metrics):
    run = make_run(tmp_path / "run", [tick(100)])
    odd = {"images_seen": math.nan, "count": 1.5, "seed": math.inf, "metrics": metrics}
    (run / "evaluation.json").write_text(json.dumps(odd))
    page = page_of(run)
    assert "evaluation.json" in page.text
    assert [text for _, text in page.all("th")][-3:] == ["Metric", "Value", "Floor"]
