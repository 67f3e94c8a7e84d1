"""A fitted prior: its draws, its density, what it refuses, and its place in a snapshot."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from snapshots import a_prior, changed, join, make, split, written

from pgvae.errors import CorruptFileError, InputError
from pgvae.prior import MOST_COMPONENTS, FittedPrior, noise_rows
from pgvae.snapshot import load_snapshot, save_snapshot

TENSORS = ("weights", "means", "factors")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moments(prior: FittedPrior) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of a mixture, in float64."""
    w, m, f = (getattr(prior, name).double() for name in TENSORS)
    mean = (w[:, None] * m).sum(dim=0)
    inner = f @ f.transpose(1, 2) + m[:, :, None] * m[:, None, :]
    return mean, (w[:, None, None] * inner).sum(dim=0) - mean[:, None] * mean


@pytest.mark.parametrize("components", [1, 3])
def test_draws_have_the_moments_of_the_mixture(components):
    prior, count = a_prior(4, components), 200_000
    z = prior.sample(count, rng()).double()
    mean, covariance = moments(prior)
    spread = covariance.diagonal().sqrt()
    assert ((z.mean(dim=0) - mean).abs() / spread < 5 / math.sqrt(count)).all()
    errors = (torch.cov(z.t()) - covariance) / (spread * spread[:, None])
    assert errors.abs().max() < 5 * math.sqrt(3 / count)


def test_a_component_is_drawn_as_often_as_its_weight_says():
    prior = a_prior(2, 3)
    far = dataclasses.replace(prior, means=torch.tensor([[-99.0, 0], [0, 0], [99.0, 0]]))
    z = far.sample(60_000, rng())
    shares = [((z[:, 0] - mean).abs() < 40).double().mean().item() for mean in (-99, 0, 99)]
    assert shares == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.01)


@pytest.mark.parametrize("components", [1, 3])
def test_truncation_scales_the_way_from_the_mean_of_the_component(components):
    prior = a_prior(4, components)
    centre = prior.sample(50, rng(), 1e-30)  # the same noise, no length
    full, half = (prior.sample(50, rng(), truncation) for truncation in (1.0, 0.5))
    torch.testing.assert_close(half - centre, (full - centre) / 2, rtol=1e-4, atol=1e-5)
    assert (full - centre).norm(dim=1).min() > 0.1
    assert set(map(tuple, centre.tolist())) == set(map(tuple, prior.means.tolist()))


def test_a_gaussian_takes_the_noise_that_the_training_prior_takes():
    prior = a_prior(4)
    noise = noise_rows(5, 4, rng(7))
    expected = prior.means[0] + noise @ prior.factors[0].t()
    torch.testing.assert_close(prior.sample(5, rng(7)), expected)


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("dim", [3, 16, 20])  # torch draws 16 numbers at a time
def test_the_first_latents_are_the_same_for_any_count(dim, components):
    prior = a_prior(dim, components)
    few, more, many = (prior.sample(n, rng(5), 0.5, rng(6)) for n in (1, 7, 100))
    torch.testing.assert_close(many[:1], few)
    torch.testing.assert_close(many[:7], more)
    noise = noise_rows(1000, dim, rng(5))
    assert torch.equal(noise[:3], noise_rows(3, dim, rng(5)))
    assert abs(noise.mean()) < 5 / (1000 * dim) ** 0.5
    assert abs(noise.var() - 1) < 5 * (2 / (1000 * dim)) ** 0.5


@pytest.mark.parametrize("components", [1, 3])
def test_the_density_is_that_of_numpy(components):
    prior = a_prior(5, components)
    z = prior.sample(20, rng(1))
    w, m, f = (getattr(prior, name).double().numpy() for name in TENSORS)
    expected = np.zeros(20)
    for weight, mean, factor in zip(w, m, f, strict=True):
        covariance, gap = factor @ factor.T, z.double().numpy() - mean
        far = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(covariance), gap)
        expected += weight * np.exp(-far / 2) / math.sqrt(np.linalg.det(2 * np.pi * covariance))
    np.testing.assert_allclose(prior.log_likelihood(z).numpy(), np.log(expected), rtol=1e-9)


def test_a_density_far_from_all_components_is_still_a_number():
    found = a_prior(512, 2).log_likelihood(torch.full((1, 512), 1e4))
    assert found.isfinite().all()
    assert found < -1e6


@pytest.mark.parametrize("truncation", [0.0, -0.5, 1.0001, float("nan"), float("inf")])
def test_a_truncation_out_of_range_is_refused(truncation):
    with pytest.raises(InputError, match=r"^truncation is .*: use a number above 0, up to 1"):
        a_prior().sample(1, rng(), truncation)


BAD = {
    "kind": {"kind": "uniform"},
    "weights of another number": {"weights": torch.ones(2) / 2},
    "means of another length": {"means": torch.zeros(1, 7)},
    "factors that are no squares": {"factors": torch.ones(1, 8, 7)},
    "no components": {n: t[:0] for n, t in vars(a_prior()).items() if n in TENSORS},
    "weights with another sum": {"weights": torch.tensor([0.9])},
    "a weight that is negative": {**{n: getattr(a_prior(8, 2), n) for n in TENSORS[1:]}}
    | {"weights": torch.tensor([1.5, -0.5])},
    "means that are not finite": {"means": torch.full((1, 8), math.nan)},
    "factors that are not finite": {"factors": torch.full((1, 8, 8), math.inf)},
    "a factor of no inverse": {"factors": torch.zeros(1, 8, 8)},
    "an upper triangle": {"factors": torch.eye(8)[None] + torch.ones(8, 8).triu(1)},
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_distribution_is_refused(name):
    with pytest.raises(InputError):
        dataclasses.replace(a_prior(), **BAD[name])


@pytest.mark.parametrize("components", [1, 3])
def test_a_snapshot_keeps_its_prior(components, tmp_path):
    about = {"images": 5, "swd_fitted": 1.5, "dataset": "Bärte"}
    prior = a_prior(8, components, is_default=False, about=about)
    save_snapshot(tmp_path / "s.safetensors", dataclasses.replace(make(), prior=prior))
    found = load_snapshot(tmp_path / "s.safetensors").prior
    assert (found.kind, found.is_default, found.about) == (prior.kind, False, about)
    assert all(torch.equal(getattr(found, name), getattr(prior, name)) for name in TENSORS)
    with safe_open(tmp_path / "s.safetensors", "pt") as file:
        assert {f"prior/{name}" for name in TENSORS} <= set(file.keys())


def test_a_snapshot_without_a_prior_is_as_before(tmp_path):
    header, _ = split(written(tmp_path / "s.safetensors"))
    assert "prior" not in header["__metadata__"]["pgvae"]
    assert not any(name.startswith("prior/") for name in header)
    assert load_snapshot(tmp_path / "s.safetensors").prior is None


def said(**values):
    return lambda header, prior: prior.update(values)


HOSTILE = {
    "more components than tensors": said(components=2),
    "huge number of components": said(components=10**9),
    "no components at all": said(components=0),
    "components of text": said(components="1"),
    "components that are true": said(components=True),
    "components not said": lambda header, prior: prior.pop("components"),
    "unknown kind": said(kind="os.system"),
    "kind of a list": said(kind=[]),
    "default of text": said(is_default="yes"),
    "about of a list": said(about=[1]),
    "no factors": lambda header, prior: header.pop("prior/factors"),
    "an extra tensor": lambda header, prior: header.update({"prior/x": header["prior/means"]}),
    "means of another shape": lambda header, prior: header["prior/means"].update(shape=[8]),
    "doubles": lambda header, prior: header["prior/means"].update(dtype="F64"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_prior_is_refused(name, tmp_path):
    path = tmp_path / "s.safetensors"
    save_snapshot(path, dataclasses.replace(make(), prior=a_prior()))
    header, data = split(path)
    about = json.loads(header.pop("__metadata__")["pgvae"])
    HOSTILE[name](header, about["prior"])
    join(path, {"__metadata__": {"pgvae": json.dumps(about)}, **header}, data)
    with pytest.raises(CorruptFileError):
        load_snapshot(path)


def test_a_prior_that_is_only_said_is_refused(tmp_path):
    about = {"kind": "gaussian", "components": 1, "is_default": True, "about": {}}
    for given, words in ((about, "lacks tensors: prior/"), (7, "impossible prior")):
        path = changed(tmp_path / "s.safetensors", lambda _, s, g=given: s.update(prior=g))
        with pytest.raises(CorruptFileError, match=words):
            load_snapshot(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("means", math.nan, "not finite: prior/means"),
        ("weights", 2.0, "impossible prior: the weights"),
        ("factors", 0.0, "impossible prior: factors"),
    ],
)
def test_numbers_of_no_prior_are_refused(name, value, words, tmp_path):
    prior = a_prior()
    getattr(prior, name).fill_(value)
    save_snapshot(tmp_path / "s.safetensors", dataclasses.replace(make(), prior=prior))
    with pytest.raises(CorruptFileError, match=words):
        load_snapshot(tmp_path / "s.safetensors")


def test_the_most_components_fit_in_a_file(tmp_path):
    prior = a_prior(8, MOST_COMPONENTS)
    save_snapshot(tmp_path / "s.safetensors", dataclasses.replace(make(), prior=prior))
    assert load_snapshot(tmp_path / "s.safetensors").prior.components == MOST_COMPONENTS
    prior = a_prior(8, MOST_COMPONENTS + 1)
    save_snapshot(tmp_path / "s.safetensors", dataclasses.replace(make(), prior=prior))
    with pytest.raises(CorruptFileError, match="impossible prior"):
        load_snapshot(tmp_path / "s.safetensors")
