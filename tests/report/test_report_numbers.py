"""Numbers for a reader, and axes."""

import math

import pytest

from pgvae.report.numbers import Axis, axis_of, drawable, duration, figure, kimg, nice_step, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (17.343128, "17.34"),
        (-4.5, "−4.5"),
        (0.000125, "0.000125"),
        (1.23e-7, "1.23e−7"),
        (12345.6, "12,346"),
        (1.5e7, "1.5e7"),
        (-2e300, "−2e300"),
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (-math.inf, "−inf"),
    ],
)
def test_a_number_is_written_with_four_digits(value, text):
    assert figure(value) == text


def test_an_axis_writes_large_and_small_numbers_short():
    texts = ["5,000", "20k", "1.5M", "−20k", "2e9"]
    assert [short(v) for v in (5000, 20000, 1.5e6, -2e4, 2e9)] == texts
    texts = ["0", "0.001", "2.5e−4", "−1e−4", "1e−6", "1e−30"]
    assert [short(v) for v in (0, 0.001, 0.00025, -1e-4, 1e-6, 1e-30)] == texts


def test_images_are_counted_in_thousands():
    assert [kimg(n) for n in (0, 500, 8512, 34000, 1_250_000)] == [
        *("0", "0.5", "8.512", "34", "1,250")
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (12, "12 s"),
        (61, "1 min 01 s"),
        (717, "11 min 57 s"),
        (3600 * 3 + 300, "3 h 05 min"),
        (86400 * 2 + 3600 * 4, "2 d 4 h"),
    ],
)
def test_a_duration_has_two_units(seconds, text):
    assert duration(seconds) == text


def test_a_share_of_a_linear_axis_is_a_straight_line_and_ends_at_the_ends():
    axis = Axis(-10, 30)
    assert [axis.share(v) for v in (-10, 0, 30, 99, -99)] == [0, 0.25, 1, 1, 0]
    assert axis.holds(30)
    assert not axis.holds(31)


def test_a_share_of_a_log_axis_counts_powers():
    axis = Axis(1, 10_000, log=True)
    assert [axis.share(v) for v in (1, 10, 100, 10_000, 0, -5)] == [0, 0.25, 0.5, 1, 0, 0]


def test_ticks_are_round_and_on_the_axis():
    assert Axis(0, 10).ticks() == [0, 2, 4, 6, 8, 10]
    assert Axis(16.5, 26.8).ticks() == [17.5, 20, 22.5, 25]
    assert Axis(1, 1000, log=True).ticks() == [1, 10, 100, 1000]
    assert Axis(2, 9, log=True).ticks() == [2, 5]
    assert len(Axis(1e-30, 1e30, log=True).ticks()) <= 6


@pytest.mark.parametrize("span", [1e-12, 0.07, 1, 3, 34, 21600, 1e9])
@pytest.mark.parametrize("count", [3, 5])
def test_a_step_is_a_round_number_and_not_too_small(span, count):
    step = nice_step(span, count)
    assert span / step <= count + 1e-6
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 2.5, 5)


def test_a_curve_near_zero_starts_at_zero_and_one_far_from_it_does_not():
    assert axis_of([1, 10]) == Axis(0, 10.54)
    assert axis_of([-10, -1]) == Axis(-10.54, 0)
    assert axis_of([90, 100]) == Axis(89.4, 100.6)


def test_a_positive_curve_that_spans_much_is_on_a_log_axis():
    assert axis_of([1, 31]).log
    assert not axis_of([1, 29]).log
    assert not axis_of([-1, 1000]).log


def test_one_outlier_of_many_does_not_press_the_others_into_a_line():
    values = [100 + k % 10 for k in range(100)]
    axis = axis_of([*values, 1e6])
    assert (axis.high, axis.log) == (109 + 9 / 4 + (109 + 9 / 4 - 100) * 0.06, False)
    assert not axis.holds(1e6)
    assert all(map(axis.holds, values))


def test_few_values_are_all_on_the_axis():
    values = [-3, 1, 2, 3, 1000]
    assert all(map(axis_of(values).holds, values))


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf], [1e200]])
def test_nothing_to_draw_still_has_an_axis(values):
    assert axis_of(values) == Axis(0, 1)


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-99, 1e99, -1e99])
def test_a_constant_is_on_its_axis(value):
    axis = axis_of([value] * 3)
    assert axis.low < axis.high
    assert 0 <= axis.share(value) <= 1
    assert axis.holds(value)
    assert axis.ticks()


def test_what_is_not_finite_or_too_large_has_no_place():
    values = (1.0, math.nan, math.inf, 1e100, -1e101)
    assert [drawable(v) for v in values] == [True, False, False, False, False]
