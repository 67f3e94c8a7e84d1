"""What a critic is shown: every transformation by a loop over images and pixels."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from pgvae.objectives import Context
from pgvae.objectives.augment import DRAWS, augmented


def images_of(count: int, side: int = 8, channels: int = 3, width: int | None = None) -> Tensor:
    rng = torch.Generator().manual_seed(side)
    shape = (count, channels, side, width or side)
    return torch.rand(shape, generator=rng, dtype=torch.float64) * 2 - 1


def draws_of(count: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, DRAWS, generator=rng, dtype=torch.float64)


def one_by_one(images: Tensor, draws: Tensor, p: float) -> np.ndarray:
    """The transformations as their docstring states them, an image and a pixel at a time."""
    made = []
    for image, row in zip(images.numpy(), draws.numpy(), strict=True):
        u, far = norm.cdf(row), max(image.shape) // 8
        if u[0] < p / 2:
            image = image[:, :, ::-1]
        if u[1] < p:
            down, right = (int(share * (2 * far + 1)) - far for share in u[2:4])
            around = np.pad(image, ((0, 0), (far, far), (far, far)), mode="reflect")
            _, height, width = image.shape
            top, left = far - down, far - right
            image = around[:, top : top + height, left : left + width]
        if u[4] < p:
            image = image + 0.2 * row[7]
        if u[5] < p:
            image = image * 2 ** (0.5 * row[8])
        if u[6] < p and len(image) == 3:
            grey = image.mean(axis=0)
            image = np.stack([grey + (plane - grey) * 2 ** row[9] for plane in image])
        made.append(image)
    return np.stack(made)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize(("side", "channels"), [(4, 3), (8, 3), (32, 3), (16, 1)])
def test_a_batch_is_what_each_image_becomes_on_its_own(p, side, channels):
    images, draws = images_of(40, side, channels), draws_of(40)
    expected = one_by_one(images, draws, p)
    np.testing.assert_allclose(augmented(images, draws, torch.tensor(p)), expected, atol=1e-14)
    assert (p == 0) == np.array_equal(expected, images)


@pytest.mark.parametrize(("height", "width"), [(24, 32), (4, 8), (32, 16)])
def test_images_that_are_not_square_are_moved_by_an_eighth_of_the_longer_side(height, width):
    images, draws = images_of(40, height, width=width), draws_of(40)
    expected = one_by_one(images, draws, 0.8)
    np.testing.assert_allclose(augmented(images, draws, torch.tensor(0.8)), expected, atol=1e-14)


def test_an_image_does_not_depend_on_its_neighbours():
    images, draws, p = images_of(6), draws_of(6), torch.tensor(0.7)
    whole = augmented(images, draws, p)
    parts = [augmented(images[i : i + 2], draws[i : i + 2], p) for i in (0, 2, 4)]
    assert torch.equal(torch.cat(parts), whole)


def test_at_zero_images_stay_as_they_are_in_every_bit_and_so_does_their_gradient():
    images = images_of(9).float().requires_grad_()
    shown = augmented(images, draws_of(9).float(), torch.tensor(0.0))
    assert torch.equal(shown, images)
    weights = torch.randn(shown.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((weights * shown).sum(), images)
    torch.testing.assert_close(gradient, weights, rtol=1e-6, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    images, draws = images_of(3, side=8).requires_grad_(), draws_of(3, seed=2)
    assert torch.autograd.gradcheck(lambda x: augmented(x, draws, torch.tensor(0.9)), images)


@pytest.mark.parametrize("p", [0.2, 0.8])
def test_each_transformation_comes_as_often_as_p_says(p):
    """Of images that no two of them leave alike: a ramp, whose parts are looked at one by one."""
    count, far = 20_000, 2
    x, y = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="xy")
    ramp = torch.stack([x, y, torch.zeros(16, 16)])[None].expand(count, -1, -1, -1)
    draws = draws_of(count).float()
    still = draws.clone()
    still[:, 7:] = 0  # no colours: what is left are flips and shifts
    moved = augmented(ramp, still, torch.tensor(p))
    flipped = moved[:, 0, 8, 9] < moved[:, 0, 8, 8]
    down = 8 - moved[:, 1, 8, 8]
    assert flipped.float().mean().item() == pytest.approx(p / 2, abs=0.015)
    shares = torch.tensor([(down == by).float().mean() for by in range(-far, far + 1)])
    expected = torch.full((2 * far + 1,), p / (2 * far + 1))
    expected[far] += 1 - p
    torch.testing.assert_close(shares, expected, atol=0.015, rtol=0)
    draws[:, :4] = 9.0  # no flips, no shifts
    level = augmented(torch.zeros(count, 1, 8, 8), draws, torch.tensor(p))[:, 0, 0, 0]
    assert (level != 0).float().mean().item() == pytest.approx(p, abs=0.015)
    assert level.mean().item() == pytest.approx(0, abs=0.01)


def test_sets_are_transformed_alike_row_by_row_and_otherwise_on_each_call():
    rng = torch.Generator().manual_seed(0)
    context = Context(
        alpha=torch.tensor(1.0),
        noise=lambda shape: torch.randn(shape, generator=rng),
        augment=torch.tensor(1.0),
    )
    images = images_of(5).float()
    one, other = context.shown(images, images)
    assert torch.equal(one, other)
    assert not torch.equal(context.shown(images)[0], one)


def test_without_augmentation_images_are_shown_themselves_and_nothing_is_drawn():
    context = Context(alpha=torch.tensor(1.0), noise=lambda shape: pytest.fail("drawn"))
    images = images_of(2)
    assert context.shown(images)[0] is images


def test_half_precision_is_taken():
    shown = augmented(images_of(4).bfloat16(), draws_of(4).float(), torch.tensor(0.9))
    assert shown.shape == (4, 3, 8, 8)
    assert shown.isfinite().all()
