"""What a caller has set in torch: another default dtype, inference mode."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from latent_models import images_of, model_of
from snapshots import a_prior, make, written
from torch import Tensor

from pgvae import Request
from pgvae.errors import InputError
from pgvae.inference import Model, fit_gaussian, load
from pgvae.training import start

OTHERS = (torch.float64, torch.float16, torch.bfloat16)


@pytest.fixture(params=OTHERS, ids=str)
def other_default(request) -> Iterator[Callable[[], None]]:
    """Sets another default dtype until the test ends."""
    yield lambda: torch.set_default_dtype(request.param)
    torch.set_default_dtype(torch.float32)


def a_gan() -> Model:
    return Model(make(encoder=False, discriminator="image"))


def results(models: dict[str, Model], images: Tensor) -> list[Tensor]:
    """Of all that draws or makes numbers."""
    plain, mixed, classifier, gan = models.values()
    asked = {"steps": 3, "step_size": 0.05, "sure": None}
    return [
        plain.sample(2, seed=1),
        mixed.sample(2, seed=1),
        *(model.interpolate(images, 3) for model in (plain, classifier)),
        classifier.edit(images, "glasses", to=0.8),
        classifier.sample_conditional(2, {"glasses": 1}, **asked),
        classifier.sample_conditional(2, {"glasses": 1}, method="rejection"),
        gan.reconstruct(images, steps=2),
        fit_gaussian(plain.encode(images)).factors,
    ]


def test_results_are_those_of_float32_whatever_the_default_is(other_default, tmp_path):
    path, images = written(tmp_path / "a.safetensors"), images_of(2)
    mixed = Model(dataclasses.replace(make(), prior=a_prior(8, 3)))
    models = {"plain": load(path), "mixed": mixed, "vac": model_of("gaussian", 2), "gan": a_gan()}
    before = results(models, images)
    other_default()
    after = results({**models, "plain": load(path)}, images)
    for one, other in zip(before, after, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_training_with_another_default_is_refused(other_default):
    other_default()
    for begin in (start.train, start.dry_run):
        with pytest.raises(InputError, match=r"training needs torch as it is by itself: .*float32"):
            begin(Request(dataset="faces"))


def test_another_default_device_is_refused(tmp_path):
    path = written(tmp_path / "a.safetensors")
    torch.set_default_device("meta")
    try:
        for begin in (load, lambda _: start.train(Request(dataset=str(tmp_path)))):
            with pytest.raises(InputError, match=r"torch.set_default_device\('meta'\) is in force"):
                begin(path)
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_without_gradients_is_refused(mode):
    with mode(), pytest.raises(InputError, match=r"outside of torch.no_grad\(\) and inference_mo"):
        start.train(Request(dataset="faces"))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_model_without_an_encoder_finds_latents_where_nothing_has_a_gradient(mode):
    model = a_gan()
    expected = model.reconstruct(model.sample(2), steps=2)
    with mode():
        assert torch.equal(model.reconstruct(model.sample(2), steps=2), expected)


def test_a_model_that_was_loaded_in_inference_mode_works_outside_of_it(tmp_path):
    path = written(tmp_path / "a.safetensors")
    with torch.inference_mode():
        model, gan, given = load(path).to("cpu"), a_gan(), images_of(2)
    assert not any(p.is_inference() for p in (*model.generator.parameters(), model.mean_image))
    latents = model.encode(given).requires_grad_()
    (slope,) = torch.autograd.grad(model.generator(latents, model.alpha).sum(), latents)
    assert slope.isfinite().all()
    assert torch.equal(gan.reconstruct(given, steps=2), a_gan().reconstruct(given, steps=2))
