"""`pgvae train`: start or resume a run."""

from pathlib import Path
from typing import Any, get_args

import click

from pgvae.cli import options as shared
from pgvae.cli.types import Finite, Resolution, WordList
from pgvae.config import MAX_RESOLUTION, Arch, EncoderNorm, GeneratorNorm
from pgvae.data import open_dataset
from pgvae.inference import pick_device
from pgvae.metrics.table import METRICS, check_metrics, check_names
from pgvae.objectives import OBJECTIVES
from pgvae.schedule import PRESETS
from pgvae.snapshot import load_snapshot
from pgvae.training.engine import train as run_training
from pgvae.training.plan import describe
from pgvae.training.rundir import RunDirectory, find_run, require_writable, with_shares_of
from pgvae.training.settings import parse_settings
from pgvae.training.setup import build_config, check_batch

_MODEL = ("arch", "encoder_norm", "generator_norm", "latent_dim", "fmap_base", "fmap_max")


_POSITIVE, _RESOLUTION = Finite(), Resolution()


@click.command()
@shared.DATASET
@click.option(
    "--grow/--no-grow",
    default=None,
    help="Grow from the start resolution, or train the final one alone.  "
    "[default: as the objective]",
)
@click.option("--objective", default="pioneer", metavar="|".join(OBJECTIVES), show_default=True)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the objective, such as beta_kl=0.5, or of one stage, such as "
    "margin@64=0.02; may be repeated.",
)
@click.option(
    "--schedule",
    type=click.Choice([*PRESETS]),
    help="Preset of stage lengths, batch sizes and learning rates.  [default: the objective's]",
)
@click.option(
    "--resolution",
    type=_RESOLUTION,
    metavar="R",
    help="Final pixels per side.  [default: the data's]",
)
@click.option(
    "--start-resolution",
    type=_RESOLUTION,
    metavar="R",
    help="Pixels per side of the first stage.  [default: 4]",
)
@click.option(
    "--arch",
    type=click.Choice(get_args(Arch)),
    help="Networks: PIONEER's or IntroVAE's.  [default: the objective's]",
)
@click.option(
    "--encoder-norm",
    type=click.Choice(get_args(EncoderNorm)),
    help="[default: the objective's; batch is for arch residual]",
)
@click.option(
    "--generator-norm",
    type=click.Choice(get_args(GeneratorNorm)),
    help="[default: the objective's; batch is for arch residual]",
)
@click.option(
    "--latent-dim", type=click.IntRange(min=2), help="[default: the objective's, often 512]"
)
@click.option(
    "--fmap-base",
    type=click.IntRange(min=1),
    help="Feature maps at R px: min(2 * base / R, max).  [default: the objective's, often 8192]",
)
@click.option("--fmap-max", type=click.IntRange(min=1), help="[default: 512]")
@click.option(
    "--kimg-per-stage",
    type=_POSITIVE,
    metavar="K",
    help="Thousands of images per stage, half of them fading in.  [default: the schedule's]",
)
@click.option(
    "--total-kimg",
    type=_POSITIVE,
    metavar="K",
    help="Thousands of images in all.  [default: every stage once]",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Batch size of every stage.  [default: the schedule's]",
)
@click.option(
    "--lr", type=_POSITIVE, help="Learning rate of every stage.  [default: the schedule's]"
)
@click.option(
    "--lr-milestones",
    type=WordList(_POSITIVE),
    metavar="K,K,...",
    help="Thousands of images after each of which the rate is halved.  [default: the schedule's]",
)
@click.option(
    "--pretrain-kimg",
    type=click.FloatRange(min=0),
    metavar="K",
    help="Thousands of images of pre-training as a VAE (introvae's family).  "
    "[default: the schedule's]",
)
@click.option(
    "--attributes",
    type=WordList(),
    metavar="NAME,...",
    help="Labels that vac and introvac learn.  [default: all of the data's]",
)
@shared.LABEL_THRESHOLDS
@click.option(
    "--balance",
    type=WordList(),
    metavar="NAME,...",
    help="Draw images so that these labels are yes as often as no, for rare ones.",
)
@click.option("--mirror/--no-mirror", default=False, help="Flip images left to right at random.")
@shared.SEED
@shared.DEVICE
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "tf32", "bf16"]),
    default="auto",
    help="auto: fp32 on a CPU, bf16 on GPUs that have it, else tf32.",
)
@click.option(
    "--outdir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    help="Where numbered run directories are made.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the newest run of the same options; start one where there is none.",
)
@click.option(
    "--init-from",
    type=click.Path(path_type=Path),
    metavar="SNAPSHOT",
    help="Start a new run from these weights.",
)
@click.option(
    "--ema-kimg",
    type=_POSITIVE,
    default=10.0,
    help="Half-life of the generator's running average, in thousands of images.",
)
@click.option(
    "--snapshot-kimg",
    type=_POSITIVE,
    metavar="K",
    help="Thousands of images between snapshots; each stage ends with one.  "
    "[default: a quarter of the run, at most 500]",
)
@click.option(
    "--metrics",
    type=WordList(),
    metavar="NAME,...",
    help=f"Measure on unseen images while training, of {', '.join(METRICS)}; best.safetensors is "
    "kept by the first.  [default: none]",
)
@click.option(
    "--metric-kimg",
    type=_POSITIVE,
    metavar="K",
    help="Thousands of images between measurements.  [default: as --snapshot-kimg]",
)
@shared.INCEPTION_WEIGHTS
@shared.DATA_ROOT
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=2,
    help="Threads that decode images above 128 px.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Print the plan and stop.")
def train(
    *,
    dataset: str,
    objective: str,
    settings: tuple[str, ...],
    device: str,
    outdir: Path,
    resume: bool,
    init_from: Path | None,
    data_root: Path,
    workers: int,
    inception_weights: Path | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train a growing generative autoencoder on a set of images.

    Ctrl-C or SIGTERM saves and exits with code 75; the same command with --resume goes on
    exactly where it stopped.

    Example: python train.py --dataset photos/ --grow --resolution 64 --mirror
    """
    options["metrics"] = options["metrics"] or ()
    if options["metrics"]:  # before images are prepared; at what the data has, once that is known
        known = options["resolution"] or MAX_RESOLUTION
        check_metrics(options["metrics"], known, inception_weights)
    chosen_settings = parse_settings(objective, settings)
    if options["batch"] is not None:
        check_batch(objective, options["batch"])
    chosen_device = pick_device(device)
    if device == "auto" and chosen_device.type == "cpu":
        click.echo("no CUDA device found: training on the CPU")
    require_writable(outdir)
    initial = load_snapshot(init_from) if init_from else None
    store = open_dataset(dataset, data_root, resolution=options["resolution"], say=click.echo)
    config = build_config(
        store,
        objective=objective,
        settings=chosen_settings,
        model={name: options.pop(name) for name in _MODEL},
        labels={
            "attributes": options.pop("attributes"),
            "balance": options.pop("balance"),
            **dict(zip(("no_below", "yes_above"), options.pop("label_thresholds"), strict=True)),
        },
        initial=initial,
        init_from=init_from.name if init_from else None,
        **options,
    )
    if config.metrics:
        check_names(config.metrics, config.model.resolution)
    if dry_run:
        click.echo(describe(config))
        return
    found = find_run(outdir, config) if resume else None
    if found:
        asked = {
            "pretrain_kimg": "pretrain_kimg",
            "milestones_kimg": "lr_milestones",
            "metrics": "metrics",
            "metric_kimg": "metric_kimg",
        }
        given = [name for name, option in asked.items() if options[option] not in (None, ())]
        config = with_shares_of(found, config, given)
    if resume and found is None:
        click.echo(f"no run to resume in {outdir}: starting a new one")
    run = RunDirectory(found) if found else RunDirectory.create(outdir, config)
    try:
        if found:
            run.write_config(config)
        run_training(
            config,
            store,
            run,
            chosen_device,
            workers=workers,
            initial=initial,
            inception_weights=inception_weights,
        )
    finally:
        run.close()
