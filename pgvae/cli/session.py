"""What the subcommands of `generate` work with: a model, a seed, a folder for pictures."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgvae.choices import Prior
from pgvae.cli import options
from pgvae.cli.options import PATH, option
from pgvae.config import require
from pgvae.errors import InputError
from pgvae.files import disk_errors, path_of

if TYPE_CHECKING:
    from torch import Tensor

    from pgvae.inference import Model


@dataclass(frozen=True)
class Session:
    """One use of a snapshot. The model is read once it is needed."""

    snapshot: Path
    out: Path
    seed: int
    device: str

    @functools.cached_property
    def model(self) -> "Model":
        """The snapshot's model. Raises as `pgvae.inference.load`."""
        from pgvae.inference import load, pick_device

        return load(self.snapshot, pick_device(self.device))

    def draw(self, count: int, prior: Prior | None = None, truncation: float = 1.0) -> "Tensor":
        """Latents of samples [N, d], as `Model.sample_latents`; says from which prior."""
        latents = self.model.sample_latents(count, self.seed, prior, truncation)
        shrunk = f", truncation {truncation:g}" if truncation < 1 else ""
        click.echo(f"samples from the {prior or self.model.default_prior} prior{shrunk}")
        return latents

    def save_images(self, names: Sequence[str], images: "Tensor") -> None:
        """Write each of [N, C, R, R] in [-1, 1] as a PNG of that name."""
        from pgvae.pictures import save_images

        with self._writing():
            save_images([self.out / name for name in names], images)

    def save_grid(self, name: str, images: "Tensor", columns: int | None = None) -> None:
        """Write a grid of [N, C, R, R] in [-1, 1], and say where."""
        from pgvae.pictures import save_grid

        with self._writing():
            save_grid(self.out / name, images, columns)
        click.echo(self.out / name)

    def save_animation(self, name: str, frames: "Tensor", fps: int) -> None:
        """Write an animation of [N, C, R, R] in [-1, 1], and say where."""
        from pgvae.pictures import save_animation

        with self._writing():
            save_animation(self.out / name, frames, fps)
        click.echo(f"{self.out / name}: {len(frames)} frames")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the folder. InputError where it cannot be written to, ResourceError where full."""
        try:
            with disk_errors(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            where, why = path_of(error) or self.out, error.strerror or error
            raise InputError(f"cannot write to {where}: {why}; use another --out") from error


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Add what may stand before a subcommand of `generate` and after it."""
    out = option("--out", "Where pictures are written.", PATH, default=Path("out"))
    for add in (options.DEVICE, options.SEED, out, options.snapshot(required=False)):
        command = add(command)
    return command


def in_session(command: Callable[..., None]) -> Callable[..., None]:
    """Make a subcommand of `generate` of a function of a `Session` and options of its own."""

    @shared
    @functools.wraps(command)
    def run(snapshot: Path | None, out: Path, seed: int, device: str, **own: Any) -> None:
        require(
            snapshot is not None, "give --snapshot PATH: a .safetensors snapshot or a run directory"
        )
        command(Session(snapshot, out, seed, device), **own)

    return run
