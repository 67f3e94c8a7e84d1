"""Charts: which curves stand in one, where points are, what is marked."""

import math

import numpy as np
import pytest
from report_runs import PLAN, STAGES

from pgvae.report import charts
from pgvae.report.charts import MOST_POINTS, Curve, Panel
from pgvae.schedule import Schedule


def curve(*values: float, name: str = "encoder/rec") -> Curve:
    """A curve with a value every 100 images."""
    return Curve(name, name, 100 * (np.arange(len(values)) + 1.0), np.array(values, dtype=float))


def axes_of(*curves: Curve, images: float = 1000, schedule: Schedule | None = None):
    figure = charts.chart(Panel("rec", "", list(curves)), schedule, images)
    assert charts.as_uri(figure).startswith("data:image/svg+xml;base64,")
    return figure.axes[0]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def layout(*names: str, value: float = 1.0) -> dict[str, list[list[str]]]:
    """Names of the curves of each chart, by section."""
    found = charts.panels_of({name: [(100.0, value)] for name in names})
    return {title: [[c.name for c in p.curves] for p in panels] for title, panels in found.items()}


def test_one_term_is_one_chart_and_sections_are_in_one_order():
    names = ("lr", "encoder/rec", "encoder/kl", "metric/swd floor", "val/psnr", "generator/rec")
    assert layout(*names, "metric/swd", "anything", "alpha", "resolution", "train/psnr") == {
        "Unseen images": [["val/psnr"]],
        "Training images, as the set has no unseen ones": [["train/psnr"]],
        "Metrics while training": [["metric/swd floor", "metric/swd"]],
        "Training": [["encoder/rec", "generator/rec"], ["encoder/kl"]],
        "Pace": [["lr"], ["anything"]],
    }
    assert layout("skipped_steps", value=0) == {}
    assert layout("skipped_steps", value=3) == {"Pace": [["skipped_steps"]]}


def test_accuracies_are_percent_and_at_most_five_to_a_chart():
    [panels] = charts.panels_of({f"val/accuracy no {k}": [(1, 0.5)] for k in range(12)}).values()
    assert [len(panel.curves) for panel in panels] == [5, 5, 2]
    assert panels[1].title == "Accuracy of the classifier (2)"
    assert (panels[2].unit, panels[2].curves[1].label) == ("%", "no 11")
    assert panels[0].curves[0].values.tolist() == [50]


def test_points_are_where_images_and_values_put_them_and_a_floor_is_dashed():
    axes = axes_of(curve(0, 5, 10), curve(1, 2, 3, name="swd floor"))
    first, second = (line for line in axes.lines if line.get_marker() == "o")
    assert first.get_xydata().tolist() == [[0.1, 0], [0.2, 5], [0.3, 10]]
    assert axes.get_xlim() == (0, 1)
    assert [line.get_linestyle() for line in (first, second)] == ["-", "--"]


def test_values_that_are_not_finite_are_gaps_that_are_marked_and_counted():
    axes = axes_of(curve(1, 2, math.nan, math.inf, 3, 1e101))
    line, lost = axes.lines
    assert np.isnan(line.get_ydata()).tolist() == [False, False, True, True, False, True]
    assert lost.get_xdata().tolist() == pytest.approx([0.3, 0.4, 0.6])
    assert texts(axes) == ["3 not finite"]


def test_one_outlier_of_many_is_beyond_the_axis_and_counted_and_few_values_are_all_on_it():
    axes = axes_of(curve(*(k % 7 for k in range(50)), 1e6), images=6000)
    assert axes.get_ylim()[1] < 10
    assert texts(axes) == ["1 beyond the axis"]
    assert axes_of(curve(-3, 1, 2, 1000)).get_ylim()[1] > 1000


@pytest.mark.parametrize(
    ("values", "scale"), [((1, 31), "log"), ((1, 29), "linear"), ((-1, 1000), "linear")]
)
def test_axes_are_logarithmic_for_positive_values_that_span_much(values, scale):
    assert axes_of(curve(*values)).get_yscale() == scale


@pytest.mark.parametrize(
    "values",
    [[1e99, -1e99], [5e-324, 1], [1e-300], [0, 1e-99], [math.nan], [1e200], [*range(50), 1e99]],
)
def test_any_numbers_can_be_drawn(values):
    assert axes_of(curve(*values)).get_xlim() == (0, 1)


@pytest.mark.parametrize("count", [MOST_POINTS, MOST_POINTS + 1, 99_991])
def test_a_long_series_keeps_its_ends_its_extremes_and_its_gaps(count):
    values = [math.sin(k) for k in range(count)]
    low, high, gap = count // 3, count // 2, count - 7
    values[low], values[high], values[gap] = -50.0, 50.0, math.nan
    found = charts.thinned(curve(*values))
    assert len(found.values) <= MOST_POINTS
    kept = (found.images / 100 - 1).tolist()
    assert kept == sorted(set(kept))
    assert {0, low, high, gap, count - 1} <= set(kept)


def test_stages_that_have_begun_are_behind_a_chart():
    assert texts(axes_of(curve(1), schedule=PLAN, images=8000)) == ["4 px", "8 px", "16 px"]
    axes = axes_of(curve(1), schedule=PLAN, images=2500)
    assert texts(axes) == ["4 px", "8 px"]
    assert (axes.patches[1].get_x(), axes.patches[1].get_width()) == (2, 1)


@pytest.mark.parametrize(("seen", "total"), [(0, 8), (3000, 8), (9000, 8), (1000, 4.25), (0, 1)])
def test_the_staircase_follows_alpha_and_what_is_done_ends_at_the_images_seen(seen, total):
    plan = Schedule(STAGES, total_kimg=total, pretrain_kimg=0.5, milestones_kimg=(0.75,))
    axes = charts.timeline(plan, seen, [2000, 8001], 9).axes[0]
    ahead, done = (area.get_paths()[0] for area in axes.collections)
    for images in range(100, int(total * 1000), 300):
        moment = plan.at(images)
        height = {4: 0, 8: 1, 16: 2}[moment.resolution] + moment.alpha
        assert ahead.contains_point((images / 1000, height - 0.01))
        assert not ahead.contains_point((images / 1000, height + 0.01))
    assert done.get_extents().x1 == min(seen / 1000, total)
    rate, pretraining = (line for line in axes.lines if line.get_color() == "C1")
    assert (rate.get_xdata()[0], pretraining.get_xdata()[1]) == (0.75, 0.5)
