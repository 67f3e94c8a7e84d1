"""Every measure calls a blurred set worse than an unblurred one, and more blur worse still."""

import itertools

import numpy as np
import pytest
import torch
from made import blurred, pictures

from pgvae import metrics
from pgvae.metrics.features import efficientnet
from pgvae.metrics.frechet import frechet_distance, kernel_distance
from pgvae.metrics.latents import latent_statistics

BLURS = (0, 1, 4)


def rising(figures: list[float]) -> bool:
    """Whether each is larger than the one before, by more than rounding."""
    return all(b > a + 1e-4 * abs(a) for a, b in itertools.pairwise(figures))


def test_swd_grows_from_its_floor():
    reals, others = pictures(60, 32, 0), pictures(60, 32, 1)
    found = [metrics.swd(reals, blurred(others, times)) for times in BLURS]
    for level in (32, 16):
        assert rising([figures[level] for figures in found])


def test_msssim_of_pairs_grows():
    images = pictures(60, 64, 0)
    assert rising([metrics.msssim(blurred(images, times)) for times in BLURS])


@pytest.mark.parametrize("name", ["psnr", "ssim", "rmse", "mse"])
def test_reconstructions_get_worse(name):
    images = pictures(20, 32, 0)
    start = images + 0.02 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    metric = getattr(metrics, name)
    found = [metric(images, blurred(start, times)).mean().item() for times in BLURS]
    assert rising([-figure for figure in found] if name in ("psnr", "ssim") else found)


def test_fid_and_kid_grow_from_their_floor():
    extract = efficientnet()
    reals, others = extract(pictures(16, 32, 0)), pictures(16, 32, 1)
    found = [extract(blurred(others, times)) for times in BLURS]
    assert rising([frechet_distance(reals, features) for features in found])
    kids = [kernel_distance(reals, features)[0] for features in found]
    assert rising(kids)
    assert kids[1] > 2 * abs(kids[0])


def test_an_encoder_that_shrinks_its_latents_is_seen():
    """The same for latents: points drawn towards one of them lose variance and gain a mean."""
    rng = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(500, 8, generator=rng))
    found = []
    for share in (0.0, 0.5, 0.9):
        drawn = torch.nn.functional.normalize((1 - share) * points + share * points[:1])
        found.append(latent_statistics(drawn, None, "sphere"))
    assert rising([figures["mean_norm"] for figures in found])
    assert rising([-figures["variance_mean"] for figures in found])
    assert np.isfinite([value for figures in found for value in figures.values()]).all()
