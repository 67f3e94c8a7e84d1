"""SWD against a direct numpy version, and by its properties."""

import numpy as np
import pytest
import torch
from made import blurred, cut
from torch.nn import functional as F

from pgvae.metrics import swd
from pgvae.metrics.sliced import Patches, laplacian_pyramid, patch_distance

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def noise(count: int, resolution: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, 3, resolution, resolution, generator=rng)


def filtered(image: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """[H, W], mirrored about the border pixels, one tap after another."""
    padded = np.pad(image, 2, mode="reflect")
    height, width = image.shape
    result = np.zeros_like(image)
    for i in range(5):
        for j in range(5):
            result += weight * BINOMIAL[i, j] * padded[i : i + height, j : j + width]
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


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 32), (32, 16)])
def test_the_pyramid_is_that_of_a_filter_written_in_loops(height: int, width: int):
    images = noise(1, 32, 0)[..., :height, :width]
    high, low = laplacian_pyramid(images)
    image = images[0, 1].numpy().astype(np.float64)
    below = filtered(image)[::2, ::2]
    spread = np.zeros_like(image)
    spread[::2, ::2] = below
    np.testing.assert_allclose(low[0, 1], below, atol=1e-6)
    np.testing.assert_allclose(high[0, 1], image - filtered(spread, 4.0), atol=1e-6)


def test_it_agrees_with_a_direct_version_on_smooth_noise_against_noise():
    fakes = F.avg_pool2d(noise(100, 48, 1), 3)
    ours = swd(noise(100, 16, 0), fakes)
    assert list(ours) == [16]
    direct = direct_swd(noise(100, 16, 0).double().numpy(), fakes.double().numpy(), seed=3)
    smooth = F.avg_pool2d(F.pad(noise(100, 16, 1), (1, 1, 1, 1)), 3, stride=1)
    ours_blurred = swd(noise(100, 16, 0), smooth)[16]
    direct_blurred = direct_swd(noise(100, 16, 0).double().numpy(), smooth.double().numpy(), 3)
    assert ours[16] == pytest.approx(direct, rel=0.2)  # two draws of white noise: the floor
    assert ours_blurred == pytest.approx(direct_blurred, rel=0.03)
    assert ours_blurred > 2 * ours[16]


def test_scale_and_offset_of_a_channel_do_not_count():
    reals, fakes = noise(40, 16, 0), noise(40, 16, 1)
    assert swd(reals, 3 * fakes + 5)[16] == pytest.approx(swd(reals, fakes)[16], rel=1e-3)


def test_the_same_seed_gives_the_same_figure():
    reals, fakes = noise(10, 16, 0), noise(10, 16, 1)
    assert swd(reals, fakes, seed=4) == swd(reals, fakes, seed=4)
    assert swd(reals, fakes, seed=4) != swd(reals, fakes, seed=5)


def test_batches_of_any_size_give_the_same_figures():
    reals, fakes = noise(20, 32, 0), noise(20, 32, 1)
    whole = swd(reals, fakes)
    for sizes in ((1,), (7,), (3, 16, 1)):
        assert swd(cut(reals, *sizes), list(cut(fakes, 6))) == pytest.approx(whole, rel=1e-5)


def kept(images: torch.Tensor, seed: int) -> Patches:
    patches = Patches(seed)
    patches.add(images)
    return patches


def test_patches_are_windows_at_every_place_of_their_own_image():
    """A pixel's value is its number in the set, so that a patch says where it is from."""
    images = torch.arange(60 * 2 * 256.0).view(60, 2, 16, 16)
    patches = torch.cat(kept(images, 0).levels[16]).view(60, 128, 2, 7, 7)
    corners = []
    for image, of_image in zip(images, patches, strict=True):
        for patch in of_image:
            y, x = divmod(int(patch[0, 0, 0] - image[0, 0, 0]), 16)
            assert torch.equal(patch, image[:, y : y + 7, x : x + 7])
            corners.append((y, x))
    hits = np.bincount([y * 10 + x for y, x in corners], minlength=100)
    assert len(hits) == 100  # 10 x 10 places, 76.8 hits each: a deviation is 8.7
    assert 40 < hits.min() <= hits.max() < 115


@pytest.mark.parametrize(("height", "width"), [(16, 12), (8, 16)])
def test_patches_of_images_that_are_not_square_are_windows_at_every_place(height, width):
    images = torch.arange(height * width).float().view(1, 1, height, width)
    patches = kept(images.repeat(40, 1, 1, 1), 0)
    [parts] = patches.levels.values()
    windows = torch.cat(parts).view(-1, 7, 7)
    top, left = (windows[:, 0, 0] // width).long(), (windows[:, 0, 0] % width).long()
    assert sorted(set(top.tolist())) == [*range(height - 6)]
    assert sorted(set(left.tolist())) == [*range(width - 6)]
    for window, y, x in zip(windows[:200], top, left, strict=False):
        assert torch.equal(window, images[0, 0, y : y + 7, x : x + 7])


def test_patches_do_not_depend_on_batches_but_on_the_seed_and_the_place():
    images = noise(9, 32, 0)
    whole = kept(images, 5)
    for sizes in ((1,), (4,), (2, 7)):
        patches = Patches(5)
        for batch in cut(images, *sizes):
            patches.add(batch)
        assert (patches.count, patches.shape) == (9, (3, 32, 32))
        for size in (32, 16):
            parts = torch.cat(patches.levels[size])
            assert parts.dtype == torch.float32
            torch.testing.assert_close(parts, torch.cat(whole.levels[size]), atol=1e-6, rtol=0)
    twice = torch.cat(kept(images[:1].repeat(2, 1, 1, 1), 5).levels[16])
    assert not torch.equal(twice[:128], twice[128:])
    assert not torch.equal(torch.cat(kept(images, 6).levels[16]), torch.cat(whole.levels[16]))


def directions(seed: int) -> np.ndarray:
    """The 512 unit vectors [512, 147] of the first level."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.cat([torch.randn(147, 128, generator=rng).t() for _ in range(4)]).double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def direct_distance(a: np.ndarray, b: np.ndarray, along: np.ndarray) -> float:
    """The published algorithm on patches [M, 3, 49] at hand, in float64."""
    sides = []
    for patches in (a, b):
        centred = patches - patches.mean(axis=(0, 2), keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(axis=(0, 2), keepdims=True))
        sides.append(np.sort(unit.reshape(len(unit), -1) @ along.T, axis=0))
    return 1000 * float(np.abs(sides[0] - sides[1]).mean())


def test_the_distance_of_patches_is_that_of_plain_float64():
    scales = torch.tensor([0.2, 1.0, 3.0]).view(3, 1, 1)
    a = kept(noise(30, 16, 0) * scales + 0.4, 1)
    b = kept(blurred(noise(30, 16, 1), 1) - 0.7 * scales, 2)
    ours = patch_distance(a, b, seed=3)
    plain = [torch.cat(x.levels[16]).double().numpy().reshape(-1, 3, 49) for x in (a, b)]
    assert ours[16] == pytest.approx(direct_distance(*plain, directions(3)), rel=1e-5)
    rng = np.random.default_rng(0)
    others = rng.normal(size=(1000, 147))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert ours[16] == pytest.approx(direct_distance(*plain, others), rel=0.03)


def test_sets_can_be_compared_again_and_go_on():
    a, b, c = (kept(noise(5, 32, seed), seed) for seed in range(3))
    first = patch_distance(a, b)
    assert patch_distance(a, c) != first
    assert patch_distance(a, b) == first
    for patches, seed in ((a, 3), (b, 4)):
        patches.add(noise(5, 32, seed))
    assert patch_distance(a, b) != first
    assert a.count == 10


def test_a_set_and_itself_are_at_no_distance_and_the_order_does_not_count():
    a, b = kept(noise(10, 32, 0), 0), kept(noise(10, 32, 1), 1)
    assert patch_distance(a, a) == {32: 0.0, 16: 0.0}
    assert patch_distance(a, b) == pytest.approx(patch_distance(b, a), rel=1e-5)


def test_the_patches_of_two_sets_are_drawn_apart():
    images = noise(10, 16, 0)
    assert swd(images, images)[16] > 0.3 * swd(images, noise(10, 16, 1))[16]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_channel_that_never_varies_has_no_part_in_it(channels: int):
    images = noise(20, 16, 0)[:, :channels]
    fakes = noise(20, 16, 1)[:, :channels] / 2
    fakes[:, 0] = 0.3
    found = swd(images, fakes)[16]
    fakes[:, 0] = -0.9
    assert swd(images, fakes)[16] == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize(
    ("reals", "fakes", "words"),
    [
        (noise(10, 16, 0), noise(0, 16, 1), "got 10 and 0 images"),
        (noise(10, 16, 0), noise(9, 16, 1), "got 10 and 9 images"),
        (noise(10, 16, 0), noise(10, 16, 1)[:, :1], "one shape"),
        (noise(10, 16, 0), noise(10, 32, 1), "one shape"),
        ([], [], "not empty"),
    ],
)
def test_sets_of_other_numbers_or_shapes_are_refused(reals, fakes, words):
    with pytest.raises(ValueError, match=words):
        swd(reals, fakes)


def test_images_of_two_shapes_are_no_set():
    patches = kept(noise(2, 16, 0), 0)
    with pytest.raises(ValueError, match=r"one shape: .*\(3, 16, 16\), then \(1, 16, 16\)"):
        patches.add(noise(2, 16, 0)[:, :1])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 24), (8, 32), (17, 32)])
def test_images_without_a_pyramid_to_16_pixels_are_refused(height: int, width: int):
    with pytest.raises(ValueError, match="at least 16"):
        swd(noise(10, 32, 0)[..., :height, :width], noise(10, 32, 1)[..., :height, :width])


def test_images_of_one_colour_or_with_a_gradient_are_measured_all_the_same():
    reals = noise(10, 16, 0).requires_grad_()
    assert swd(reals, noise(10, 16, 1)) == swd(reals.detach(), noise(10, 16, 1))
    assert np.isfinite(swd(reals, torch.zeros(10, 3, 16, 16))[16])
