"""A prior fitted to the images of a set, and whether samples of it are better ones."""

import contextlib
import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from pgvae.choices import PriorKind
from pgvae.data import Store
from pgvae.errors import CorruptFileError
from pgvae.inference.fits import Candidate, fit
from pgvae.inference.images import batches_for
from pgvae.inference.model import Model
from pgvae.inference.prior import draw_latents
from pgvae.metrics.sets import full_precision
from pgvae.metrics.sliced import LOWEST, Patches, patch_distance
from pgvae.prior import FittedPrior
from pgvae.types import Posterior

_MOST_IMAGES, _LEAST_IMAGES = 10_000, 512  # to fit to
_PIXELS: dict[PriorKind, int] = {"gaussian": 2**22, "mixture": 2**24}  # that they have together
_GROUPS = 5  # in which unseen images are compared
_MOST_UNSEEN, _LEAST_UNSEEN, _UNSEEN_PIXELS = 500, 40, 2**20


def fit_prior(
    model: Model,
    store: Store,
    kind: PriorKind = "mixture",
    components: int | None = None,
    most: int | None = None,
) -> tuple[FittedPrior, list[Candidate]]:
    """Fit a prior to training images, and compare it with the training prior on unseen ones.

    -> the prior, which is the default unless its samples are measurably worse, with figures in
    `about`; and what was tried. most: images, by default 10,000, but of 2^22 pixels together at
    most, for a mixture, which has more to learn, of 2^24, and 512 images at least. The same images
    each time, in batches; those with a damaged image are left out.
    """
    count = most or _within(_PIXELS[kind], model.resolution, _LEAST_IMAGES, _MOST_IMAGES)
    training = np.random.default_rng(0).permutation(store.split("train"))[:count]
    prior, candidates = fit(posteriors(model, store, training), kind, components)
    about = {**prior.about, "dataset": store.name}
    figures = compare(model, store, prior)
    if figures:
        about |= figures
        worse = figures["swd_fitted"] - figures["swd_training"]
        prior = dataclasses.replace(prior, is_default=not worse > 2 * figures["swd_error"])
    return dataclasses.replace(prior, about=about), candidates


def posteriors(model: Model, store: Store, indices: np.ndarray) -> Posterior:
    """What the encoder says of images of a set, on the CPU. CorruptFileError where all are
    damaged."""
    parts: list[Posterior] = []
    for start in range(0, len(indices), model.batch_size):
        batch = indices[start : start + model.batch_size]
        with contextlib.suppress(CorruptFileError):
            parts.append(model.posterior(_images(model, store, batch)))
    if not parts:
        raise CorruptFileError(f"{store.path} has no whole images to fit a prior to")
    mean, logvar = zip(*parts, strict=True)
    joined = torch.cat(mean).cpu()
    return Posterior(joined, torch.cat(logvar).cpu() if logvar[0] is not None else None)


def compare(model: Model, store: Store, prior: FittedPrior) -> dict[str, float] | None:
    """SWD x 1000 of samples to unseen images, of both priors: least where samples are best.

    The mean over 5 groups of up to 100 images and as many samples, and "swd_error", the standard
    error of the difference; both priors take the same noise. Fewer images above 45 px, 40 at least.
    None where the resolution is below 16 px or the validation split has fewer than 40.
    """
    unseen = np.random.default_rng(0).permutation(store.split("val"))
    size = min(len(unseen), _within(_UNSEEN_PIXELS, model.resolution, _LEAST_UNSEEN, _MOST_UNSEEN))
    size //= _GROUPS
    if model.resolution < LOWEST or size * _GROUPS < _LEAST_UNSEEN:
        return None
    found = []
    with full_precision():
        for group in range(_GROUPS):
            reals = Patches(2 * group)
            reals.add(_images(model, store, unseen[group * size :][:size]))
            found.append([_distance(model, reals, choice, group) for choice in (prior, None)])
    fitted, training = torch.tensor(found, dtype=torch.float64).t()
    return {
        "swd_fitted": fitted.mean().item(),
        "swd_training": training.mean().item(),
        "swd_error": (fitted - training).std().item() / math.sqrt(_GROUPS),
        "unseen": size * _GROUPS,
    }


def describe(prior: FittedPrior) -> str:
    """A line about a prior: what it is, its figures beside the training prior's, who is default.

    >>> import dataclasses
    >>> from pgvae.inference import fit_gaussian
    >>> describe(fit_gaussian(torch.randn(9, 2)))
    'Gaussian fitted to 9 images: the default prior (not compared on unseen images)'
    """
    what = "Gaussian" if prior.components == 1 else f"mixture of {prior.components} Gaussians"
    about = prior.about
    default = "the default prior" if prior.is_default else "the training prior stays the default"
    if "swd_fitted" not in about:
        compared = "not compared on unseen images"
    else:
        compared = (
            f"SWD of samples to {about['unseen']:,} unseen images, in {_GROUPS} groups, "
            f"{about['swd_fitted']:.2f}, of the training prior {about['swd_training']:.2f}"
        )
    return f"{what} fitted to {about['images']:,} images: {default} ({compared})"


def _distance(model: Model, reals: Patches, prior: FittedPrior | None, group: int) -> float:
    """Mean over levels of the SWD of as many samples to a group of images."""
    latents = draw_latents(model.config.head, model.latent_dim, reals.count, group, prior)
    fakes = Patches(2 * group + 1)
    fakes.add(model.decode(latents))
    return float(np.mean([*patch_distance(reals, fakes, seed=group).values()]))


def _images(model: Model, store: Store, indices: np.ndarray) -> Tensor:
    return torch.cat([*batches_for(model, store, indices)])


def _within(pixels: int, resolution: int, least: int, most: int) -> int:
    """Images of that resolution that have so many pixels, within bounds."""
    return min(most, max(least, pixels // resolution**2))
