"""Pictures that a report makes of a run's networks: latents over growth, samples and their like."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.data import Store, read_images
from pgvae.errors import PgvaeError
from pgvae.inference import Model, load
from pgvae.inference.images import batches_for
from pgvae.metrics.neighbours import nearest
from pgvae.pictures import grid_of, to_picture
from pgvae.sizes import size_at

_LATENTS = 8  # that are shown at every snapshot
_SAMPLES, _NEAREST, _SEARCHED = 6, 5, 20_000
_SIDE = 1024  # pixels of a row, at most


class Look(NamedTuple):
    """A picture of a page: its title, what it shows, a PNG."""

    title: str
    about: str
    png: bytes


def growth(
    snapshots: Sequence[Path],
    rows: int,
    seed: int,
    device: torch.device,
    say: Callable[[str], None],
) -> Look | None:
    """One row of images of the same latents for each of at most `rows` snapshots, oldest first.

    The latents are of the newest one's default prior. The first and the last snapshot are always
    among them. say: told of those that cannot be read; None where none can.
    """
    places = np.linspace(0, len(snapshots) - 1, min(rows, len(snapshots))).round().astype(int)
    made: list[tuple[Tensor, str]] = []
    latents: Tensor | None = None
    for path in (snapshots[k] for k in reversed(places)):
        try:
            model = load(path, device)
        except PgvaeError as error:
            say(f"not in the rows of growth: {error}")
            continue
        if latents is None:
            latents, prior = model.sample_latents(_LATENTS, seed), model.default_prior
        kimg = f"{model.images_seen / 1000:g} ({model.size} px)"
        made.insert(0, (model.decode(latents).cpu(), kimg))
    if not made:
        return None
    side = min(_SIDE // _LATENTS, max(max(images.shape[2:]) for images, _ in made))
    size = size_at(model.config.base, side)
    cells = torch.cat([F.interpolate(images, size, mode="area") for images, _ in made])
    when = ", ".join(text for _, text in made)
    about = f"a column is one latent, of the newest one's {prior} prior; kimg from the top: {when}"
    return Look("The same latents over growth", about, _png(cells, _LATENTS))


def likenesses(model: Model, store: Store, seed: int) -> Look | None:
    """Samples, and beside each the training images nearest to it by mean |difference| of pixels.

    Of up to 20,000 training images. None where there are too few.
    """
    training = store.split("train")[:_SEARCHED]
    if len(training) < _NEAREST:
        return None
    samples = model.sample(_SAMPLES, seed).cpu()
    scores, places = nearest(samples, batches_for(model, store, training), "l1", _NEAREST)
    found = read_images(store, training[places.flatten().numpy()], model.resolution)
    rows = torch.cat([samples[:, None], found.unflatten(0, (_SAMPLES, -1))], dim=1)
    size = size_at(model.config.base, min(_SIDE // (_NEAREST + 1), model.resolution))
    about = (
        f"a sample, then the nearest of {len(training):,} training images by pixels; the first of "
        f"them differ by {scores[:, 0].min():.3g} to {scores[:, 0].max():.3g} of 255"
    )
    cells = F.interpolate(rows.flatten(0, 1), size, mode="area")
    return Look("Samples and their like", about, _png(cells, _NEAREST + 1))


def _png(cells: Tensor, columns: int) -> bytes:
    file = io.BytesIO()
    to_picture(grid_of(cells, columns)).save(file, "PNG")
    return file.getvalue()
