"""`pgvae generate`: use a snapshot."""

from pathlib import Path

import click
import torch

from pgvae.cli import inputs
from pgvae.cli.edit import conditional, edit
from pgvae.cli.inputs import Job, read_paths, write_grid
from pgvae.cli.neighbours import neighbours
from pgvae.config import require
from pgvae.inference import load, pick_device
from pgvae.metrics import psnr, rmse
from pgvae.pictures import ANIMATIONS, check_animation, interleave, save_animation, save_images

_COLUMNS = 8


@click.group(invoke_without_command=True)
@inputs.SNAPSHOT
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out"),
    help="Where pictures are written.",
)
@inputs.SEED
@inputs.DEVICE
@click.pass_context
def generate(ctx: click.Context, snapshot: Path, out: Path, seed: int, device: str) -> None:
    """Sample from a snapshot, reconstruct and edit images, go from one to another.

    Example: python generate.py --snapshot runs/00000-faces-pioneer-64px reconstruct photos/
    """
    ctx.obj = Job(load(snapshot, pick_device(device)), out, seed)
    if ctx.invoked_subcommand is None:
        ctx.invoke(samples)


@generate.command()
@click.option("--count", type=click.IntRange(min=1), default=64)
@click.pass_obj
def samples(job: Job, count: int) -> None:
    """Draw new images: one file each and a grid. This is the default.

    Example: python generate.py --snapshot PATH samples --count 16
    """
    folder = job.folder()
    images = job.model.sample(count, seed=job.seed)
    save_images([folder / f"sample-{i:04d}.png" for i in range(count)], images)
    write_grid(folder / "samples.png", images, None)


@generate.command()
@inputs.PATHS
@click.option("--count", type=click.IntRange(min=1), default=64, help="At most so many images.")
@click.pass_obj
def reconstruct(job: Job, paths: tuple[Path, ...], count: int) -> None:
    """Encode and decode images: a pair each, a grid, RMSE and PSNR.

    PATHS are image files, folders or zips of any images (fitted by a central crop), or a
    prepared set, whose unseen (validation) images are taken.

    Example: python generate.py --snapshot PATH reconstruct me.jpg friends/
    """
    images, names = read_paths(job.model, paths, count)
    folder = job.folder()
    again = job.model.reconstruct(images)
    stems = inputs.unique([Path(name).stem for name in names])
    pairs = torch.cat([images, again], dim=3)  # [N, C, R, 2R]
    save_images([folder / f"{stem}-pair.png" for stem in stems], pairs)
    errors, figures = rmse(images, again), psnr(images, again)
    if len(names) <= 16:
        for name, error, figure in zip(names, errors, figures, strict=True):
            click.echo(f"{name}: RMSE {error:.2f}/255, PSNR {figure:.2f} dB")
    gain = ""
    if job.model.mean_image.any():  # not known of a converted model
        baseline = psnr(images, job.model.mean_image.expand_as(images)).mean()
        gain = f", {figures.mean() - baseline:+.2f} dB against the mean training image"
    click.echo(
        f"{len(names)} images at {job.model.resolution} px: RMSE {errors.mean():.2f}/255, "
        f"PSNR {figures.mean():.2f} dB{gain}"
    )
    columns = min(_COLUMNS, len(names))
    grid = interleave(images, again, columns=columns)
    write_grid(folder / "reconstructions.png", grid, columns)


@generate.command()
@inputs.PATHS
@click.option("--steps", type=click.IntRange(min=2), default=8)
@click.pass_obj
def interpolate(job: Job, paths: tuple[Path, ...], steps: int) -> None:
    """Between two images a strip, between four a grid with them as corners.

    PATHS are 2 or 4 image files, or one folder, zip or prepared set, whose first 4 are taken.

    Example: python generate.py --snapshot PATH interpolate a.jpg b.jpg c.jpg d.jpg --steps 8
    """
    images, names = read_paths(job.model, paths, 4)
    require(
        len(images) in (2, 4),
        f"interpolate needs 2 or 4 images: got {len(images)} ({', '.join(names[:5])})",
    )
    folder = job.folder()
    click.echo(f"between {', '.join(names)}")
    write_grid(folder / "interpolation.png", job.model.interpolate(images, steps), steps)


@generate.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(min=2), default=6, help="Images to walk through.")
@click.option("--steps", type=click.IntRange(min=1), default=16, help="Frames between two.")
@click.option("--fps", type=click.IntRange(1, 100), default=16)
@click.option("--loop/--no-loop", default=True, help="Whether it ends where it began.")
@click.option("--format", "ending", type=click.Choice(ANIMATIONS), default="gif")
@click.pass_obj
def walk(
    job: Job, paths: tuple[Path, ...], count: int, steps: int, fps: int, loop: bool, ending: str
) -> None:
    """An animation that goes from image to image; without PATHS, from sample to sample.

    PATHS are image files, folders, zips or prepared sets. png is an animated PNG; mp4 needs the
    package imageio-ffmpeg.

    Example: python generate.py --snapshot PATH walk a.jpg b.jpg c.jpg --steps 24 --format gif
    """
    check_animation(ending)
    if paths:
        images, names = read_paths(job.model, paths, count)
        require(len(images) >= 2, f"walk needs 2 or more images: got {', '.join(names)}")
        latents = job.model.encode(images)
        click.echo(f"through {', '.join(names)}")
    else:
        latents = job.model.sample_latents(count, job.seed)
    frames = job.model.walk(latents, steps, closed=loop)
    path = job.folder() / f"walk.{ending}"
    save_animation(path, frames, fps)
    click.echo(f"{path}: {len(frames)} frames")


for _command in (edit, conditional, neighbours):
    generate.add_command(_command)
