"""Which prior is the default, by the distance of samples from unseen images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluated import model_of
from latent_models import rng
from snapshots import a_prior

from pgvae.data import Store, fade_images
from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import Split, folder
from pgvae.errors import CorruptFileError
from pgvae.inference import choice, describe, fit_gaussian, fit_prior
from pgvae.inference.choice import compare, posteriors
from pgvae.inference.prior import draw_latents
from pgvae.metrics import swd
from pgvae.types import Posterior


class Drawer:
    """A model of 16 px that decodes a latent as a smooth or a noisy image, by its first number.

    Smooth where that is above 0; encodes every image as a point around (2, 0).
    """

    resolution, alpha, batch_size, latent_dim = 16, 1.0, 7, 2
    device, config = torch.device("cpu"), SimpleNamespace(head="gaussian")

    def posterior(self, images: torch.Tensor) -> Posterior:
        noise = torch.randn(len(images), 2, generator=rng(0))
        return Posterior(0.1 * noise + torch.tensor([2.0, 0]), torch.full((len(images), 2), -9.0))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(
            len(latents), 3, 16, 16, generator=rng(int(1e6 * latents[0].abs().sum()))
        )
        smooth = torch.nn.functional.interpolate(noise[..., ::4, ::4], scale_factor=4.0)
        return torch.where(latents[:, 0, None, None, None] > 0, smooth, noise).clamp(-1, 1)


class Pictures:
    """A store of smooth images, or of noisy ones; `unseen` of them for validation."""

    name, path, damaged = "drawn", "datasets/drawn", ()

    def __init__(self, unseen: int = 60, smooth: bool = True) -> None:
        self.unseen = unseen
        images = torch.randn(60 + unseen, 3, 16, 16, generator=rng(5))
        if smooth:
            images = torch.nn.functional.interpolate(images[..., ::4, ::4], scale_factor=4.0)
        self.pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()

    def split(self, name: str) -> np.ndarray:
        return np.arange(60) if name == "train" else np.arange(60, 60 + self.unseen)

    def get_many(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        if set(indices.tolist()) & set(self.damaged):
            raise CorruptFileError("damaged")
        return self.pixels[indices]


def test_the_fitted_prior_is_the_default_where_its_samples_are_nearer():
    prior, [candidate, *_] = fit_prior(Drawer(), Pictures(200))
    assert prior.is_default
    assert prior.about["swd_fitted"] + 2 * prior.about["swd_error"] < prior.about["swd_training"]
    assert (prior.about["images"], prior.about["unseen"], prior.about["dataset"]) == (
        60,
        200,
        "drawn",
    )
    assert candidate.components == 1
    assert (
        "60 images: the default prior (SWD of samples to 200 unseen images, in 5 groups, "
        in describe(prior)
    )


def test_it_is_not_where_they_are_farther():
    prior, _ = fit_prior(Drawer(), Pictures(smooth=False))
    assert not prior.is_default
    assert prior.about["swd_fitted"] > prior.about["swd_training"] + 2 * prior.about["swd_error"]
    assert "the training prior stays the default" in describe(prior)


def test_a_difference_within_its_error_leaves_the_fitted_prior(monkeypatch):
    figures = {"swd_fitted": 11.0, "swd_training": 10.0, "unseen": 60}
    for error, expected in ((0.51, True), (0.49, False)):
        found = {**figures, "swd_error": error}
        monkeypatch.setattr(choice, "compare", lambda *_, f=found: f)
        assert fit_prior(Drawer(), Pictures())[0].is_default is expected


@pytest.mark.parametrize("unseen", [0, 4, 39])
def test_too_few_unseen_images_compare_nothing(unseen):
    prior, _ = fit_prior(Drawer(), Pictures(unseen))
    assert prior.is_default
    assert "swd_fitted" not in prior.about
    assert "not compared" in describe(prior)


def test_below_16_px_nothing_is_compared():
    model = Drawer()
    model.resolution = 8
    assert compare(model, Pictures(), fit_gaussian(torch.randn(9, 2))) is None


def test_the_figures_are_means_of_the_published_measure_over_groups():
    model, store, prior = Drawer(), Pictures(), a_prior(2)
    found = compare(model, store, prior)
    order = np.random.default_rng(0).permutation(store.split("val"))
    pixels = torch.from_numpy(store.get_many(order, 16)).float() / 127.5 - 1
    expected = {}
    for name, chosen in (("swd_fitted", prior), ("swd_training", None)):
        values = []
        for group, reals in enumerate(pixels.split(12)):
            fakes = model.decode(draw_latents("gaussian", 2, 12, group, chosen))
            values.append(np.mean([*swd(reals, fakes, seed=group).values()]))
        expected[name] = values
    gaps = np.subtract(*expected.values())
    assert {n: np.mean(v) for n, v in expected.items()} == pytest.approx(
        {n: found[n] for n in expected}
    )
    assert found["swd_error"] == pytest.approx(gaps.std(ddof=1) / 5**0.5)


def test_images_are_faded_as_the_model_saw_them_and_in_any_batches(store, monkeypatch):
    model = model_of(16, alpha=0.5, head="gaussian", encoder_norm="equalized")
    indices = store.split("train")
    pixels = torch.from_numpy(store.get_many(indices, 16)).float() / 127.5 - 1
    expected = model.posterior(fade_images(pixels, 0.5))
    monkeypatch.setattr(type(model), "batch_size", 3)
    found = posteriors(model, store, indices)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_fit_is_the_same_each_time(store):
    model = model_of(16)
    one, other = (fit_prior(model, store)[0] for _ in range(2))
    assert torch.equal(one.factors, other.factors)
    assert torch.equal(one.means, other.means)
    assert one.about == other.about


def test_batches_with_a_damaged_image_are_left_out():
    store = Pictures()
    store.damaged = (3,)
    assert fit_prior(Drawer(), store)[0].about["images"] == 53
    store.damaged = range(60)
    with pytest.raises(CorruptFileError, match="no whole images to fit a prior to"):
        fit_prior(Drawer(), store)


def test_a_prior_is_of_the_training_images_alone(tmp_path, pictures):
    recipe = folder("tiny", pictures, Split(fraction=0.5))
    prepare(recipe, Options(resolution=8, workers=0), tmp_path, say=lambda _: None)
    store, model = Store(tmp_path / "tiny"), model_of(8)
    prior, _ = fit_prior(model, store)
    latents = posteriors(model, store, store.split("train")).mean
    torch.testing.assert_close(prior.means[0], latents.mean(dim=0))
    assert prior.about["images"] == len(store.split("train"))
    few, _ = fit_prior(model, store, most=5)
    assert few.about["images"] == 5
