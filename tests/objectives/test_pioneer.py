"""What PIONEER adds to AGE's game; the game itself is in test_age.py."""

import dataclasses

import pytest

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of


def test_pioneer_grows_replays_and_normalises_spectrally() -> None:
    pioneer = OBJECTIVES["pioneer"]()
    assert pioneer.grows
    assert pioneer.pool
    assert pioneer.model_settings()["head"] == "sphere"
    assert pioneer.model_settings()["encoder_norm"] == "spectral"
    assert pioneer.model_settings().get("order", "norm_act") == "norm_act"


def grown_up(pioneer):
    """The objective as it is after the last fade."""
    return dataclasses.replace(pioneer, **pioneer.stage_settings(64, faded=True, grown=True))


@pytest.mark.parametrize("resolution", [4, 64, 256])
def test_lambda_x_is_15_once_grown_and_its_own_until_then(resolution) -> None:
    pioneer = OBJECTIVES["pioneer"](lambda_x=3.0)
    for faded in (False, True):
        assert pioneer.stage_settings(resolution, faded=faded, grown=False) == {}
    assert pioneer.stage_settings(resolution, faded=True, grown=True) == {"lambda_x": 15.0}


def test_lambda_x_is_10_d_and_15_d_after_growth(game) -> None:
    pioneer = OBJECTIVES["pioneer"]()
    after = grown_up(pioneer)
    g = game(pioneer)
    growing = g.losses(pioneer, "encoder")
    x = g.batch.images
    error = (x - g.nets.generator(g.nets.encoder(x).mean)).abs().double().mean().item()
    grown = g.losses(after, "encoder")
    assert growing["rec_x"].item() == pytest.approx(10 * 6 * error, rel=1e-4)
    assert grown["rec_x"].item() == pytest.approx(15 * 6 * error, rel=1e-4)
    assert grown["kl_real"].item() == growing["kl_real"].item()
    assert grown["kl_fake"].item() == growing["kl_fake"].item()


def test_growth_leaves_the_generators_loss_alone(game) -> None:
    pioneer = OBJECTIVES["pioneer"]()
    g = game(pioneer)
    growing = g.losses(pioneer, "generator")
    grown = g.losses(grown_up(pioneer), "generator")
    assert {k: v.item() for k, v in grown.items()} == {k: v.item() for k, v in growing.items()}


def test_the_defaults_are_the_papers() -> None:
    assert settings_of(OBJECTIVES["pioneer"]()) == {
        "name": "pioneer",
        "lambda_x": 10.0,
        "lambda_z": 1000.0,
    }


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_settings_and_objectives_are_inverse(name) -> None:
    settings = settings_of(OBJECTIVES[name]())
    assert settings["name"] == name
    assert type(objective_from(settings)) is OBJECTIVES[name]
    assert settings_of(objective_from(settings)) == settings
    assert objective_from({"name": name}) == OBJECTIVES[name]()


def test_an_unknown_objective_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"pionear.*pioneer"):
        objective_from({"name": "pionear"})


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"lamda_x.*lambda_x"):
        objective_from({"name": "pioneer", "lamda_x": 1.0})


def test_settings_without_a_name_are_refused() -> None:
    with pytest.raises(InputError, match="name"):
        objective_from({"lambda_x": 1.0})
