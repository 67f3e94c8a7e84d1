"""What a user asks of a run: each option of training once, from a command line or from Python.

A run directory keeps the request that made it, so that the run can go on and be repeated.
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pgvae.errors import CorruptFileError, InputError
from pgvae.files import content_of
from pgvae.schedule import at_stage
from pgvae.sizes import parse_size
from pgvae.values import items_of, option, spelled, typed, wrong_with

FILE = "request.json"
NEWEST = "newest"  # `resume` without a run directory

# What a run that goes on may have otherwise than before; `dataset` only where its images are equal.
FREE = frozenset(
    {
        *("dataset", "data_root", "outdir", "resume"),
        *("device", "precision", "workers", "batch_gpu", "compile", "graphs", "recompute"),
        *("total_kimg", "batch", "lr", "lr_milestones", "pretrain_kimg"),
        *("snapshot_kimg", "keep_snapshots", "metrics", "metric_kimg", "inception_weights"),
        *("max_hours", "tracker"),
    }
)
_PATHS = ("data_root", "init_from", "inception_weights")
# What taking apart JSON that is not as it should be may raise.
_MALFORMED = (ValueError, AttributeError, TypeError, RecursionError)


@dataclass(frozen=True)
class Request:
    """Options of training; None leaves one to the objective's preset or to the default below.

    Raises InputError, naming the option, for a value that no run can have.

    dataset: prepared set, or a folder or zip of images (prepared on first use).
    objective: what is trained, see docs/objectives.md.  [default: pioneer]
    resolution: final pixels of the longer side.  [default: the data's]
    size: width and height in its place, such as 256x192; a folder is prepared in that ratio.
        [default: the data's]
    grow: grow from the start resolution, or train the final one alone.  [default: as the objective]
    start_resolution: pixels per side of the first stage.  [default: 4]
    settings: a setting of the objective, such as beta_kl=0.5, or of one stage, such as
        margin@64=0.02; may be repeated.
    schedule: stage lengths, batch sizes and learning rates of this objective, pggan, or
        pioneer_code (PIONEER's published code where it differs from the paper).
        [default: the objective's own]
    kimg_per_stage: thousands of images per stage, half of them fading in.
        [default: the schedule's]
    total_kimg: thousands of images in all.  [default: every stage once]
    hours: choose lengths of stages, and the widths of networks, by what they take on this machine,
        so that a new run takes about so long.  [default: none]
    batch: batch size of every stage, or of some: 16:64,32:32.  [default: the schedule's]
    batch_gpu: images that a process, one for each GPU, works through at a time; what is learned
        stays that of the whole batch.  [default: its part of the batch]
    lr: learning rate of every stage, or of some: 64:0.0005.  [default: the schedule's]
    lr_milestones: thousands of images after each of which the rate is halved.
        [default: the schedule's]
    optimizer: adam, or muon for the convolutions (momentum, orthogonalised) and adam for all else.
        [default: the objective's]
    pretrain_kimg: thousands of images of pre-training as an autoencoder (pioneer's family) or a VAE
        (introvae's).
        [default: the schedule's]
    arch: networks, PIONEER's or IntroVAE's.  [default: the objective's]
    encoder_norm: batch is for arch residual.  [default: the objective's]
    generator_norm: batch is for arch residual.  [default: the objective's]
    latent_dim: length of the latent vector.  [default: the objective's, often 512]
    unit_variance: multiply latents on the sphere by the square root of their length before the
        generator.  [default: no, as PIONEER]
    fmap_base: feature maps at R px are min(2 * base / R, max).
        [default: the objective's, often 8192]
    fmap_max: see fmap-base.  [default: 512]
    attributes: labels that vac and introvac learn.  [default: all of the data's]
    label_thresholds: a label below LOW says no, above HIGH yes; between them it is unknown and left
        out.  [default: 0.5,0.5]
    balance: draw images so that these labels are yes as often as no, for rare ones.
    mirror: flip images left to right at random.  [default: no]
    augment: for small sets: change what an adversarial objective's critic is shown at random, as
        much as keeps it from learning the training images by heart, judged by held-out ones.
        [default: no]
    seed: of all that is random in the run.  [default: 0]
    ema_kimg: half-life of the networks' running averages, in thousands of images.  [default: 10]
    snapshot_kimg: thousands of images between snapshots; early in a run there are more, and each
        stage and each stop has one.  [default: a quarter of the run, at most 500]
    keep_snapshots: delete all but the newest so many snapshots, those at the end of a stage and the
        best one.  [default: keep all]
    metrics: measure on unseen images while training; best.safetensors is kept by the first. A run
        goes on without by none.  [default: none]
    metric_kimg: thousands of images between measurements.  [default: as --snapshot-kimg]
    inception_weights: pt_inception-2015-12-05-6726825d.pth, for the features of the published FID
        and KID.  [default: EfficientNet-Lite0's, said so in the names]
    max_hours: save and stop, with exit code 75, before this process has run so long: for a queue's
        limit.  [default: none]
    tracker: what shows figures and pictures while it trains, beside the run directory's own files.
        [default: tensorboard]
    device: where it runs.  [default: auto]
    precision: auto is fp32 on a CPU, bf16 on GPUs that have it, else tf32.  [default: auto]
    compile: the networks through torch.compile, each stage anew, which takes minutes on a CPU.
        [default: no]
    graphs: replay iterations as CUDA graphs, on one GPU.  [default: no]
    recompute: work the activations of blocks from 512 px on out twice rather than keep them: less
        memory, more time.  [default: no]
    workers: threads that decode images above 128 px.  [default: 2]
    data_root: where prepared sets are.  [default: datasets]
    outdir: where numbered run directories are made.  [default: runs]
    resume: go on with a run directory, needing no other option; without RUN with the newest run of
        the same options, or start one.
    init_from: start a new run from the weights of a snapshot, a run directory or a checkpoint.
    """

    dataset: str | None = None
    objective: str | None = None
    resolution: int | None = None
    size: str | None = None
    grow: bool | None = None
    start_resolution: int | None = None
    settings: tuple[str, ...] | None = None
    schedule: str | None = None
    kimg_per_stage: float | None = None
    total_kimg: float | None = None
    hours: float | None = None
    batch: int | Mapping[int, int] | None = None
    batch_gpu: int | None = None
    lr: float | Mapping[int, float] | None = None
    lr_milestones: tuple[float, ...] | None = None
    optimizer: str | None = None
    pretrain_kimg: float | None = None
    arch: str | None = None
    encoder_norm: str | None = None
    generator_norm: str | None = None
    latent_dim: int | None = None
    unit_variance: bool | None = None
    fmap_base: int | None = None
    fmap_max: int | None = None
    attributes: tuple[str, ...] | None = None
    label_thresholds: tuple[float, ...] | None = None
    balance: tuple[str, ...] | None = None
    mirror: bool | None = None
    augment: bool | None = None
    seed: int | None = None
    ema_kimg: float | None = None
    snapshot_kimg: float | None = None
    keep_snapshots: int | None = None
    metrics: tuple[str, ...] | None = None
    metric_kimg: float | None = None
    inception_weights: str | None = None
    max_hours: float | None = None
    tracker: str | None = None
    device: str | None = None
    precision: str | None = None
    compile: bool | None = None
    graphs: bool | None = None
    recompute: bool | None = None
    workers: int | None = None
    data_root: str | None = None
    outdir: str | None = None
    resume: str | None = None
    init_from: str | None = None

    def __post_init__(self) -> None:
        for name, kind in kinds().items():
            value = getattr(self, name)
            if name == "metrics" and value == ("none",):  # () where a run goes on without them
                value = ()
            elif value == () and name != "metrics":
                value = None
            if value is None:
                object.__setattr__(self, name, None)
                continue
            value = typed(name, kind, value)
            object.__setattr__(self, name, value)
            for item in items_of(value):
                if wrong := wrong_with(name, item):
                    raise InputError(f"{option(name)} {item or repr(item)}: {wrong}")
        if self.size is not None:
            longer, _ = parse_size(self.size, self.resolution)
            object.__setattr__(self, "resolution", longer)
        if self.label_thresholds and len(self.label_thresholds) != 2:
            raise InputError(
                f"{option('label_thresholds')} {spelled(self.label_thresholds)}: give two numbers, "
                "the lower one first"
            )

    def asked(self) -> dict[str, Any]:
        """The options that are not left to a preset or default."""
        return {n: v for n in kinds() if (v := getattr(self, n)) is not None}

    def values_of(self, name: str) -> tuple[Any, ...]:
        """The single values of an option, of all stages; none where it is left open."""
        value = getattr(self, name)
        return () if value is None else items_of(value)

    def given(self, *names: str) -> dict[str, Any]:
        """Those of `names` that are not left to a preset or default."""
        return {name: value for name, value in self.asked().items() if name in names}

    def recorded(self) -> "Request":
        """What a run directory keeps: paths that hold from any folder; no `resume`, no `max_hours`,
        which are of one process."""
        absolute: dict[str, Any] = {
            name: str(Path(value).absolute()) for name, value in self.given(*_PATHS).items()
        }
        return dataclasses.replace(self, resume=None, max_hours=None, **absolute)

    def words(self) -> tuple[str, ...]:
        """The command line after `python train.py`."""
        words: list[str] = []
        for name, value in self.asked().items():
            if isinstance(value, bool):
                words.append(option(name) if value else f"--no-{name}")
            elif name == "settings":
                words += [word for text in value for word in ("--set", text)]
            elif name == "resume" and value == NEWEST:
                words.append("--resume")
            else:
                words += [option(name), spelled(value)]
        return tuple(words)

    def to_json(self) -> str:
        """What is asked for."""
        return json.dumps(self.asked(), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Request":
        """The inverse of `to_json`.

        InputError where there is no such file, CorruptFileError where it is not a request.
        """
        try:
            values = json.loads(content_of(path))
            unknown = values.keys() - kinds().keys()
            if unknown:
                raise ValueError(f"unknown option {min(unknown)!r}")
            return cls(**values)
        except FileNotFoundError as error:
            raise InputError(f"there is no {path}") from error
        except (OSError, InputError, *_MALFORMED) as error:
            raise CorruptFileError(f"{path} cannot be read: {error}") from error


def over(before: Any, now: Any, resolutions: Iterable[int]) -> Any:
    """What an option of `BY_STAGE` says of a run that goes on, asked for once and again.

    >>> over(16, {64: 8}, (32, 64)), over({32: 4}, {64: 8}, (32, 64)), over(16, 8, (32, 64))
    ({32: 16, 64: 8}, {32: 4, 64: 8}, 8)
    """
    if not isinstance(now, Mapping):
        return before if now is None else now
    known = {r: value for r in resolutions if (value := at_stage(before, r)) is not None}
    return {**known, **now}


def kinds() -> dict[str, type]:
    """Each option's type: bool, int, float, str or tuple of them; in the order of `Request`."""
    return {name: get_args(hint)[0] for name, hint in get_type_hints(Request).items()}


def helps() -> dict[str, str]:
    """What the docstring of `Request` says of each option."""
    text = inspect.getdoc(Request) or ""  # Python 3.13 has taken its indentation off already
    entries = re.findall(r"^(\w+): (.+(?:\n {4}.+)*)", text, re.MULTILINE)
    lines = {name: re.sub(r"\n +", " ", text) for name, text in entries}
    return {name: re.sub(r" +\[default", "  [default", text) for name, text in lines.items()}
