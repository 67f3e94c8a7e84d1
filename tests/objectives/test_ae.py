"""The autoencoder: the reconstruction error of the posterior's mean, and nothing else."""

import numpy as np
import pytest
import torch
from float64_world import FINAL, assert_same_with_gradients

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of
from pgvae.objectives.ae import Ae


def error_of(rec: str, x: torch.Tensor, x_r: torch.Tensor) -> torch.Tensor:
    """Errors of images in [-1, 1], summed over the pixels of the final resolution."""
    p, q = (x + 1) / 2, (x_r + 1) / 2
    pixels = {
        "mse": lambda: (x - x_r) ** 2,
        "l1": lambda: (x - x_r).abs(),
        "bce": lambda: -p * q.log() - (1 - p) * (1 - q).log(),
    }[rec]()
    return (FINAL / x.shape[-1]) ** 2 * pixels.sum() / len(x)


@pytest.mark.parametrize("rec", ["mse", "l1", "bce"])
@pytest.mark.parametrize("resolution", [4, 8])
def test_the_loss_is_the_reconstruction_error_of_the_mean_code(world, rec, resolution) -> None:
    o = Ae(rec=rec)
    w = world(o, resolution=resolution)
    actual = w.total(o, "both")
    expected = error_of(rec, w.batch.images, w.decode(w.encode(w.batch.images).mean))
    rtol = 1e-6 if rec == "bce" else 1e-9  # cross entropy is computed in float32
    assert_same_with_gradients(actual, expected, w.nets.encoder, w.nets.generator, rtol=rtol)


def test_nothing_is_drawn(game) -> None:
    g = game(Ae())
    losses = [g.losses(Ae(), "both", seed=seed) for seed in (1, 2)]
    assert set(losses[0]) == set(losses[1])
    for name, loss in losses[0].items():
        assert loss.item() == losses[1][name].item()


def test_gradient_steps_lower_the_error(game) -> None:
    for net in ("encoder", "generator"):
        g = game(Ae())
        before = sum(g.losses(Ae(), "both").values())
        g.step(net, before, size=0.01)
        assert sum(g.losses(Ae(), "both").values()).item() < before.item()


def test_the_reported_l1_is_a_mean_over_pixels(game) -> None:
    g = game(Ae())
    g.losses(Ae(), "both")
    x = g.batch.images
    x_r = g.nets.generator(g.nets.encoder(x).mean).detach()
    expected = np.abs(x.numpy() - x_r.numpy()).mean(dtype=np.float64)
    assert g.reported["l1"].item() == pytest.approx(expected, rel=1e-5)


def test_one_phase_trains_both_networks() -> None:
    assert [(p.name, set(p.trains), p.repeats) for p in Ae.phases] == [
        ("both", {"encoder", "generator"}, 1)
    ]
    assert Ae.pretraining is None
    assert Ae(rec="bce").model_settings()["output"] == "tanh"


def test_an_unknown_reconstruction_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"rec.*l2.*mse.*l1.*bce"):
        Ae(rec="l2")


def test_an_ae_travels_through_its_settings() -> None:
    assert OBJECTIVES["ae"] is Ae
    assert settings_of(Ae(rec="l1")) == {"name": "ae", "rec": "l1"}
    assert objective_from(settings_of(Ae(rec="l1"))) == Ae(rec="l1")
