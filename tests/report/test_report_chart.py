"""Charts: where points are, what is written, what is left out."""

import math
import re
from itertools import pairwise

import pytest
from report_runs import Page, schedule

from pgvae.report.chart import BOTTOM, LEFT, MOST_POINTS, RIGHT, TOP, Frame, chart, thinned
from pgvae.report.collect import Series
from pgvae.report.panels import Curve, Panel

FRAME = Frame(1000.0, None)


def panel(*values: list[float], every: int = 100, unit: str = "", factor: float = 1.0) -> Panel:
    """Curves a, b, ... with a value every so many images."""
    curves = tuple(
        Curve(f"{letter}/rec", letter, Series([every * (k + 1.0) for k in range(len(part))], part))
        for letter, part in zip("abc", values, strict=False)
    )
    return Panel("rec", unit, factor, curves)


def drawn(some: Panel, frame: Frame = FRAME) -> Page:
    return Page(chart(some, frame))


def points_of(page: Page, index: int = 0) -> list[list[tuple[float, float]]]:
    """The corners of a curve, in pieces between its gaps."""
    path = page.all("path", "line")[index][0]["d"]
    pieces = [piece for piece in path.split("M") if piece]
    return [[tuple(map(float, p.split())) for p in piece.split("L")] for piece in pieces]


def test_points_are_where_images_and_values_put_them():
    [points] = points_of(drawn(panel([0.0, 5.0, 10.0], every=250)))
    high = 10.6  # 6 % of the range above the highest, and from 0 as that is the lowest
    expected = [
        (LEFT + (RIGHT - LEFT) * images / 1000, BOTTOM - (BOTTOM - TOP) * value / high)
        for images, value in ((250, 0), (500, 5), (750, 10))
    ]
    assert points == [(round(x, 1), round(y, 1)) for x, y in expected]


def test_on_a_log_axis_equal_ratios_are_equal_heights():
    page = drawn(panel([1.0, 10.0, 100.0, 1000.0]))
    [points] = points_of(page)
    heights = [a - b for (_, a), (_, b) in pairwise(points)]
    span = math.log(1000 * 1.15**2)
    assert heights == pytest.approx([(BOTTOM - TOP) * math.log(10) / span] * 3, abs=0.11)
    assert "log scale" in page.text


def test_grid_lines_stand_where_their_numbers_are():
    page = drawn(panel([0.0, 10.0]))
    ticks = [(float(a["y"]), text) for a, text in page.all("text", "y")]
    assert [text for _, text in ticks] == ["0", "2.5", "5", "7.5", "10"]
    for y, text in ticks:
        assert y == pytest.approx(BOTTOM - (BOTTOM - TOP) * float(text) / 10.6, abs=0.06)


def test_the_axis_is_in_thousands_of_images():
    page = drawn(panel([1.0]), Frame(34_000, None))
    numbers = [(float(a["x"]), text) for a, text in page.all("text") if a.get("class") != "y"]
    assert [text for _, text in numbers] == ["0", "10", "20", "30 kimg"]
    assert numbers[1][0] == pytest.approx(LEFT + (RIGHT - LEFT) * 10 / 34, abs=0.06)


def test_the_legend_has_the_last_values_and_a_unit():
    page = drawn(panel([1.0, 0.25], [0.5, 0.125], unit="%", factor=100.0))
    assert [text for _, text in page.all("b")] == ["25", "12.5"]
    assert page.all("figcaption")[0][1] == "rec%"
    assert page.curves()["a/rec"] == ("25", [(100, "100"), (200, "25")])


def test_a_value_that_is_not_finite_breaks_the_line_and_is_marked_and_counted():
    page = drawn(panel([1.0, 2.0, math.nan, math.inf, 3.0, 4.0]))
    assert [len(piece) for piece in points_of(page)] == [2, 2]
    [(lost, _)] = page.all("path", "lost")
    assert re.findall(r"M([\d.]+) ", lost["d"]) == ["135.8", "166.4"]
    assert "2 not finite" in page.text
    assert [value for _, value in page.curves()["a/rec"][1]][2:4] == ["NaN", "inf"]


def test_a_curve_of_nothing_but_nan_is_an_empty_chart_that_says_so():
    page = drawn(panel([math.nan, math.nan]))
    assert page.all("path", "line")[0][0]["d"] == ""
    assert page.all("b")[0][1] == "NaN"
    assert "2 not finite" in page.text


def test_a_last_value_of_nan_is_what_the_legend_says():
    assert drawn(panel([1.0, math.nan])).all("b")[0][1] == "NaN"


def test_an_outlier_is_marked_at_the_edge_and_counted():
    page = drawn(panel([float(k % 7) for k in range(50)] + [1e6], every=10))
    [(beyond, _)] = page.all("path", "beyond")
    assert beyond["d"].startswith(f"M{LEFT + (RIGHT - LEFT) * 0.51:.1f} {TOP}.0m")
    assert "1 beyond the axis" in page.text
    assert min(y for piece in points_of(page) for _, y in piece) == TOP


@pytest.mark.parametrize("values", [[1e99, -1e99], [5e-324, 1.0], [1e-300, 1e-300], [0.0, 1e-99]])
def test_extreme_numbers_stay_in_the_box(values):
    [points] = points_of(drawn(panel(values)))
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in points)


def test_stages_are_lines_and_their_fades_bands():
    page = drawn(panel([1.0]), Frame(8000, schedule()))

    def x(images: int) -> float:
        return pytest.approx(LEFT + (RIGHT - LEFT) * images / 8000, abs=0.06)

    starts = [float(re.match(r"M([\d.]+)", a["d"])[1]) for a, _ in page.all("path", "stage")]
    assert starts == [x(2000), x(4000)]
    bands = [(float(a["x"]), float(a["width"])) for a, _ in page.all("rect", "fade")]
    width = pytest.approx((RIGHT - LEFT) / 8, abs=0.11)
    assert bands == [(x(2000), width), (x(4000), width)]
    assert [t for _, t in page.all("text") if "px" in t] == ["4 px", "8 px", "16 px"]


def test_stages_that_have_not_begun_are_not_drawn_and_a_fade_ends_at_the_edge():
    page = drawn(panel([1.0]), Frame(2500, schedule()))
    assert len(page.all("path", "stage")) == 1
    [(band, _)] = page.all("rect", "fade")
    assert float(band["x"]) + float(band["width"]) == pytest.approx(RIGHT, abs=0.11)


def test_a_chart_is_described_in_words():
    [(svg, _)] = drawn(panel([0.3, 0.1, math.nan, 0.2], unit="dB", factor=10.0)).all("svg")
    assert svg["role"] == "img"
    assert svg["aria-label"] == (
        "rec in dB: a/rec 2 at 0.4 kimg, lowest 1 at 0.2, highest 3 at 0.1."
    )


def test_a_floor_is_dashed_and_the_first_of_several_is_wide():
    values = Series([100.0], [1.0])
    curves = (Curve("metric/swd", "swd", values), Curve("metric/swd floor", "f", values, True))
    page = drawn(Panel("swd", "", 1.0, curves))
    assert [a["class"] for a, _ in page.all("g") if a.get("class")] == ["s0 under", "s1 floor"]


def test_a_short_series_is_drawn_as_it_is():
    series = Series([1.0] * MOST_POINTS, [2.0] * MOST_POINTS)
    assert thinned(series) is series


@pytest.mark.parametrize("count", [MOST_POINTS + 1, 5000, 99_991])
def test_a_long_series_keeps_its_ends_its_extremes_and_its_gaps(count):
    values = [math.sin(k) for k in range(count)]
    low, high, gap = count // 3, count // 2, count - 7
    values[low], values[high], values[gap] = -50.0, 50.0, math.nan
    found = thinned(Series(list(map(float, range(count))), values))
    assert len(found.values) <= MOST_POINTS
    assert found.images == sorted(set(found.images))
    for index in (0, low, high, count - 1):
        assert found.values[found.images.index(index)] == values[index]
    assert math.isnan(found.values[found.images.index(gap)])


def test_what_was_not_drawn_is_counted_all_the_same():
    values = [1.0 + k % 5 for k in range(5000)]
    values[100:200] = [math.nan] * 100
    assert "100 not finite" in drawn(panel(values, every=1), Frame(5000, None)).text
