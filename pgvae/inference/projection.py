"""Latents of images for a generator without an encoder: found by optimisation."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pgvae.checks import require
from pgvae.choices import PROJECTION_STEPS
from pgvae.objectives import terms

if TYPE_CHECKING:
    from pgvae.inference.model import Model

_STARTS = 256  # samples, of which each image begins with the nearest
_RATE = 0.1  # Adam's at first, for latents of unit variance; it falls to 0 along a cosine
_SHARE = 4  # images at once: one in so many of what a pass without a gradient takes


@torch.inference_mode(False)  # where nothing has a gradient
def project(model: "Model", images: Tensor, steps: int = PROJECTION_STEPS, seed: int = 0) -> Tensor:
    """Latents [N, d] whose images are near in mean squared error: [N, C, R, R] in [-1, 1].

    Each image begins with the nearest of 256 samples; Adam moves its latent, on the sphere for
    latents that lie there, and the best one seen is kept. None depends on the other images.
    InputError for less than a step.
    """
    require(steps >= 1, f"steps is {steps}: use 1 or more")
    model.require_shape(images)
    starts = model.sample_latents(_STARTS, seed).to(model.device)
    shown = model.decode(starts)
    at_once = max(1, model.batch_size // _SHARE)
    parts = map(model.as_input, images.clone().split(at_once))  # may be of inference_mode
    return torch.cat([_near(model, x, starts, shown, steps) for x in parts])


def _near(model: "Model", images: Tensor, starts: Tensor, shown: Tensor, steps: int) -> Tensor:
    """Latents of some images; `shown` are those of `starts`."""
    nearest = [int(_errors(shown, image[None]).argmin()) for image in images]
    found = starts[torch.tensor(nearest, dtype=torch.long)]
    # Of unit variance, so that one rate serves every d.
    scale = math.sqrt(starts.shape[1]) if model.config.head == "sphere" else 1.0
    free = (scale * found).requires_grad_()
    adam = torch.optim.Adam([free], lr=_RATE)
    best = found
    least = images.new_full((len(images),), torch.inf)
    for step in range(steps + 1):  # the last one is only looked at
        with torch.enable_grad():
            latents = terms.on_prior(model.config.head, free)
            errors = _errors(model.generator(latents, model.alpha), images)
            (free.grad,) = torch.autograd.grad(errors.sum(), free)
        better = errors.detach() < least
        best = torch.where(better[:, None], latents.detach(), best)
        least = torch.where(better, errors.detach(), least)
        adam.param_groups[0]["lr"] = _RATE * (1 + math.cos(math.pi * step / steps)) / 2
        adam.step()
    return best


def _errors(made: Tensor, images: Tensor) -> Tensor:
    """Mean squared error of each: [N, C, R, R] twice, one of them perhaps a single one -> [N]."""
    return (made - images).square().mean(dim=(1, 2, 3))
