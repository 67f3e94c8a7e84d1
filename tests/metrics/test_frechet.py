"""FID and KID of features: closed forms, float64, torchmetrics; and of images."""

import math

import numpy as np
import pytest
import torch
from made import cut, noise
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from pgvae.metrics import fid, kid
from pgvae.metrics.features import efficientnet
from pgvae.metrics.frechet import frechet_distance, kernel_distance


def gaussian(count: int, dim: int, seed: int, mean: float = 0.0, scale: float = 1.0):
    """Correlated features [count, dim], float64."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.eye(dim) + 0.3 * torch.randn(dim, dim, generator=rng) / math.sqrt(dim)
    rows = torch.randn(count, dim, generator=rng) @ mixing
    return (scale * rows + mean).double()


def closed_form(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Heusel et al., 2017, eq. 6, by symmetric square roots in numpy."""
    a, b = real.numpy(), fake.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values)) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root)).sum()
    shift = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap)


def torchmetrics_fid(real: torch.Tensor, fake: torch.Tensor) -> float:
    identity = nn.Identity()
    identity.num_features = real.shape[1]
    metric = FrechetInceptionDistance(identity).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute().item()


@pytest.mark.parametrize(("count", "dim"), [(200, 1), (500, 20), (9000, 50)])
@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_the_frechet_distance_is_the_closed_form(count, dim, mean):
    real = gaussian(count, dim, 0, mean)
    fake = gaussian(count + 37, dim, 1, mean + 0.1, scale=1.2)
    expected = closed_form(real, fake) if dim > 1 else one_dimension(real, fake)
    found = frechet_distance(real, fake)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found == pytest.approx(frechet_distance(fake.flip(0), real), rel=1e-9)
    assert found == pytest.approx(torchmetrics_fid(real, fake), rel=1e-6)


def one_dimension(real: torch.Tensor, fake: torch.Tensor) -> float:
    (m, s), (n, t) = ((x.mean().item(), x.std().item()) for x in (real, fake))
    return (m - n) ** 2 + (s - t) ** 2


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_float32_features_have_the_distance_of_their_float64_copies(distance):
    real, fake = gaussian(100, 8, 0, 5.0).float(), gaussian(100, 8, 1, 5.1).float()
    assert distance(real, fake) == distance(real.double(), fake.double())


def on_axes(dim: int, scale: float) -> torch.Tensor:
    """+-scale on each axis: mean 0, covariance 2 scale^2 / (2 dim - 1) on the diagonal."""
    return torch.cat([torch.eye(dim), -torch.eye(dim)]).double() * scale


def test_covariances_that_share_their_axes_have_the_distance_of_their_deviations():
    """Singular ones too: of fewer rows than features, in dimensions that both leave out."""
    real, fake = on_axes(5, 3), on_axes(5, 1)
    expected = 5 * (math.sqrt(2 / 9) * 3 - math.sqrt(2 / 9)) ** 2
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-12)
    rng = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(300, 5, generator=rng).double()).Q.t()
    assert frechet_distance(real @ turn, fake @ turn) == pytest.approx(expected, rel=1e-12)


def test_sets_in_orthogonal_spaces_have_nothing_in_common():
    real = torch.cat([gaussian(30, 100, 0), torch.zeros(30, 100).double()], dim=1)
    fake = torch.cat([torch.zeros(40, 100).double(), gaussian(40, 100, 1)], dim=1)
    total = real.var(dim=0).sum() + fake.var(dim=0).sum()
    total += (real.mean(dim=0) - fake.mean(dim=0)).square().sum()
    assert frechet_distance(real, fake) == pytest.approx(total.item(), rel=1e-12)


@pytest.mark.parametrize("count", [2, 30, 300])
def test_a_set_is_at_no_distance_of_itself_and_a_shift_is_squared(count):
    real = gaussian(count, 100, 0)
    assert frechet_distance(real, real) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(real, real + 0.5) == pytest.approx(25.0, rel=1e-9)


def unbiased_mmd(real: np.ndarray, fake: np.ndarray) -> float:
    """Binkowski et al., 2018, eq. 4 with the kernel of section 4.2, in loops."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    m, n = len(real), len(fake)
    within_real = sum(kernel(real[i], real[j]) for i in range(m) for j in range(m) if i != j)
    within_fake = sum(kernel(fake[i], fake[j]) for i in range(n) for j in range(n) if i != j)
    between = sum(kernel(x, y) for x in real for y in fake)
    return within_real / (m * (m - 1)) + within_fake / (n * (n - 1)) - 2 * between / (m * n)


def test_one_subset_of_all_is_the_unbiased_mmd():
    real, fake = gaussian(40, 6, 0), gaussian(40, 6, 1, mean=0.3)
    mean, deviation = kernel_distance(real, fake, subsets=1)
    assert mean == pytest.approx(unbiased_mmd(real.numpy(), fake.numpy()), rel=1e-10)
    assert deviation == 0.0


def test_subsets_of_two_sets_of_one_source_have_a_mean_near_0():
    real, fake = gaussian(4000, 6, 0)[:2000], gaussian(4000, 6, 0)[2000:]
    mean, deviation = kernel_distance(real, fake, subset_size=100)
    assert deviation > 0
    assert abs(mean) < deviation / 3  # a tenth would be the error of 100 independent subsets
    assert kernel_distance(real, fake + 1, subset_size=100)[0] > 10 * deviation


def test_subsets_are_no_larger_than_the_smaller_set():
    real, fake = gaussian(50, 4, 0), gaussian(20, 4, 1)
    found = kernel_distance(real, fake, subsets=5)
    assert found == kernel_distance(real, fake, subsets=5, subset_size=20)
    assert found != kernel_distance(real, fake, subsets=5, subset_size=19)


def test_subsets_are_drawn_from_the_seed_and_leave_the_random_state_alone():
    real, fake = gaussian(50, 4, 0), gaussian(50, 4, 1)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    found = kernel_distance(real, fake, seed=3, subsets=4, subset_size=10)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert kernel_distance(real, fake, seed=3, subsets=4, subset_size=10) == found
    assert kernel_distance(real, fake, seed=4, subsets=4, subset_size=10) != found


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_features_that_have_no_distance_are_refused(distance):
    real = gaussian(10, 4, 0)
    with pytest.raises(ValueError, match="at least 2 images: got 10 real, 1 generated"):
        distance(real, real[:1])
    with pytest.raises(ValueError, match=r"got \[10, 4\] and \[10, 3\]"):
        distance(real, real[:, :3])
    with pytest.raises(ValueError, match="generated images are not all finite"):
        distance(real, torch.full_like(real, math.nan))
    with pytest.raises(ValueError, match="subset_size is 1: use 2 or more"):
        kernel_distance(real, real, subset_size=1)


def test_fid_and_kid_are_those_of_the_features_whatever_the_batches():
    reals, fakes = noise(6, 32, 0), noise(7, 32, 1)
    extract = efficientnet()
    features = extract(reals), extract(fakes)
    assert fid(cut(reals, 4), cut(fakes, 5)) == pytest.approx(frechet_distance(*features), rel=1e-4)
    expected = kernel_distance(*features)[0]
    assert kid(cut(reals, 4), cut(fakes, 5)) == pytest.approx(expected, rel=1e-4)
