"""The prior that a run fits by itself, in every snapshot that it writes."""

import pytest
import torch
from runs import run_to, tiny_config

from pgvae.errors import CorruptFileError
from pgvae.inference import describe, fit_prior, load
from pgvae.training import record


def test_each_snapshot_has_the_prior_that_fits_its_training_images(store, tmp_path):
    run_to(tiny_config(store), store, tmp_path, 0.064)  # 8 px, in a fade
    log = (tmp_path / "log.txt").read_text()
    found = {}
    for images in (48, 64):
        model = load(tmp_path / f"snapshot-{images:09d}.safetensors")
        expected, _ = fit_prior(model, store, "mixture" if images == 64 else "gaussian")
        assert torch.equal(model.prior.means, expected.means)
        assert torch.equal(model.prior.factors, expected.factors)
        assert model.prior.about == expected.about
        assert model.prior.about["images"] == 20
        assert model.default_prior == "fitted"
        found[images] = expected.factors
    assert log.count(describe(expected)) == 2
    assert not torch.equal(found[48], found[64])


def test_it_is_fitted_once_a_moment_and_the_best_snapshot_has_it_too(store, tmp_path, monkeypatch):
    fitted = []

    def counted(model, store, kind):
        fitted.append(model.images_seen)
        return fit_prior(model, store, kind)

    monkeypatch.setattr(record, "fit_prior", counted)
    config = tiny_config(store, metrics=("psnr",), metric_kimg=0.024)
    run_to(config, store, tmp_path, 0.048)
    assert fitted == [24, 48]
    last = load(tmp_path / "snapshot-000000048.safetensors")
    best = load(tmp_path / "best.safetensors")
    assert best.prior is not None
    assert torch.equal(best.prior.means, last.prior.means) == (best.images_seen == 48)


def test_a_run_goes_on_where_none_can_be_fitted(store, tmp_path, monkeypatch):
    def fails(*_):
        raise CorruptFileError("no whole images")

    monkeypatch.setattr(record, "fit_prior", fails)
    run_to(tiny_config(store), store, tmp_path, 0.048)
    model = load(tmp_path / "snapshot-000000048.safetensors")
    assert (model.prior, model.default_prior) == (None, "training")
    assert "no prior is fitted: no whole images" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("objective", ["vae", "pioneer", "introvae"])
def test_it_says_more_than_the_training_prior_of_where_latents_are(objective, store, tmp_path):
    """The log density of the latents of training images, higher than that of its own draws."""
    config = tiny_config(store, objective)
    run_to(config, store, tmp_path, 0.032)
    model = load(tmp_path / "snapshot-000000032.safetensors")
    draws = model.sample_latents(500, prior="training")
    pixels = store.get_many(store.split("train"), model.resolution)
    images = torch.from_numpy(pixels).float() / 127.5 - 1
    latents = model.encode(images)
    density = model.prior.log_likelihood
    assert density(latents).mean() > density(draws).mean()
