"""Images without an encoder: their latents are found by optimisation."""

import pytest
import torch
from latent_models import HEADS, images_of
from snapshots import make

from pgvae.errors import InputError
from pgvae.inference import Model

STEPS = 60


def a_gan(head: str = "sphere", alpha: float = 1.0) -> Model:
    return Model(make(alpha, head=head, encoder=False, discriminator="image"))


def errors(model: Model, latents: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return (model.decode(latents) - images).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_images_that_it_can_make_are_found(head, alpha) -> None:
    model = a_gan(head, alpha)
    images = model.sample(3, seed=7)
    latents = model.project(images, STEPS)
    assert latents.shape == (3, 8)
    if head == "sphere":
        torch.testing.assert_close(latents.norm(dim=1), torch.ones(3))
    spread = (images - images.mean(dim=0)).square().mean().item()
    assert errors(model, latents, images).max().item() < 0.02 * spread
    assert torch.equal(model.reconstruct(images, steps=STEPS), model.decode(latents))


def test_more_steps_are_never_worse_and_none_depends_on_the_other_images() -> None:
    model, images = a_gan(), images_of(3)
    few, many = (errors(model, model.project(images, steps), images) for steps in (1, 20))
    assert (many <= few).all()
    alone = torch.cat([model.project(image[None], 5) for image in images])
    torch.testing.assert_close(model.project(images, 5), alone, rtol=1e-4, atol=1e-5)


def test_the_seed_of_the_samples_decides() -> None:
    model, images = a_gan(), images_of(2)
    one, same, other = (model.project(images, 2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not model.generator.training
    assert all(p.grad is None for p in model.generator.parameters())


def test_of_no_images_there_are_no_latents() -> None:
    assert a_gan().project(images_of(2)[:0], 2).shape == (0, 8)


@pytest.mark.parametrize("steps", [0, -1])
def test_less_than_a_step_is_refused(steps) -> None:
    with pytest.raises(InputError, match=f"steps is {steps}: use 1 or more"):
        a_gan().project(images_of(1), steps)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="images must be"):
        a_gan().project(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.encode(images_of(1)),
        lambda model: model.posterior(images_of(1)),
        lambda model: model.interpolate(images_of(2)),
        lambda model: model.directions,
        lambda model: model.edit(images_of(1), "glasses"),
        lambda model: model.sample_conditional(1, {"glasses": 1}),
    ],
)
def test_what_needs_an_encoder_says_so(use) -> None:
    model = a_gan()
    assert not model.encodes
    with pytest.raises(InputError, match="has no encoder, which this needs: take one of another"):
        use(model)


def test_between_latents_it_goes_without() -> None:
    model = a_gan()
    assert model.between(model.sample_latents(4), 3).shape == (9, 3, 8, 8)
    assert model.between(model.sample_latents(2), 3).shape == (3, 3, 8, 8)
