"""Every metric by name: adding one is adding an entry to `METRICS`.

Neither PyTorch nor an optional package is imported before a metric is made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol

from pgvae.checks import nearest, require
from pgvae.config import Head
from pgvae.sizes import MIN_RESOLUTION

if TYPE_CHECKING:
    from pgvae.metrics.features import Extractor
    from pgvae.metrics.measures import Views

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Figure:
    """One measure of a model.

    label:   what it is called, with the features or the unit.
    value:   of the model. floor: of real images at the same n (see `pgvae.evaluation.evaluate`);
             None where there is none.
    better:  "lower" or "higher"; "" where neither is: MS-SSIM should be near its floor.
    details: what it is made of, such as the levels of SWD.

    >>> Figure("PSNR, dB", 21.5, floor=9.0, better="higher").beats(20.0)
    True
    """

    label: str
    value: float
    floor: float | None = None
    better: Better = ""
    details: Mapping[str, float] = field(default_factory=dict)

    def beats(self, value: float) -> bool:
        """Whether it is better than another value of the same measure."""
        return self.value > value if self.better == "higher" else self.value < value


class Measure(Protocol):
    """A metric at work: it sees every batch, and then says its figures by name, the first first."""

    def add(self, views: "Views") -> None: ...

    def figures(self, name: str, metric: "Metric") -> dict[str, Figure]: ...


@dataclass(frozen=True)
class Setting:
    """What the making of a measure may depend on; `extract` is there for those that need it."""

    seed: int
    head: Head
    extract: "Extractor | None" = None


@dataclass(frozen=True)
class Metric:
    """What is known of a metric before it is made.

    label:    of its figure, with the unit.
    better:   as of `Figure`.
    make:     the measure, of the module `pgvae.metrics.measures` and a setting.
    least_px: pixels that the longer side of images must have.
    package:  module and package that it needs, of the extra `eval`.
    features: whether it needs a network of features. Such ones are taken only by name.
    encoder:  whether it is of what an encoder says, or of reconstructions.

    >>> METRICS["swd"].better, METRICS["swd"].least_px
    ('lower', 16)
    """

    label: str
    better: Better
    make: Callable[[ModuleType, Setting], Measure]
    least_px: int = MIN_RESOLUTION
    package: tuple[str, str] | None = None
    features: bool = False
    encoder: bool = False

    def start(self, setting: Setting) -> Measure:
        """Make the measure, and import what it takes."""
        from pgvae.metrics import measures

        return self.make(measures, setting)


_SSIM = ("pytorch_msssim", "pytorch-msssim")

METRICS: dict[str, Metric] = {
    "swd": Metric("SWD x 1000", "lower", lambda m, s: m.Swd(s.seed), least_px=16),
    "msssim": Metric("MS-SSIM of pairs of samples", "", lambda m, _: m.MsSsim(), package=_SSIM),
    "psnr": Metric("PSNR, dB", "higher", lambda m, _: m.Pairs(m.reconstruction.psnr), encoder=True),
    "ssim": Metric(
        "SSIM",
        "higher",
        lambda m, _: m.Pairs(m.reconstruction.ssim),
        package=_SSIM,
        encoder=True,
    ),
    "rmse": Metric(
        "RMSE, of 255", "lower", lambda m, _: m.Pairs(m.reconstruction.rmse), encoder=True
    ),
    "mse": Metric("MSE, of 1", "lower", lambda m, _: m.Pairs(m.reconstruction.mse), encoder=True),
    "latents": Metric("latents", "", lambda m, s: m.Latents(s.head), encoder=True),
    "fid": Metric(
        "FID",
        "lower",
        lambda m, s: m.Distance(s.extract, m.frechet.frechet_distance),
        features=True,
    ),
    "kid": Metric(
        "KID",
        "lower",
        lambda m, s: m.Distance(s.extract, lambda a, b: m.frechet.kernel_distance(a, b, s.seed)[0]),
        package=("torchmetrics.image.kid", "torchmetrics"),
        features=True,
    ),
}
DEFAULT_METRICS = tuple(name for name, metric in METRICS.items() if not metric.features)
DEFAULT_COUNT = 2000


def check_names(names: Sequence[str], resolution: int) -> None:
    """Raise InputError unless all are metrics, defined at a resolution, their packages there.

    >>> check_names(["psnr", "swdd"], 64)
    Traceback (most recent call last):
    pgvae.errors.InputError: unknown metric 'swdd': did you mean 'swd'?
    """
    from pgvae.metrics.sets import optional

    require(len(names) > 0, f"no metrics are given: choose of {', '.join(METRICS)}")
    for name in names:
        require(name in METRICS, f"unknown metric {name!r}: {nearest(name, [*METRICS])}")
        metric = METRICS[name]
        require(
            resolution >= metric.least_px,
            f"{name} needs {metric.least_px} px or more: these images have {resolution}",
        )
        if metric.package:
            optional(*metric.package, name)


def check_metrics(
    names: Sequence[str], resolution: int, inception_weights: Path | None = None
) -> None:
    """`check_names`, and the network of features: InputError before there is long work."""
    from pgvae.metrics.features import extractor

    check_names(names, resolution)
    if any(METRICS[name].features for name in names):
        extractor(inception_weights)


def defined_at(names: Sequence[str], resolution: int) -> tuple[str, ...]:
    """Those of some metrics that images of a resolution have; names of none are left in.

    >>> defined_at(["swd", "psnr"], 8), defined_at(["swd", "psnr"], 16)
    (('psnr',), ('swd', 'psnr'))
    """
    least = {name: metric.least_px for name, metric in METRICS.items()}
    return tuple(name for name in names if resolution >= least.get(name, 0))


def without_encoder(names: Sequence[str]) -> tuple[str, ...]:
    """Those of some metrics that a model without an encoder has; names of none are left in.

    >>> without_encoder(["swd", "psnr", "latents"])
    ('swd',)
    """
    return tuple(name for name in names if name not in METRICS or not METRICS[name].encoder)


def require_encoder(names: Sequence[str], objective: str) -> None:
    """Raise InputError where one of some metrics needs an encoder, which an objective has not.

    >>> require_encoder(["swd", "psnr"], "some")
    Traceback (most recent call last):
    pgvae.errors.InputError: psnr: a model of objective some has no encoder; leave it out
    """
    needing = [name for name in names if name not in without_encoder(names)]
    require(
        not needing,
        f"{', '.join(needing)}: a model of objective {objective} has no encoder; leave "
        + ("it out" if len(needing) == 1 else "them out"),
    )


def decider(names: Sequence[str]) -> str | None:
    """The first of some metrics that has a better and a worse, so that it can find the best.

    >>> decider(["msssim", "fid", "psnr"])
    'fid'
    """
    return next((name for name in names if name in METRICS and METRICS[name].better), None)
