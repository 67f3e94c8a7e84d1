"""What every objective declares: settings and their refusals, phases, networks, presets."""

import dataclasses
import math

import pytest

from pgvae.config import ModelConfig, usual_settings
from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, schedule_called, settings_of
from pgvae.schedule import PGGAN

NAMES = sorted(OBJECTIVES)

AGE = {"lambda_x": 10.0, "lambda_z": 1000.0, "rec_to_generator": False}
VAC = {"b_ae": 100.0, "b_cl": 10.0, "b_reg": 3.0}
SOFT = {"rec": "mse", "beta_rec": 0.2, "beta_kl": 0.2, "beta_neg": 256.0, "gamma_r": 1e-8}
ANNEALED = {"distance": "marginal", "annealing": "linear", "beta_as": 256.0, "beta_gen": 0.2}
DEFAULTS = {
    "ae": {"rec": "mse"},
    "age": AGE,
    "ali": {},
    "as_introvae": {**SOFT, **ANNEALED},
    "balanced_pioneer": {**AGE, "margin": 0.05},
    "introvac": {**VAC, "b_ec": 0.01, "b_g": 5.0},
    "introvae": {"margin": 110.0, "alpha": 0.25, "beta": 0.5, "hinge": "sample"},
    "pggan": {"penalty": 10.0, "drift": 0.001},
    "pioneer": AGE,
    "rivae": {"beta_kl": 0.2, "game": 20.0, "game_from": 16},
    "soft_introvae": SOFT,
    "vac": VAC,
    "vae": {"rec": "mse", "beta_kl": 1.0},
}
CHOICES = {
    "rec": ("mse", "l1", "bce"),
    "hinge": ("sample", "batch"),
    "distance": ("marginal", "tempered", "cauchy_schwarz"),
    "annealing": ("linear", "tanh"),
    "rec_to_generator": (False, True),
}
SPELLED = {"rec_to_generator": ("true or false",)}

BOTH = [("both", {"encoder", "generator"}, 1)]
GAME = [("encoder", {"encoder"}, 1), ("generator", {"generator"}, 1)]
GAME_OF_AGE = [("encoder", {"encoder"}, 1), ("generator", {"generator"}, 2)]
JUDGING = ("discriminator", {"discriminator"}, 1)
PRETRAINED = ("pretrain", {"encoder", "generator"}, 1)
# Its phases, pre-training, whether it grows, and Adam's betas.
TRAINED = {
    "ae": (BOTH, None, True, (0.0, 0.99)),
    "age": (GAME_OF_AGE, PRETRAINED, False, (0.0, 0.99)),
    "ali": ([JUDGING, *BOTH], None, True, (0.5, 0.999)),
    "as_introvae": (GAME, PRETRAINED, False, (0.9, 0.999)),
    "balanced_pioneer": (GAME_OF_AGE, PRETRAINED, True, (0.0, 0.9)),
    "introvac": (GAME, None, False, (0.9, 0.999)),
    "introvae": (GAME, PRETRAINED, False, (0.9, 0.999)),
    "pggan": ([JUDGING, GAME[1]], None, True, (0.0, 0.99)),
    "pioneer": (GAME_OF_AGE, PRETRAINED, True, (0.0, 0.99)),
    "rivae": (BOTH, None, True, (0.9, 0.99)),
    "soft_introvae": (GAME, PRETRAINED, False, (0.9, 0.999)),
    "vac": (BOTH, None, False, (0.9, 0.999)),
    "vae": (BOTH, None, True, (0.0, 0.99)),
}
NORMS = {  # of encoder and generator on the sphere; the others have a Gaussian head
    "age": ("equalized", "pixel"),
    "pioneer": ("spectral", "pixel"),
    "balanced_pioneer": ("spectral", "spectral"),
    "pggan": ("equalized", "pixel"),
}
OTHERS = {  # what else
    "pggan": {
        "encoder": False,
        "discriminator": "image",
        "order": "act_norm",
        "unit_variance": True,
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_objectives_are_inverse_and_begin_at_the_papers(name) -> None:
    cls = OBJECTIVES[name]
    assert settings_of(cls()) == {"name": name, **DEFAULTS[name]}
    assert objective_from({"name": name}) == cls()
    others = {**{k: choices[-1] for k, choices in CHOICES.items()}, "game_from": 4}
    changed = {k: others.get(k, 2.5) for k in DEFAULTS[name]}
    o = objective_from({"name": name, **changed})
    assert type(o) is cls
    assert settings_of(o) == {"name": name, **changed}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_trained_as_in_the_paper(name) -> None:
    cls = OBJECTIVES[name]
    phases, pretraining = (
        [(p.name, set(p.trains), p.repeats) for p in some if p]
        for some in (cls.phases, [cls.pretraining])
    )
    pretrained = pretraining[0] if pretraining else None
    assert (phases, pretrained, cls.grows, cls.betas) == TRAINED[name]


@pytest.mark.parametrize("name", NAMES)
def test_its_networks_are_the_papers(name) -> None:
    o = OBJECTIVES[name]()
    wanted = o.model_settings(2)
    if name in NORMS:
        norms = dict(zip(("encoder_norm", "generator_norm"), NORMS[name], strict=True))
        assert wanted == {"head": "sphere", **norms, **OTHERS.get(name, {})}
    else:
        assert wanted["head"] == "gaussian"
    if "rec" in DEFAULTS[name]:
        for rec, output in (("mse", "linear"), ("l1", "linear"), ("bce", "tanh")):
            assert dataclasses.replace(o, rec=rec).model_settings()["output"] == output


@pytest.mark.parametrize(
    ("name", "setting", "value", "known"),
    [
        (name, setting, value, SPELLED.get(setting) or CHOICES.get(setting, ()))
        for name in NAMES
        for setting in DEFAULTS[name]
        for value in (["cosine", 1] if setting in CHOICES else [math.nan, math.inf, -0.1])
    ],
)
def test_a_bad_setting_is_refused_by_name_with_the_choices(name, setting, value, known) -> None:
    with pytest.raises(InputError, match=".*".join([setting, str(value), *known])):
        objective_from({"name": name, setting: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "pionear"}, r"pionear.*pioneer"),
        ({"name": "zzzzzz"}, r"zzzzzz.*known: ae, age.*, vae"),
        ({"name": "pioneer", "lamda_x": 1.0}, r"lamda_x.*lambda_x"),
        ({"name": "vae", "beta_k": 1.0}, r"beta_k'.*beta_kl"),
        ({"lambda_x": 1.0}, "name"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        objective_from(settings)


def test_a_schedule_goes_by_the_name_of_its_objective() -> None:
    assert schedule_called("pggan") is PGGAN
    assert all(schedule_called(name) is OBJECTIVES[name].schedule for name in NAMES)
    with pytest.raises(InputError, match=r"--schedule pionear: unknown.*pioneer"):
        schedule_called("pionear")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", [4, 8, 16, 32, 64, 128, 256, 512, 1024])
def test_presets_and_stages_are_valid_settings(name, resolution) -> None:
    preset = OBJECTIVES[name].preset(resolution)
    objective = OBJECTIVES[name](**preset.settings)
    wanted = {
        "resolution": resolution,
        "arch": preset.arch,
        "latent_dim": preset.latent_dim,
        **usual_settings(preset.arch, resolution),
        **objective.model_settings(1),
    }
    assert ModelConfig(**wanted).resolution == resolution
    for faded, grown in ((False, False), (True, False), (True, True)):
        settings = objective.stage_settings(resolution, faded=faded, grown=grown)
        staged = settings_of(dataclasses.replace(objective, **settings))
        assert staged == {**settings_of(objective), **settings}
