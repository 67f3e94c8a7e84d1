"""`pgvae generate edit | conditional`: images by their attributes."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgvae.checks import require
from pgvae.choices import LANGEVIN_STEP_SIZE, LANGEVIN_STEPS, Prior, Sampling
from pgvae.cli import options
from pgvae.cli.options import POSITIVE, PROBABILITY, SEVERAL, option
from pgvae.cli.session import Session, in_session
from pgvae.cli.types import Finite

if TYPE_CHECKING:
    from torch import Tensor

_COLUMNS = 8
_DELTA, _MOST = 3.0, 1000  # deviations


@click.command()
@options.images()
@option(
    "--attribute attributes NAME", "What to add; may be repeated.", multiple=True, required=True
)
@option(
    "--delta deltas",
    "How far to move along each, in deviations of the prior: one for all, or one for "
    "each.  [default: 3]",
    float,
    multiple=True,
    show_default=False,
)
@option("--remove", "Take away instead of adding.", is_flag=True)
@option(
    "--to P",
    "Move until the classifier of latents is so sure, in place of --delta.",
    click.FloatRange(0.5, 1, min_open=True, max_open=True),
)
@option("--strip N", "Also N steps from -delta to +delta of each image.", SEVERAL)
@option("--count", "At most so many images.", POSITIVE, default=64)
@in_session
def edit(
    session: Session,
    paths: tuple[str, ...],
    data_root: Path,
    attributes: tuple[str, ...],
    deltas: tuple[float, ...],
    remove: bool,
    to: float | None,
    strip: int | None,
    count: int,
) -> None:
    """Add attributes to images, or take them away: original, reconstruction and edit of each.

    PATHS are image files, folders or zips, or prepared sets by name or path, whose unseen images
    are taken.
    Prints how sure the classifier is of each image, and of its edit, encoded again.

    vac and introvac know the attributes that they were trained with; for others, and for more,
    `pgvae directions` estimates them from labelled images.

    Example: python generate.py --snapshot PATH edit me.jpg --attribute glasses --delta 3
    """
    import torch

    from pgvae.cli.inputs import read_paths, unique_stems
    from pgvae.pictures import interleave

    require(not (deltas and to), "--to and --delta: give one of them")
    steps = _steps(attributes, deltas, -1.0 if remove else 1.0)
    model = session.model
    chosen = model.directions.of(attributes)
    certainty = to if to is None or not remove else 1 - to
    images, names = read_paths(model, paths, count, data_root)
    latents = model.encode(images)
    by = None if certainty is not None else steps
    moved = model.move(latents, attributes, by, to=certainty)
    again, edited = model.decode(latents), model.decode(moved)
    before, after = (torch.sigmoid(chosen.logits(z)) for z in (latents, model.encode(edited)))
    if len(names) <= 16:
        _tell(names, attributes, before, after)
    triplets = torch.cat([images, again, edited], dim=3)  # [N, C, R, 3R]
    session.save_images([f"{stem}-edit.png" for stem in unique_stems(names)], triplets)
    columns = min(_COLUMNS, len(names))
    rows = interleave(images, again, edited, columns=columns)
    session.save_grid("edits.png", rows, columns)
    if strip:
        ratios = torch.linspace(-1, 1, strip).tolist()
        ways = [model.move(latents, attributes, [r * abs(s) for s in steps]) for r in ratios]
        frames = torch.stack([images, *map(model.decode, ways)], dim=1)  # [N, 1 + strip, C, R, R]
        session.save_grid("strip.png", frames.flatten(0, 1), strip + 1)


def _steps(attributes: tuple[str, ...], deltas: tuple[float, ...], sign: float) -> list[float]:
    """How far to move along each attribute; InputError for too many deltas, or too large ones."""
    deltas = deltas or (_DELTA,)
    require(
        len(deltas) in (1, len(attributes)),
        f"--delta is given {len(deltas)} times for {len(attributes)} attributes: give one for each",
    )
    require(
        all(abs(delta) <= _MOST for delta in deltas),
        f"--delta {', '.join(map(str, deltas))}: use numbers from -{_MOST} to {_MOST}",
    )
    return [sign * delta for delta in (deltas * len(attributes) if len(deltas) == 1 else deltas)]


def _tell(names: list[str], attributes: tuple[str, ...], *certainties: "Tensor") -> None:
    """How sure the classifier is of each image before and after: [N, K] each."""
    for name, before, after in zip(names, *certainties, strict=True):
        rows = zip(attributes, before, after, strict=True)
        click.echo(f"{name}: {', '.join(f'{a} {was:.0%} -> {now:.0%}' for a, was, now in rows)}")


class _Wanted(click.ParamType):
    """glasses=1,hat=0: attributes that are to be there, or not."""

    name = "attributes"

    def convert(self, value, param, ctx) -> dict[str, int]:
        if isinstance(value, dict):
            return value
        wanted = {}
        for word in value.split(","):
            name, _, asked = (part.strip() for part in word.partition("="))
            if not name or asked not in ("0", "1"):
                self.fail(f"{word!r} is not NAME=1 or NAME=0", param, ctx)
            if name in wanted:
                self.fail(f"{name!r} stands twice", param, ctx)
            wanted[name] = int(asked)
        return wanted


@click.command()
@option(
    "--with wanted NAME=1,NAME=0,...",
    "Attributes that are to be there (1) or not (0).",
    _Wanted(),
    required=True,
)
@option("--count", "", POSITIVE, default=64)
@option(
    "--method",
    "Langevin Monte Carlo, or rejection from the prior, which is exact and faster.",
    Sampling,
    default="langevin",
)
@option("--steps", f"Of Langevin.  [default: {LANGEVIN_STEPS}]", POSITIVE)
@option("--step-size", f"Of Langevin.  [default: {LANGEVIN_STEP_SIZE}]", Finite())
@option(
    "--sure P",
    "Leave out images that, encoded again, are as asked with less than this probability.",
    PROBABILITY,
    default=0.5,
)
@option(
    "--prior",
    "Of rejection; Langevin's is that of training.  [default: fitted, where there is one that is "
    "not worse]",
    Prior,
)
@in_session
def conditional(
    session: Session,
    wanted: dict[str, int],
    count: int,
    method: Sampling,
    steps: int | None,
    step_size: float | None,
    sure: float,
    prior: Prior | None,
) -> None:
    """Draw new images with given attributes: one file each and a grid.

    What the classifier does not find to be as asked is left out.

    Example: python generate.py --snapshot PATH conditional --with glasses=1,hat=0 --count 16
    """
    for name, value in (("--steps", steps), ("--step-size", step_size)):
        require(
            method == "langevin" or value is None,
            f"{name} {value} is of --method langevin: leave it out",
        )
    model = session.model
    found = model.conditional_latents(
        count,
        wanted,
        steps or LANGEVIN_STEPS,
        method=method,
        step_size=LANGEVIN_STEP_SIZE if step_size is None else step_size,
        sure=sure,
        seed=session.seed,
        prior=prior,
    )
    what = "chains from the training prior"
    if method == "rejection":
        what = f"draws from the {prior or model.default_prior} prior"
    click.echo(f"{method}: kept {found.accepted:.1%} of the {what}")
    images = model.decode(found.latents)
    session.save_images([f"conditional-{i:04d}.png" for i in range(count)], images)
    session.save_grid("conditional.png", images)
