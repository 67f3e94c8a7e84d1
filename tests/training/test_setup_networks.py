"""Which networks and weights a run starts with."""

from types import SimpleNamespace

import pytest
from test_setup import configured

from pgvae.errors import InputError


def snapshot_of(config, attributes: tuple[str, ...]) -> SimpleNamespace:
    """What a run looks at of the snapshot that it starts from."""
    nets = SimpleNamespace(generator=SimpleNamespace(resolution=config.model.resolution))
    return SimpleNamespace(config=config.model, nets=nets, attributes=attributes)


@pytest.mark.parametrize(
    ("objective", "arch", "norms", "fmap_base", "lr"),
    [
        ("introvae", None, ("none", "none"), 256, 2e-4),
        ("introvae", "pggan", ("equalized", "pixel"), 8192, 1e-3),
        ("vae", None, ("equalized", "pixel"), 8192, 1e-3),
        ("vae", "residual", ("none", "none"), 256, 2e-4),
        ("pioneer", None, ("spectral", "pixel"), 8192, 1e-3),
        ("pioneer", "residual", ("spectral", "pixel"), 256, 1e-3),
        ("balanced_pioneer", "residual", ("spectral", "spectral"), 256, 1e-3),
        ("introvac", "pggan", ("equalized", "pixel"), 8192, 1e-3),
    ],
)
def test_norms_widths_and_rate_go_with_the_architecture(objective, arch, norms, fmap_base, lr):
    config = configured(objective, model={"arch": arch})
    assert (config.model.encoder_norm, config.model.generator_norm) == norms
    assert config.model.fmap_base == fmap_base
    assert config.schedule.learning_rates[-1] == lr


def test_a_rate_that_is_asked_for_goes_before_that_of_the_architecture():
    config = configured("introvae", model={"arch": "pggan"}, lr=0.01)
    assert set(config.schedule.learning_rates) == {0.01}


def test_a_classifier_of_other_attributes_is_not_taken_over():
    first = configured("vac")
    fitting = snapshot_of(first, ("glasses", "hat"))
    assert configured("vac", initial=fitting).model == first.model
    with pytest.raises(InputError, match="attributes: hat, glasses there, glasses, hat here"):
        configured("vac", initial=snapshot_of(first, ("hat", "glasses")))


def test_residual_networks_of_another_final_resolution_are_not_taken_over():
    small = configured("introvae", resolution=8)
    with pytest.raises(InputError, match="resolution: 8 there, 16 here"):
        configured("introvae", initial=snapshot_of(small, ()), grow=True)


def test_pioneer_goes_on_as_grown_from_a_snapshot_of_the_final_resolution():
    first = configured("pioneer")
    config = configured("pioneer", initial=snapshot_of(first, ()), grow=False)
    assert config.schedule.at(0).settings == {"lambda_x": 15.0}
    assert configured("pioneer", grow=False).schedule.at(0).settings == {}


def test_attributes_are_refused_where_nothing_learns_them():
    with pytest.raises(InputError, match="vae does not learn labels"):
        configured("vae", labels={"attributes": ("hat",)})
    balanced = configured("vae", labels={"balance": ("hat",)})
    assert balanced.labels.balance == ("hat",)
