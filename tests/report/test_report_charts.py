"""Charts: which curves stand in one, where points are, what is marked."""

import base64
import math
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from report_runs import PLAN, STAGES

from pgvae.report import charts
from pgvae.schedule import Schedule


def draw(*curves: list[float], images=1000.0, schedule=None) -> tuple[Axes, list[str], str]:
    """A chart of curves with a value every 100 images, the second a floor: axes, texts, SVG."""
    lines = [
        charts.Curve(name, "", np.arange(1, len(values) + 1) * 100.0, np.array(values, float))
        for name, values in zip(("swd", "swd floor"), curves, strict=False)
    ]
    with matplotlib.rc_context(charts.STYLE):
        figure = charts.chart(charts.Panel("", "", lines), schedule, images)
        svg = base64.b64decode(charts.as_uri(figure).partition(",")[2]).decode()
    [axes] = figure.axes
    return axes, [text.get_text() for text in axes.texts if text.get_text()], svg


def test_one_term_is_one_chart_of_five_curves_at_most_and_sections_are_in_one_order():
    hats = [f"val/accuracy no {k}" for k in range(6)]
    names = ["lr", "encoder/rec", "encoder/kl", "metric/swd", "val/psnr", "generator/rec", "odd"]
    names += ["alpha", "resolution", "train/psnr", "metric/swd floor", *hats]
    series = {name: [(100, 0.5)] for name in names}
    found = charts.panels_of({**series, "skipped_steps": [(100, 0)]})
    assert {t: [[c.name for c in p.curves] for p in panels] for t, panels in found.items()} == {
        "Unseen images": [["val/psnr"], hats[:5], hats[5:]],
        "Training images, as the set has no unseen ones": [["train/psnr"]],
        "Metrics while training": [["metric/swd", "metric/swd floor"]],
        "Training": [["encoder/rec", "generator/rec"], ["encoder/kl"]],
        "Pace": [["lr"], ["odd"]],
    }
    [hat] = found["Unseen images"][2].curves
    assert (hat.label, hat.values.tolist()) == ("no 5", [50])
    assert [*charts.panels_of({"skipped_steps": [(100, 3)]})] == ["Pace"]


def test_points_are_where_they_belong_a_floor_is_dashed_gaps_are_marked_and_stages_behind():
    values = [1, 2, math.nan, math.inf, 3, 1e101]
    axes, texts, _ = draw(values, [4, 5], images=2500, schedule=PLAN)
    first, lost, floor, _ = axes.lines[2:]
    assert first.get_xydata()[[0, 1, 4]].tolist() == [[0.1, 1], [0.2, 2], [0.5, 3]]
    assert np.isnan(first.get_ydata()).tolist() == [False, False, True, True, False, True]
    assert lost.get_xdata().tolist() == pytest.approx([0.3, 0.4, 0.6])
    assert floor.get_xydata().tolist() == [[0.1, 4], [0.2, 5]]
    assert [line.get_linestyle() for line in (first, floor)] == ["-", "--"]
    assert (axes.get_xlim(), texts) == ((0, 2.5), ["4 px", "8 px", "3 not finite"])
    assert (axes.patches[1].get_x(), axes.patches[1].get_width()) == (2, 1)


def test_a_line_of_figures_of_images_ends_where_its_stage_does():
    images = np.array([1000.0, 2000, 2016, 3000, 4000, 4100])  # 4 px ends at 2 kimg, 8 px at 4
    curve = charts.Curve("val/psnr", "", images, np.arange(6.0))
    for by_stage, breaks in ((True, [2, 6]), (False, [])):
        panel = charts.Panel("", "", [curve], by_stage)
        with matplotlib.rc_context(charts.STYLE):
            [axes] = charts.chart(panel, PLAN, 5000.0).axes
        drawn = next(line for line in axes.lines if len(line.get_xdata()) > 2)
        assert np.flatnonzero(np.isnan(drawn.get_xdata())).tolist() == breaks
        kept = [value for value in drawn.get_ydata() if not math.isnan(value)]
        assert kept == [0, 1, 2, 3, 4, 5]


def test_a_mean_is_of_a_fortieth_on_either_side_and_never_across_a_gap():
    rng = np.random.default_rng(0)
    values = rng.normal(size=120)
    values[[0, 50, 51, 119]] = math.nan
    expected = []
    for at in range(120):
        near = [at]
        for step in (-1, 1):
            for k in range(1, 4):
                if not 0 <= at + k * step < 120 or math.isnan(values[at + k * step]):
                    break
                near.append(at + k * step)
        expected.append(math.nan if math.isnan(values[at]) else np.mean(values[near]))
    np.testing.assert_allclose(charts.smoothed(values), expected)
    assert np.isnan(charts.smoothed(np.full(3, math.nan))).all()
    assert charts.smoothed(np.array([1e99, *[1.0] * 9]))[2:].tolist() == [1.0] * 8


def test_long_curves_of_training_have_a_mean_that_ends_with_its_stage_and_others_have_none():
    images = np.arange(1, 101) * 50.0  # 4 px ends at 2 kimg, 8 px at 4
    curve = charts.Curve("both/rec", "", images, np.where(images <= 2000, 1.0, 3.0))
    for noisy, count in ((True, 2), (False, 1)):
        with matplotlib.rc_context(charts.STYLE):
            panel = charts.Panel("", "", [curve], noisy=noisy)
            [axes] = charts.chart(panel, PLAN, 5000.0).axes
        lines = [line for line in axes.lines if len(line.get_xdata()) >= 100]
        assert len(lines) == count
        assert set(lines[-1].get_ydata()[~np.isnan(lines[-1].get_ydata())]) == {1.0, 3.0}
    found = charts.panels_of({"both/rec": [(1, 2)], "lr": [(1, 2)], "val/psnr": [(1, 2)]})
    assert {title: panels[0].noisy for title, panels in found.items()} == {
        "Unseen images": False, "Training": True, "Pace": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "scale", "remarks"),
    [
        ([1, 100], "log", []),
        ([1, 29], "linear", []),
        ([-1, 1000, 2, 3], "linear", []),
        ([*[k % 7 for k in range(50)], 1e6], "linear", ["1 beyond the axis"]),
        ([5e-324, 1], "linear", []),
        ([1e99, -1e99], "linear", []),
        ([math.nan, 1e200], "linear", ["2 not finite"]),
    ],
)
def test_any_numbers_can_be_drawn_and_one_of_many_does_not_hide_the_others(values, scale, remarks):
    axes, texts, svg = draw(values)
    assert (axes.get_yscale(), texts) == (scale, remarks)
    assert "<svg" in svg


def test_a_long_series_is_a_small_file_that_keeps_its_extremes():
    values = [math.sin(k) for k in range(99_991)]
    values[33_333], values[50_000] = 4, -4
    axes, _, svg = draw(values, images=1e7)
    assert len(svg) < 50_000
    heights = np.array(re.findall(r"^L [\d.]+ ([\d.]+)", svg, re.MULTILINE), float)
    ends = [144 - 0.72 * axes.transData.transform((0, y))[1] for y in (4, -4)]
    assert np.abs(np.subtract.outer(ends, heights)).min(axis=1) == pytest.approx([0, 0], abs=1e-3)


@pytest.mark.parametrize(("seen", "total"), [(0, 8), (3000, 8), (9000, 8), (1000, 4.25), (0, 1)])
def test_the_staircase_follows_alpha_and_what_is_done_ends_at_the_images_seen(seen, total):
    plan = Schedule(STAGES, total_kimg=total, pretrain_kimg=0.5, milestones_kimg=(0.75,))
    axes = charts.timeline(plan, seen, {"fakes": [(500, None), (8001, None)]}, 9).axes[0]
    ahead, done = (area.get_paths()[0] for area in axes.collections)
    for images in range(100, int(total * 1000), 300):
        moment = plan.at(images)
        height = {4: 0, 8: 1, 16: 2}[moment.resolution] + moment.alpha
        assert ahead.contains_point((images / 1000, height - 0.01))
        assert not ahead.contains_point((images / 1000, height + 0.01))
    assert done.get_extents().x1 == min(seen / 1000, total)
    rate, pretraining = (line for line in axes.lines if line.get_color() == "C1")
    assert (rate.get_xdata()[0], pretraining.get_xdata()[1]) == (0.75, 0.5)
    assert [0.5, min(total, 8.001)] in [[*line.get_xdata()] for line in axes.lines[-2:]]
