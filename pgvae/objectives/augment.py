"""What a critic is shown in the place of images, so that it cannot learn a small set by heart.

Of adaptive discriminator augmentation (Karras et al., 2020, "Training Generative Adversarial
Networks with Limited Data", appendix B): a flip, an integer shift, brightness, contrast and
saturation, each with probability p for each image on its own. p stays well below 1, so that what
is made must look like images as they are: else it could be as well like transformed ones.
"""

import math

import torch
from torch import Tensor

DRAWS = 10  # numbers that an image takes
_BRIGHTNESS = 0.2  # deviation of what is added to an image in [-1, 1]
_CONTRAST, _SATURATION = 0.5 * math.log(2), math.log(2)  # deviations of the factors' logarithms


def augmented(images: Tensor, draws: Tensor, p: Tensor) -> Tensor:
    """Transform images [N, C, R, R] in [-1, 1]; -> the same shape, at times beyond that range.

    draws: standard normal numbers [N, DRAWS], which decide all that is random. p: [], from 0, where
    images stay as they are, to 1. Differentiable in the images.

    In this order: flipped left to right with probability p / 2; with probability p each, moved by
    whole pixels, an eighth of the longer side at most in each direction, what was outside mirrored
    about the border pixels; b added, b ~ N(0, 0.2^2); multiplied by 2^c, c ~ N(0, 0.5^2); three
    channels' distance from their mean multiplied by 2^s, s ~ N(0, 1).
    """
    chance, value = torch.special.ndtr(draws[:, :7]), draws[:, 7:]
    far = max(images.shape[2:]) // 8
    moves = (chance[:, 2:4] * (2 * far + 1)).floor().clamp(max=2 * far) - far
    down, right = torch.where(chance[:, 1:2] < p, moves, 0).long().unbind(1)
    images = _moved(images, chance[:, 0] < p / 2, down, right)
    given = torch.where(chance[:, 4:] < p, value, 0)[:, :, None, None, None]
    brightness, contrast, saturation = given.unbind(1)
    images = (images + _BRIGHTNESS * brightness) * (_CONTRAST * contrast).exp()
    if images.shape[1] == 1:
        return images
    grey = images.mean(dim=1, keepdim=True).expand_as(images)
    return grey.lerp(images, (_SATURATION * saturation).exp())  # exact where the factor is 1


def _moved(images: Tensor, flipped: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Flip where `flipped` ([N] bool), then move by pixels ([N] each): one index for each side."""
    shape = images.shape
    row, column = (_mirrored(size, by) for size, by in zip(shape[2:], (down, right), strict=True))
    column = torch.where(flipped[:, None], shape[3] - 1 - column, column)
    images = images.gather(3, column[:, None, None, :].expand(shape))
    return images.gather(2, row[:, None, :, None].expand(shape))


def _mirrored(size: int, by: Tensor) -> Tensor:
    """Where each of `size` pixels is taken from, moved by `by` [N]: [N, size]."""
    last = size - 1
    at = torch.arange(size, device=by.device)
    return last - (last - (at - by[:, None]).abs()).abs()
