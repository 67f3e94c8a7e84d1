"""`pgvae generate`: use a snapshot."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgvae.checks import require
from pgvae.choices import PROJECTION_STEPS, Animation, Prior
from pgvae.cli import options
from pgvae.cli.edit import conditional, edit
from pgvae.cli.groups import Commands
from pgvae.cli.latents import decode, encode
from pgvae.cli.neighbours import neighbours
from pgvae.cli.options import POSITIVE, SEVERAL, option
from pgvae.cli.session import Session, in_session, shared
from pgvae.cli.types import Seeds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

_COLUMNS, _COUNT = 8, 64


@click.group(cls=Commands, invoke_without_command=True)
@shared
@click.pass_context
def generate(ctx: click.Context, **given: Any) -> None:
    """Sample from a snapshot, reconstruct and edit images, go from one to another.

    Its options may stand after a command too.

    Example: python generate.py --snapshot runs/00000-faces-pioneer-64px reconstruct photos/
    """
    ctx.default_map = dict.fromkeys(generate.commands, given)  # a command's own option goes first
    if ctx.invoked_subcommand is None:
        ctx.invoke(samples)


@generate.command()
@option("--count", f"How many; the first are the same for any.  [default: {_COUNT}]", POSITIVE)
@option("--seeds 1,5,10-20", "One image of each of these, in the place of --count.", Seeds())
@option("--grid/--no-grid", "Whether the first ones are also drawn as a grid.", default=True)
@options.PRIOR
@options.TRUNCATION
@in_session
def samples(
    session: Session,
    count: int | None,
    seeds: tuple[int, ...] | None,
    grid: bool,
    prior: Prior | None,
    truncation: float,
) -> None:
    """Draw new images: one file each and a grid. This is the default.

    Any --count takes the same memory. The image of a seed is the first one of --seed.

    Examples: python generate.py --snapshot PATH samples --count 16

    python generate.py --snapshot PATH samples --seeds 1,5,10-20 --truncation 0.7
    """
    import torch

    require(count is None or seeds is None, "--count and --seeds: give one of them")
    require(session.asked is None or seeds is None, "--seed and --seeds: give one of them")
    model, how, count = session.model, (prior, truncation), count or _COUNT
    if seeds:
        names = [f"seed-{seed:04d}.png" for seed in seeds]
        latents = [model.sample_latents(1, seed, *how) for seed in seeds]
        images: Iterable[Tensor] = map(model.decode, torch.cat(latents).split(model.batch_size))
    else:
        names = [f"sample-{i:04d}.png" for i in range(count)]
        images = model.sample_batches(count, session.seed, *how)
    session.say_prior(prior, truncation)
    session.save_stream(names, images, "samples.png" if grid else None)


@generate.command()
@options.images()
@option("--count", "At most so many images.", POSITIVE, default=64)
@option(
    "--steps",
    f"Of optimisation, where the model has no encoder.  [default: {PROJECTION_STEPS}]",
    POSITIVE,
)
@in_session
def reconstruct(
    session: Session, paths: tuple[str, ...], data_root: Path, count: int, steps: int | None
) -> None:
    """Encode and decode images: each beside its original and alone, a grid, RMSE and PSNR.

    PATHS are image files, folders or zips of any images (fitted by a central crop), or prepared
    sets by name or path, whose unseen (validation) images are taken. For a model without an encoder
    (pggan) the latents are found by optimisation, from samples of --seed, which takes a while.

    Example: python generate.py --snapshot PATH reconstruct me.jpg friends/
    """
    import torch

    from pgvae.cli.inputs import read_paths, unique_stems
    from pgvae.metrics import psnr, rmse
    from pgvae.pictures import interleave

    model = session.model
    require(
        steps is None or not model.encodes,
        f"--steps {steps}: this model has an encoder, which needs none; leave it out",
    )
    images, names = read_paths(model, paths, count, data_root)
    if not model.encodes:
        click.echo(
            f"{model.objective['name']} has no encoder: {len(names)} images are projected, by "
            f"{steps or PROJECTION_STEPS} steps of optimisation from samples of seed {session.seed}"
        )
    again = model.reconstruct(images, steps=steps or PROJECTION_STEPS, seed=session.seed)
    pairs, stems = torch.cat([images, again], dim=3), unique_stems(names)  # [N, C, R, 2R]
    session.save_images([f"{stem}-pair.png" for stem in stems], pairs)
    session.save_images([f"{stem}-reconstruction.png" for stem in stems], again)
    errors, figures = rmse(images, again), psnr(images, again)
    if len(names) <= 16:
        for name, error, figure in zip(names, errors, figures, strict=True):
            click.echo(f"{name}: RMSE {error:.2f}/255, PSNR {figure:.2f} dB")
    gain = ""
    if model.mean_image.any():  # not known of a converted model
        baseline = psnr(images, model.mean_image.expand_as(images)).mean()
        gain = f", {figures.mean() - baseline:+.2f} dB against the mean training image"
    click.echo(
        f"{len(names)} images at {model.size} px: RMSE {errors.mean():.2f}/255, "
        f"PSNR {figures.mean():.2f} dB{gain}"
    )
    columns = min(_COLUMNS, len(names))
    session.save_grid("reconstructions.png", interleave(images, again, columns=columns), columns)


@generate.command()
@options.images()
@option("--steps", "", SEVERAL, default=8)
@in_session
def interpolate(session: Session, paths: tuple[str, ...], data_root: Path, steps: int) -> None:
    """Between two images a strip, between four a grid with them as corners.

    PATHS are 2 or 4 image files, or one folder, zip or prepared set, whose first 4 are taken.

    Example: python generate.py --snapshot PATH interpolate a.jpg b.jpg c.jpg d.jpg --steps 8
    """
    from pgvae.cli.inputs import read_paths

    images, names = read_paths(session.model, paths, 4, data_root)
    session.require_room(steps, steps ** (len(images) // 2))
    require(
        len(images) in (2, 4),
        f"interpolate needs 2 or 4 images: got {len(images)} ({', '.join(names[:5])})",
    )
    click.echo(f"between {', '.join(names)}")
    session.save_grid("interpolation.png", session.model.interpolate(images, steps), steps)


@generate.command()
@options.images(required=False)
@option("--count", "Samples to walk through; of images, at most so many.", SEVERAL, default=6)
@option("--steps", "Frames between two.", POSITIVE, default=16)
@option("--fps", "", click.IntRange(1, 100), default=16)
@option("--loop/--no-loop", "Whether it ends where it began.", default=True)
@option("--format ending", "", Animation, default="gif")
@options.PRIOR
@options.TRUNCATION
@in_session
def walk(
    session: Session,
    paths: tuple[str, ...],
    data_root: Path,
    count: int,
    steps: int,
    fps: int,
    loop: bool,
    ending: Animation,
    prior: Prior | None,
    truncation: float,
) -> None:
    """An animation that goes from image to image; without PATHS, from sample to sample.

    PATHS are image files, folders, zips or prepared sets. png is an animated PNG; mp4 needs the
    package imageio-ffmpeg.

    Example: python generate.py --snapshot PATH walk a.jpg b.jpg c.jpg --steps 24 --format gif
    """
    from pgvae.cli.inputs import read_paths
    from pgvae.pictures import check_animation

    check_animation(ending)
    require(
        not paths or (prior is None and truncation == 1),
        "--prior and --truncation are of samples: leave out the images, or these options",
    )
    model = session.model
    if paths:
        images, names = read_paths(model, paths, count, data_root)
        require(len(images) >= 2, f"walk needs 2 or more images: got {', '.join(names)}")
        session.require_room(steps, steps * len(images))
        latents = model.encode(images)
        click.echo(f"through {', '.join(names)}")
    else:
        session.require_room(steps, steps * count)
        latents = session.draw(count, prior, truncation)
    frames = model.walk(latents, steps, closed=loop)
    session.save_animation(f"walk.{ending}", frames, fps)


for _command in (edit, conditional, neighbours, encode, decode):
    generate.add_command(_command)
