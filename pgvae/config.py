"""What a run is, as frozen dataclasses that travel through JSON.

Every part owns its settings and checks them in `__post_init__`; `from_dict` refuses an
unknown name and suggests the nearest one.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast, get_args

from pgvae.checks import nearest, require, require_choice, require_switch, require_weight
from pgvae.schedule import Schedule, Stage
from pgvae.sizes import BASES, SQUARE, Base, check_resolution

T = TypeVar("T")

DEVIATION_GROUP = 4  # images that a discriminator compares with each other (PGGAN)

Head = Literal["sphere", "gaussian"]
Arch = Literal["pggan", "residual"]
EncoderNorm = Literal["spectral", "equalized", "none", "batch"]
GeneratorNorm = Literal["pixel", "spectral", "none", "batch"]
Order = Literal["norm_act", "act_norm"]
Output = Literal["linear", "tanh"]
Judge = Literal["none", "image", "joint"]
Precision = Literal["auto", "fp32", "tf32", "bf16"]
OptimizerKind = Literal["adam", "muon"]


def from_dict(cls: type[T], values: Mapping[str, Any], what: str) -> T:
    """Build dataclass `cls` from parsed JSON; unknown names raise InputError with a hint.

    >>> from_dict(LabelConfig, {"attributes": ["hat", "glasses"]}, "labels").attributes
    ('hat', 'glasses')
    >>> from_dict(LabelConfig, {"atributes": ["hat"]}, "labels")
    Traceback (most recent call last):
    pgvae.errors.InputError: unknown labels setting 'atributes': did you mean 'attributes'?
    """
    fields = dataclasses.fields(cast(Any, cls))
    names = [f.name for f in fields if f.init]
    for name in values:
        require(name in names, f"unknown {what} setting {name!r}: {nearest(name, names)}")
    needed = [f.name for f in fields if not _has_default(f)]
    missing = [name for name in needed if name not in values]
    require(not missing, f"{what} settings lack {', '.join(missing)}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _has_default(field_: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field_.default is not missing or field_.default_factory is not missing


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the networks.

    arch:         "pggan" (PIONEER's) or "residual" (IntroVAE's, IntroVAC's).
    resolution:   final pixels of the longer side, a power of two.
    channels:     image channels, 3 (RGB) or 1 (grey).
    latent_dim:   d, length of the latent vector.
    fmap_base, fmap_max: feature maps at R px are min(2 fmap_base / R, fmap_max), as PGGAN.
    order:        of pixel norm and activation in the generator: "norm_act" as PIONEER,
                  "act_norm" as PGGAN.
    head:         what the encoder gives: a point on the unit "sphere", or mean and log
                  variance of a "gaussian".
    encoder_norm: "spectral" normalisation of the encoder's weights (PIONEER), the "equalized"
                  learning rate (PGGAN), "none", or "batch" norm (residual only). A discriminator's
                  weights have the same.
    generator_norm: "pixel" norm and equalized learning rate (PGGAN, PIONEER), "spectral" (Balanced
                  PIONEER), "none", or "batch" norm (residual only).
    output:       "linear" RGB as PIONEER, or "tanh".
    last_activation: LeakyReLU after the last layer of a pggan encoder with head "sphere", as
                  PIONEER; off in Balanced PIONEER's code, unless asked for there.
    unit_variance: whether latents on the sphere are multiplied by sqrt(d) before the generator's
                  first layer, whose He constant counts d inputs then.
    classes:      logits of the linear classifier on the latents; 0 for none.
    critic:       whether the encoder has a linear layer that says how real an image looks.
    encoder:      whether there is an encoder; a pure GAN has none.
    discriminator: a network of its own that scores an "image", or a "joint" of image and latent,
                  with blocks as the encoder's; "none" without.
    base:         height and width of its images at 4 px, one of `BASES`.
    """

    arch: Arch = "pggan"
    resolution: int = 64
    channels: int = 3
    latent_dim: int = 512
    fmap_base: int = 8192
    fmap_max: int = 512
    order: Order = "norm_act"
    head: Head = "sphere"
    encoder_norm: EncoderNorm = "spectral"
    generator_norm: GeneratorNorm = "pixel"
    output: Output = "linear"
    last_activation: bool = True
    unit_variance: bool = False
    classes: int = 0
    critic: bool = False
    encoder: bool = True
    discriminator: Judge = "none"
    base: Base = SQUARE

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        require(self.base in BASES, f"base is {self.base}: use one of {BASES}")
        require_choice("arch", self.arch, get_args(Arch))
        require_choice("order", self.order, get_args(Order))
        require_choice("head", self.head, get_args(Head))
        require_choice("encoder_norm", self.encoder_norm, get_args(EncoderNorm))
        require_choice("generator_norm", self.generator_norm, get_args(GeneratorNorm))
        require_choice("output", self.output, get_args(Output))
        require(
            self.arch == "residual" or not self.has_batch_norm,
            f"encoder_norm {self.encoder_norm}, generator_norm {self.generator_norm}: batch norm "
            "is for arch residual; choose another",
        )
        require_switch("last_activation", self.last_activation)
        require_switch("unit_variance", self.unit_variance)
        require(
            self.head == "sphere" or not self.unit_variance,
            "unit_variance is for latents on the sphere (age, pioneer, balanced_pioneer): those of "
            "a Gaussian have variance 1; leave it out",
        )
        require_switch("critic", self.critic)
        require_switch("encoder", self.encoder)
        require_choice("discriminator", self.discriminator, get_args(Judge))
        require(
            self.encoder or not (self.classes or self.critic or self.discriminator == "joint"),
            "a classifier, a critic and a joint discriminator need an encoder: leave encoder on",
        )
        require(
            self.discriminator == "none" or self.encoder_norm != "batch",
            "encoder_norm batch: a discriminator compares images by itself; choose another",
        )
        require(self.classes >= 0, f"classes is {self.classes}: use 0 or more")
        require(self.channels in (1, 3), f"channels is {self.channels}: use 1 or 3")
        require(self.latent_dim >= 2, f"latent_dim is {self.latent_dim}: use 2 or more")
        require(self.fmap_max >= 1, f"fmap_max is {self.fmap_max}: use 1 or more")
        require(self.fmap_base >= 1, f"fmap_base is {self.fmap_base}: use 1 or more")

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values; of squares without their base."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if (k, v) != ("base", SQUARE)}

    @property
    def has_batch_norm(self) -> bool:
        """Whether a layer takes statistics over the images of a pass."""
        return "batch" in (self.encoder_norm, self.generator_norm)

    @property
    def images_together(self) -> int:
        """Images that must stay in one part when a batch is split: a layer compares them."""
        return 1 if self.discriminator == "none" else DEVIATION_GROUP

    def fmaps(self, resolution: int) -> int:
        """Feature maps of the generator's block (and the encoder's from_rgb) at a resolution.

        >>> [ModelConfig().fmaps(resolution) for resolution in (4, 32, 64, 1024)]
        [512, 512, 256, 16]
        """
        return max(1, min(2 * self.fmap_base // resolution, self.fmap_max))


def usual_settings(arch: Arch, resolution: int) -> dict[str, Any]:
    """What `ModelConfig` usually has beside an architecture; objectives may want other norms.

    residual: IntroVAE's widths (32 feature maps at the final resolution, 16 at 1024 px, 512 at
    most), no normalisation. pggan: PGGAN's widths, equalized learning rates, pixel norm.

    >>> usual_settings("residual", 128)
    {'fmap_base': 2048, 'encoder_norm': 'none', 'generator_norm': 'none'}
    """
    if arch == "residual":
        widths = min(16 * resolution, 8192)
        return {"fmap_base": widths, "encoder_norm": "none", "generator_norm": "none"}
    return {"encoder_norm": "equalized", "generator_norm": "pixel"}


@dataclass(frozen=True)
class LabelConfig:
    """Which labels of a set a run sees, and what they say.

    attributes: label columns, in the order of the classifier's logits.
    no_below, yes_above: a value below the first says no, one above the second yes; between them
                (or on both) it is unknown, and left out of every loss. For probabilities.
    balance:    attributes whose yes and no are drawn equally often.
    """

    attributes: tuple[str, ...] = ()
    no_below: float = 0.5
    yes_above: float = 0.5
    balance: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(
            self.no_below <= self.yes_above,
            f"label thresholds are {self.no_below}, {self.yes_above}: give the lower one first",
        )
        require(
            len(set(self.attributes)) == len(self.attributes),
            f"attributes {', '.join(self.attributes)}: one stands twice",
        )
        for name in self.balance:
            require(
                name in self.attributes,
                f"balance: no attribute {name!r}: {nearest(name, list(self.attributes))}",
            )


@dataclass(frozen=True)
class RunConfig:
    """All that decides the numbers of a run: the same config, data and seed, the same bytes.

    objective:     {"name": ..., and its settings}.
    optimizer:     what moves the weights (see `pgvae.training.optimizers`).
    betas:         Adam's (beta1, beta2).
    augment:       whether what a critic is shown is augmented (`pgvae.training.steering`).
    ema_kimg:      half-life of both running averages, in thousands of images.
    ema_rampup:    the half-life is at most this share of the images seen so far.
    snapshot_kimg: thousands of images between snapshots, grids and checkpoints.
    keep_snapshots: so many of the newest snapshots stay, and each stage's last; None: all.
    metrics:       measured every metric_kimg (see `pgvae.evaluation`); the best snapshot by the
                   first of them is kept.
    init_from:     SHA-256 of the snapshot that it started from; None for fresh weights.
    """

    dataset: str
    dataset_digest: str
    model: ModelConfig
    schedule: Schedule
    objective: Mapping[str, Any]
    labels: LabelConfig = LabelConfig()
    optimizer: OptimizerKind = "adam"
    betas: tuple[float, float] = (0.0, 0.99)
    seed: int = 0
    mirror: bool = False
    augment: bool = False
    precision: Precision = "auto"
    ema_kimg: float = 10.0
    ema_rampup: float = 0.05
    snapshot_kimg: float = 500.0
    keep_snapshots: int | None = None
    metrics: tuple[str, ...] = ()
    metric_kimg: float = 500.0
    init_from: str | None = field(default=None)

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, get_args(Precision))
        require_choice("optimizer", self.optimizer, get_args(OptimizerKind))
        require(self.seed >= 0, f"seed is {self.seed}: use 0 or more")
        for name in ("snapshot_kimg", "metric_kimg"):
            value = getattr(self, name)
            require(value > 0 and math.isfinite(value), f"{name} is {value}: use a positive number")
        kept = self.keep_snapshots
        require(kept is None or kept >= 1, f"keep_snapshots is {kept}: use 1 or more")
        require_weight("ema_kimg", self.ema_kimg)
        require_weight("ema_rampup", self.ema_rampup)
        require(
            not (self.model.critic and self.model.encoder_norm == "batch"),
            "a critic judges each image by itself, and encoder norm batch mixes them: use none",
        )
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas are {self.betas}: use two numbers from 0 to below 1",
        )

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON-ready values."""
        return {**dataclasses.asdict(self), "model": self.model.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """The inverse of `to_dict`."""
        values = json.loads(json.dumps(values))  # a copy, of lists
        schedule = values.get("schedule", {})
        stages = [from_dict(Stage, stage, "stage") for stage in schedule.pop("stages", ())]
        if stages:
            schedule["stages"] = stages
        parts: dict[str, type] = {"model": ModelConfig, "schedule": Schedule, "labels": LabelConfig}
        nested: dict[str, Any] = {
            n: from_dict(part, values[n], n) for n, part in parts.items() if n in values
        }
        return from_dict(cls, {**values, **nested}, "run")
