"""Numbers as a reader wants them, and axes for them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LOG_RATIO = 30.0  # a positive quantity that spans more than this is drawn on a log axis
_OUTLIER_RATIO = 6.0  # whole range over that of the middle 96 %, above which the ends are cut off
_MIN_FOR_QUANTILES = 20
_TOO_LARGE = 1e100  # differences of such numbers still are numbers


def drawable(value: float) -> bool:
    """Whether a value has a place on an axis: finite, and below 1e100."""
    return math.isfinite(value) and abs(value) < _TOO_LARGE


def figure(value: float) -> str:
    """Four digits of a number: 17.34, 0.000125, 12,345, 1.2e−7, NaN."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "−inf"
    size = abs(value)
    if 1000 <= size < 1e7:
        text = f"{value:,.0f}"
    elif size == 0 or 1e-4 <= size < 1000:
        text = f"{value:.4g}"
    else:
        text = f"{value:.3g}"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", "−")


def short(value: float) -> str:
    """A number for an axis: as `figure`, but 20k, 1.5M, 2.5e−4."""
    if 1e-9 < abs(value) < 1e-3:
        power = -math.floor(math.log10(abs(value)) + 1e-9)
        return f"{figure(value * 10**power)}e−{power}"
    for size, unit in ((1e6, "M"), (1e4, "k")):
        if size <= abs(value) < 1e9:
            return figure(value / (1e3 if unit == "k" else size)) + unit
    return figure(value)


def kimg(images: float) -> str:
    """Images in thousands: 6, 8.512, 1,250."""
    return f"{round(images) / 1000:,.3f}".rstrip("0").rstrip(".")


def duration(seconds: float) -> str:
    """12 s, 11 min 57 s, 3 h 05 min, 2 d 4 h."""
    whole = round(max(0.0, seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes == 0:
        return f"{whole} s"
    if hours == 0:
        return f"{minutes} min {whole % 60:02d} s"
    return f"{hours} h {minutes % 60:02d} min" if days == 0 else f"{days} d {hours % 24} h"


@dataclass(frozen=True)
class Axis:
    """From values to shares of a length: `low` is at 0, `high` at 1."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value is, 0 to 1; one off the axis is at its end."""
        if self.log:
            floor = max(value, self.low)
            share = math.log(floor / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))

    def holds(self, value: float) -> bool:
        """Whether a value is on the axis."""
        return self.low <= value <= self.high

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round values on the axis."""
        found = self._powers(count) if self.log else []
        if len(found) >= 2:
            return found
        step = nice_step(self.high - self.low, count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def _powers(self, count: int) -> list[float]:
        """1, 2, 5 times powers of ten, or only every so many powers where those are many."""
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [d * 10.0**k for k in range(low, high + 1) for d in digits]
            found = [value for value in found if self.holds(value)]
            if len(found) <= count + 1:
                return found
        every = math.ceil(len(found) / count)
        return found[::every]


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is in `span` `count` times at most."""
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(d * power for d in (1, 2, 2.5, 5, 10) if d * power >= rough * (1 - 1e-9))


def axis_of(values: Sequence[float]) -> Axis:
    """An axis for a curve, of its drawable values.

    Logarithmic for positive values that span much. Otherwise linear, from 0 where that is near,
    and without the few values that would press all others into a line.
    """
    found = sorted(filter(drawable, values))
    if not found:
        return Axis(0.0, 1.0)
    low, high = found[0], found[-1]
    cut = max(1, len(found) // 50) if len(found) >= _MIN_FOR_QUANTILES else 0
    inner_low, inner_high = found[cut], found[-1 - cut]
    if low > 1 / _TOO_LARGE and inner_high / inner_low > _LOG_RATIO:
        return Axis(low / 1.15, high * 1.15, log=True)
    span = inner_high - inner_low
    if 0 < span * _OUTLIER_RATIO < high - low:
        low, high = max(low, inner_low - span / 4), min(high, inner_high + span / 4)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = abs(low) / 10
        return Axis(low - margin, high + margin) if margin else Axis(0.0, 1.0)
    margin = (high - low) * 0.06
    starts_at_zero = 0 <= low < (high - low) / 2
    ends_at_zero = 0 >= high > (low - high) / 2
    return Axis(
        0.0 if starts_at_zero else low - margin,
        0.0 if ends_at_zero else high + margin,
    )
