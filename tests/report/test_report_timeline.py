"""The staircase of growth."""

from itertools import pairwise

import pytest
from report_runs import Page, schedule

from pgvae.report.timeline import outline, timeline


def test_the_staircase_has_a_slope_for_each_fade():
    assert outline(schedule()) == [
        *((0, 1 / 3), (2 / 8, 1 / 3), (3 / 8, 2 / 3)),
        *((4 / 8, 2 / 3), (5 / 8, 3 / 3), (1, 1)),
    ]


def test_it_follows_alpha_of_the_schedule():
    plan = schedule(total_kimg=4.25)
    corners = outline(plan)
    for (left, low), (right, high) in pairwise(corners):
        stage = plan.at(round((left + right) / 2 * plan.total_images))
        index = plan.resolutions.index(stage.resolution)
        assert (low + high) / 2 * 3 == pytest.approx(index + stage.alpha)


def test_a_run_that_ends_in_a_fade_ends_on_its_slope():
    assert outline(schedule(total_kimg=2.5))[-1] == (1, pytest.approx(1.5 / 3))


def test_a_run_without_growth_is_a_block():
    plan = schedule(resolutions=(16,), batch_sizes=(4,), learning_rates=(1e-3,))
    assert outline(plan) == [(0, 1), (1, 1)]


def test_a_schedule_without_fades_has_upright_steps():
    assert outline(schedule(fade_kimg=0.0))[1:3] == [(2 / 8, 1 / 3), (2 / 8, 2 / 3)]


def test_what_is_done_is_as_wide_as_the_images_seen():
    page = Page(timeline(schedule(), 3000, [2000]))
    [(done, _)] = page.all("svg", "done")
    assert (done["width"], done["viewbox"]) == ("37.50%", "0 0 375.0 100")
    [(now, _)] = page.all("line", "now")
    assert now["x1"] == now["x2"] == "37.50%"
    assert [a["x1"] for a, _ in page.all("line", "snapshot")] == ["25.00%"]


def test_a_finished_run_has_no_mark_where_it_is_and_one_that_went_on_is_full():
    for images in (8000, 9000):
        page = Page(timeline(schedule(), images, []))
        assert page.all("line", "now") == []
        assert page.all("svg", "done")[0][0]["width"] == "100.00%"


def test_a_run_at_its_start_has_nothing_done():
    assert Page(timeline(schedule(), 0, [])).all("svg", "done") == []


def test_labels_stand_over_the_stable_part_of_their_stage():
    page = Page(timeline(schedule(), 8000, []))
    labels = {text: a["x"] for a, text in page.all("text") if "px" in text}
    assert labels == {"4 px": "12.50%", "8 px": "43.75%", "16 px": "81.25%"}


def test_pretraining_and_learning_rates_are_marked():
    page = Page(timeline(schedule(pretrain_kimg=2.0, milestones_kimg=(4.0, 9.0)), 8000, []))
    [(bar, text)] = page.all("rect", "pretrain")
    assert (bar["width"], text) == ("25.00%", "pre-training as a VAE, 2 kimg")
    [(line, text)] = page.all("line", "rate")  # the one at 9 kimg is after the end
    assert (line["x1"], text) == ("50.00%", "learning rate times 0.5 after 4 kimg")


def test_it_is_described_in_words():
    [(svg, _), *_] = Page(timeline(schedule(total_kimg=3.5), 1234, [])).all("svg")
    assert svg["aria-label"] == (
        "Growth over 3.5 kimg: 4 px from 0 kimg, 8 px from 2 kimg. Seen so far: 1.234 kimg."
    )
