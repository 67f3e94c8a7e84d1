"""SWD against a direct numpy version, and by its properties."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pgvae.metrics import swd
from pgvae.metrics.swd import laplacian_pyramid

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def noise(count: int, resolution: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, 3, resolution, resolution, generator=rng)


def filtered(image: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """[R, R], mirrored about the border pixels, one tap after another."""
    padded = np.pad(image, 2, mode="reflect")
    size = len(image)
    result = np.zeros_like(image)
    for i in range(5):
        for j in range(5):
            result += weight * BINOMIAL[i, j] * padded[i : i + size, j : j + size]
    return result


def direct_swd(reals: np.ndarray, fakes: np.ndarray, seed: int) -> float:
    """One level: patches at every place, in loops, with directions of its own."""

    def descriptors(images: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(seed)
        patches = []
        for image in images:
            for _ in range(128):
                y, x = rng.integers(0, image.shape[1] - 6, 2)
                patches.append(image[:, y : y + 7, x : x + 7])
        found = np.array(patches)
        found -= found.mean(axis=(0, 2, 3), keepdims=True)
        return (found / found.std(axis=(0, 2, 3), keepdims=True)).reshape(len(found), -1)

    a, b = descriptors(reals), descriptors(fakes)
    rng = np.random.default_rng(seed + 1)
    distances = []
    for _ in range(256):
        direction = rng.normal(size=a.shape[1])
        direction /= np.linalg.norm(direction)
        distances.append(np.abs(np.sort(a @ direction) - np.sort(b @ direction)).mean())
    return 1000 * float(np.mean(distances))


def test_the_pyramid_is_that_of_a_filter_written_in_loops():
    images = noise(1, 32, 0)
    high, low = laplacian_pyramid(images)
    image = images[0, 1].numpy().astype(np.float64)
    below = filtered(image)[::2, ::2]
    spread = np.zeros_like(image)
    spread[::2, ::2] = below
    np.testing.assert_allclose(low[0, 1], below, atol=1e-6)
    np.testing.assert_allclose(high[0, 1], image - filtered(spread, 4.0), atol=1e-6)


def test_a_pyramid_goes_from_the_images_to_16_pixels():
    assert [level.shape[-1] for level in laplacian_pyramid(noise(2, 128, 0))] == [128, 64, 32, 16]


def test_it_agrees_with_a_direct_version_on_smooth_noise_against_noise():
    fakes = F.avg_pool2d(noise(100, 48, 1), 3)
    ours = swd(noise(100, 16, 0), fakes)
    assert list(ours) == [16]
    direct = direct_swd(noise(100, 16, 0).double().numpy(), fakes.double().numpy(), seed=3)
    blurred = F.avg_pool2d(F.pad(noise(100, 16, 1), (1, 1, 1, 1)), 3, stride=1)
    ours_blurred = swd(noise(100, 16, 0), blurred)[16]
    direct_blurred = direct_swd(noise(100, 16, 0).double().numpy(), blurred.double().numpy(), 3)
    assert ours[16] == pytest.approx(direct, rel=0.2)  # two draws of white noise: the floor
    assert ours_blurred == pytest.approx(direct_blurred, rel=0.03)
    assert ours_blurred > 2 * ours[16]


def test_more_blur_is_further_away():
    reals, others = noise(60, 32, 0), noise(60, 32, 1)

    def blurred(times: int) -> torch.Tensor:
        images = others
        for _ in range(times):
            images = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), "reflect"), 3, stride=1)
        return images

    means = [np.mean(list(swd(reals, blurred(times)).values())) for times in (0, 1, 3)]
    assert means[0] < means[1] < means[2]


def test_scale_and_offset_of_a_channel_do_not_count():
    reals, fakes = noise(40, 16, 0), noise(40, 16, 1)
    assert swd(reals, 3 * fakes + 5)[16] == pytest.approx(swd(reals, fakes)[16], rel=1e-3)


def test_the_same_seed_gives_the_same_figure():
    reals, fakes = noise(10, 16, 0), noise(10, 16, 1)
    assert swd(reals, fakes, seed=4) == swd(reals, fakes, seed=4)
    assert swd(reals, fakes, seed=4) != swd(reals, fakes, seed=5)


@pytest.mark.parametrize(("count", "resolution"), [(9, 16), (10, 32)])
def test_sets_of_other_shapes_are_refused(count: int, resolution: int):
    with pytest.raises(ValueError, match="one shape"):
        swd(noise(10, 16, 0), noise(count, resolution, 1))


def test_images_below_16_pixels_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        swd(noise(10, 8, 0), noise(10, 8, 1))


def test_images_that_are_all_one_colour_have_a_finite_distance():
    assert np.isfinite(list(swd(noise(10, 16, 0), torch.zeros(10, 3, 16, 16)).values())).all()


def test_images_that_carry_a_gradient_are_measured_all_the_same():
    reals = noise(10, 16, 0).requires_grad_()
    assert swd(reals, noise(10, 16, 1)) == swd(reals.detach(), noise(10, 16, 1))
