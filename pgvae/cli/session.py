"""What the subcommands of `generate` work with: a model, a seed, a folder for pictures."""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgvae.checks import require
from pgvae.choices import Prior
from pgvae.cli import options
from pgvae.cli.options import PATH, option
from pgvae.cli.types import Seed
from pgvae.errors import InputError
from pgvae.files import disk_errors, numbered_folder, path_of
from pgvae.sizes import size_at
from pgvae.terminal import check_interrupts

if TYPE_CHECKING:
    from torch import Tensor

    from pgvae.inference import Model

_OUT = Path("out")
_SHOWN, _GRID_PIXELS = 256, 2**26  # of many images in a grid
_MOST_PIXELS = 2**30  # that are made at once: 12 GiB of colours
_NUMBERED = re.compile(r"-\d+\.png$")


@dataclass
class Session:
    """One use of a snapshot. The model is read, and the folder made, once it is needed.

    name:  of the command. given: the folder that was asked for; None: a new one in `out`.
    asked: the seed that was asked for; None: 0.
    """

    name: str
    snapshot: Path
    given: Path | None
    asked: int | None
    device: str
    _written: set[str] = field(default_factory=set)
    _replaced: list[str] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """Of what is drawn."""
        return self.asked or 0

    @functools.cached_property
    def model(self) -> "Model":
        """The snapshot's model. Raises as `pgvae.inference.load`."""
        from pgvae.inference import load, pick_device

        check_interrupts()
        return load(self.snapshot, pick_device(self.device))

    @functools.cached_property
    def out(self) -> Path:
        """The folder to write in. InputError where it cannot be made, ResourceError on a full
        disk."""
        with self._writing(self.given or _OUT), disk_errors(self.given or _OUT):
            if self.given is None:
                return numbered_folder(_OUT, self.name)
            self.given.mkdir(parents=True, exist_ok=True)
            return self.given

    def require_room(self, steps: int, count: int) -> None:
        """Raise InputError where `count` images, of so many --steps, are more than memory has."""
        pixels = math.prod(size_at(self.model.config.base, self.model.resolution))
        require(
            count * pixels <= _MOST_PIXELS,
            f"--steps {steps} makes {count:,} images of {self.model.size} px at once, and "
            f"{_MOST_PIXELS // pixels:,} are the most: use fewer",
        )

    def say_prior(self, prior: Prior | None, truncation: float = 1.0) -> None:
        """Say what latents are drawn from."""
        shrunk = f", truncation {truncation:g}" if truncation < 1 else ""
        click.echo(f"samples from the {prior or self.model.default_prior} prior{shrunk}")

    def draw(self, count: int, prior: Prior | None = None, truncation: float = 1.0) -> "Tensor":
        """Latents of samples [N, d], as `Model.sample_latents`; says from which prior."""
        latents = self.model.sample_latents(count, self.seed, prior, truncation)
        self.say_prior(prior, truncation)
        return latents

    def save_images(self, names: Sequence[str], images: "Tensor") -> None:
        """Write each of [N, C, R, R] in [-1, 1] as a PNG of that name."""
        from pgvae.pictures import save_images

        with self._writing(self.out):
            save_images([self.place(name) for name in names], images)

    def save_stream(
        self, names: Sequence[str], batches: Iterable["Tensor"], grid: str | None
    ) -> None:
        """Write images that come in batches, each as a PNG of its name, and the first as a grid."""
        import torch
        from tqdm import tqdm

        shown: list[Tensor] = []
        most = max(4, min(_SHOWN, _GRID_PIXELS // self.model.resolution**2))
        done = 0
        with tqdm(total=len(names), leave=False, disable=None, unit="img") as bar:
            for images in batches:
                self.save_images(names[done : done + len(images)], images)
                if grid and done < most:
                    shown.append(images[: most - done].cpu())
                done += len(images)
                bar.update(len(images))
        if grid:
            self.save_grid(grid, torch.cat(shown))
        else:
            click.echo(f"{self.out}: {done:,} images")
        if grid and done > most:
            click.echo(f"{self.out / grid} shows the first {most:,} of {done:,}")

    def save_grid(self, name: str, images: "Tensor", columns: int | None = None) -> None:
        """Write a grid of [N, C, R, R] in [-1, 1], and say where."""
        from pgvae.pictures import save_grid

        with self._writing(self.out):
            save_grid(self.place(name), images, columns)
        click.echo(self.out / name)

    def save_animation(self, name: str, frames: "Tensor", fps: int) -> None:
        """Write an animation of [N, C, R, R] in [-1, 1], and say where."""
        from pgvae.pictures import save_animation

        with self._writing(self.out):
            save_animation(self.place(name), frames, fps)
        click.echo(f"{self.out / name}: {len(frames)} frames")

    def save_latents(self, name: str, latents: "Tensor", names: Sequence[str]) -> None:
        """Write latents [N, d] of images of those names, and say where."""
        from pgvae.inference.latents import save_latents

        with self._writing(self.out):
            save_latents(self.place(name), latents, names)
        click.echo(f"{self.out / name}: latents [{', '.join(map(str, latents.shape))}]")

    def place(self, name: str) -> Path:
        """Where a file of that name is written; notes whether there is one before."""
        path = self.out / name
        if name not in self._written and path.exists():
            self._replaced.append(name)
        self._written.add(name)
        return path

    def tell(self) -> None:
        """Name the files that were replaced, and those of before that look as if they were new."""
        if self._replaced:
            click.echo(f"replaced in {self.out}: {_some(self._replaced)}")
        series = {name.rpartition("-")[0] for name in self._written if _NUMBERED.search(name)}
        there = {
            path.name
            for start in series
            for path in self.out.glob(f"{start}-*.png")
            if _NUMBERED.search(path.name) and path.name.rpartition("-")[0] == start
        }
        older = sorted(there - self._written)
        if older:
            click.echo(f"{self.out} has older files beside these: {_some(older)}")

    @contextlib.contextmanager
    def _writing(self, folder: Path) -> Iterator[None]:
        """InputError where something cannot be written."""
        try:
            yield
        except OSError as error:
            where, why = path_of(error) or folder, error.strerror or error
            raise InputError(f"cannot write to {where}: {why}; use another --out") from error


def _some(names: Sequence[str]) -> str:
    """A few of them: "a.png, b.png and 7 more"."""
    more = f" and {len(names) - 2:,} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Add what may stand before a subcommand of `generate` and after it."""
    out = option("--out", "Folder for pictures.  [default: a new one in out/]", PATH)
    seed = option("--seed", "  [default: 0]", Seed())
    for add in (options.DEVICE, seed, out, options.snapshot(required=False)):
        command = add(command)
    return command


def in_session(command: Callable[..., None]) -> Callable[..., None]:
    """Make a subcommand of `generate` of a function of a `Session` and options of its own."""

    @shared
    @functools.wraps(command)
    def run(
        snapshot: Path | None, out: Path | None, seed: int | None, device: str, **own: Any
    ) -> None:
        if snapshot is None:
            raise InputError("give --snapshot PATH: a .safetensors snapshot or a run directory")
        options.require_writable_folder(out or _OUT)
        session = Session(command.__name__, snapshot, out, seed, device)
        command(session, **own)
        session.tell()

    return run
