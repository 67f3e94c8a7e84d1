"""The autoencoder and the VAE: rec(x, G(z)) and beta_kl KL, sums over pixels and dimensions."""

import pytest
from torch import Tensor
from world import World, kl_of, unit_errors

from pgvae.objectives.ae import Ae
from pgvae.objectives.vae import Vae

# Of images in [-1, 1], over those of images in [0, 1].
FACTORS = {"mse": 4, "l1": 2, "bce": 1}


def loss_of(w: World, o: Ae) -> Tensor:
    """rec, of the mean code in an autoencoder, and beta_kl KL."""
    x = w.batch.images
    z = w.latents_of(x) if isinstance(o, Vae) else w.encode(x).mean
    loss = FACTORS[o.rec] * unit_errors(o.rec, x, w.decode(z)).mean()
    return loss + o.beta_kl * kl_of(w.encode(x)).mean() if isinstance(o, Vae) else loss


@pytest.mark.parametrize("resolution", [4, 8])
@pytest.mark.parametrize("rec", FACTORS)
@pytest.mark.parametrize(("kind", "weights"), [(Ae, {}), (Vae, {"beta_kl": 0.7})])
def test_the_loss_is_the_error_and_the_weighted_kl(world, kind, weights, rec, resolution) -> None:
    """Below the final resolution the sum over pixels is scaled by the ratio of pixels."""
    o = kind(rec=rec, **weights)
    world(o, resolution=resolution).check(o, "both", loss_of)


def test_without_weight_the_kl_has_no_gradient(world) -> None:
    world(Vae(beta_kl=0.0)).check(Vae(beta_kl=0.0), "both", loss_of)
