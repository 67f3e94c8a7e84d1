"""Settings: what they refuse, and their way through JSON."""

import dataclasses
import json
import math

import pytest

from pgvae.config import LabelConfig, ModelConfig, RunConfig, from_dict
from pgvae.errors import InputError
from pgvae.schedule import Schedule, Stage
from pgvae.sizes import SQUARE, resolutions_between

SCHEDULE = Schedule(
    (
        Stage(4, 64, 2e-4, stable_kimg=4500.0),
        Stage(8, 64, 2e-4, 2250.0, 2250.0, {"lambda_x": 1.5}),
        Stage(16, 64, 1e-4, 2250.0, 2250.0, {"lambda_x": 2.5, "metric": "l1"}, {"lambda_x": 3.0}),
    ),
    total_kimg=13_500.0,
    pretrain_kimg=10.0,
    milestones_kimg=(5400.0, 8100.0),
)


def run_config(**changes) -> RunConfig:
    values = {
        "dataset": "faces",
        "dataset_digest": "abc123",
        "model": ModelConfig(resolution=16, latent_dim=8, order="act_norm"),
        "schedule": SCHEDULE,
        "objective": {"name": "pioneer", "lambda_x": 10.0, "lambda_z": 1000.0},
        "labels": LabelConfig(("Smiling", "Male"), 0.2, 0.8, balance=("Male",)),
        "betas": (0.0, 0.99),
        "seed": 7,
        "mirror": True,
    }
    return RunConfig(**{**values, **changes})


# --- the model


@pytest.mark.parametrize(("base", "most"), [(8192, 512), (128, 24)], ids=["pggan's", "other"])
def test_feature_maps_follow_pggans_formula(base, most) -> None:
    """fmaps = min(base / 2^(log2 R - 1), max), and never none."""
    config = ModelConfig(fmap_base=base, fmap_max=most)
    for resolution in resolutions_between(4, 1024):
        by_formula = min(base / 2 ** (math.log2(resolution) - 1), most)
        assert config.fmaps(resolution) == max(1, int(by_formula))
    assert ModelConfig().fmaps(1024) == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolution", 100),
        ("channels", 0),
        ("channels", 2),
        ("channels", 4),
        ("latent_dim", 1),
        ("latent_dim", 0),
        ("latent_dim", math.nan),
        ("fmap_base", 0),
        ("fmap_max", 0),
        ("fmap_max", math.nan),
        ("arch", "stylegan"),
        ("order", "act"),
        ("head", "cube"),
        ("encoder_norm", "pixel"),
        ("generator_norm", "equalized"),
        ("classes", -1),
        ("classes", math.nan),
        ("last_activation", "yes"),
        ("critic", 1),
        ("unit_variance", "false"),
        ("unit_variance", 1),
        ("output", "sigmoid"),
    ],
)
def test_a_model_refuses(name, value) -> None:
    with pytest.raises(InputError, match=rf"{name}.*{value}"):
        ModelConfig(**{name: value})


def test_a_refused_choice_lists_the_choices() -> None:
    with pytest.raises(InputError, match="head is 'cube': choose one of sphere, gaussian"):
        ModelConfig(head="cube")


@pytest.mark.parametrize("which", ["encoder_norm", "generator_norm"])
def test_batch_norm_is_for_the_residual_architecture(which) -> None:
    assert getattr(ModelConfig(arch="residual", **{which: "batch"}), which) == "batch"
    with pytest.raises(InputError, match="batch norm is for arch residual"):
        ModelConfig(arch="pggan", **{which: "batch"})


def test_unit_variance_is_for_the_sphere_and_off_where_an_older_file_does_not_say() -> None:
    assert ModelConfig(unit_variance=True).unit_variance
    with pytest.raises(InputError, match="unit_variance is for latents on the sphere"):
        ModelConfig(head="gaussian", unit_variance=True)
    older = dataclasses.asdict(ModelConfig())
    del older["unit_variance"]
    assert from_dict(ModelConfig, older, "model") == ModelConfig(unit_variance=False)


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        ModelConfig().resolution = 8


# --- from parsed JSON


def test_known_settings_are_taken_and_others_keep_their_defaults() -> None:
    config = from_dict(ModelConfig, {"latent_dim": 8, "head": "gaussian"}, "model")
    assert config == ModelConfig(latent_dim=8, head="gaussian")


def test_a_setting_like_no_other_lists_them_all() -> None:
    with pytest.raises(InputError, match=r"unknown model setting 'zzz': known: arch, base, "):
        from_dict(ModelConfig, {"zzz": 8}, "model")


# --- sizes

# What a model of squares says of itself in every config.json and snapshot so far.
SQUARE_MODEL = (
    *("arch", "resolution", "channels", "latent_dim", "fmap_base", "fmap_max", "order", "head"),
    *("encoder_norm", "generator_norm", "output", "last_activation", "unit_variance", "classes"),
    *("critic", "encoder", "discriminator"),
)


def test_a_model_of_squares_says_nothing_of_a_base() -> None:
    assert tuple(ModelConfig().to_dict()) == SQUARE_MODEL
    assert ModelConfig(base=SQUARE).to_dict() == ModelConfig().to_dict()


@pytest.mark.parametrize("base", [(1, 4), (4, 1), (8, 8), (4, 5), [3, 4], 4])
def test_a_base_of_another_ratio_is_refused(base) -> None:
    with pytest.raises(InputError, match="use one of"):
        ModelConfig(base=base)


# --- the labels


@pytest.mark.parametrize(
    ("no_below", "yes_above"), [(0.8, 0.2), (0.5, math.nan), (math.nan, 0.5), (math.inf, 0.5)]
)
def test_label_thresholds_in_no_order_are_refused(no_below, yes_above) -> None:
    with pytest.raises(InputError, match=f"thresholds are {no_below}, {yes_above}.*lower one"):
        LabelConfig(("Smiling",), no_below, yes_above)
    assert LabelConfig(("Smiling",), 0.3, 0.3).no_below == 0.3  # one may serve for both


def test_a_balance_of_an_attribute_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'Smilling'.*'Smiling'"):
        LabelConfig(("Male", "Smiling"), balance=("Male", "Smilling"))
    with pytest.raises(InputError, match=r"'Hat'.*Male, Smiling"):
        LabelConfig(("Smiling", "Male"), balance=("Hat",))


def test_an_attribute_that_stands_twice_is_refused() -> None:
    with pytest.raises(InputError, match="attributes Male, Male: one stands twice"):
        LabelConfig(("Male", "Male"))


# --- the run


def test_a_run_config_survives_json() -> None:
    config = run_config()
    text = json.dumps(config.to_dict(), allow_nan=False)
    again = RunConfig.from_dict(json.loads(text))
    assert again == config  # of lists and tuples no two are equal
    assert again.schedule.at(10_000_000).settings == {"lambda_x": 2.5, "metric": "l1"}
    assert json.dumps(again.to_dict()) == text


def test_a_run_of_before_there_were_labels_has_none() -> None:
    values = run_config().to_dict()
    del values["labels"]
    assert RunConfig.from_dict(values).labels == LabelConfig(attributes=(), balance=())


def test_a_run_config_does_not_share_its_dict() -> None:
    config = run_config()
    values = config.to_dict()
    again = RunConfig.from_dict(values)
    assert values == config.to_dict()
    values["objective"]["lambda_x"] = 0.0
    assert config.objective["lambda_x"] == again.objective["lambda_x"] == 10.0


@pytest.mark.parametrize(
    ("path", "name", "value", "message"),
    [
        ((), "sede", 1, "unknown run setting 'sede': did you mean 'seed'"),
        (("model",), "latent_dims", 1, "unknown model setting 'latent_dims'.*'latent_dim'"),
        (("model",), "resolution", 100, "64 or 128"),
        (("schedule",), "total_kimgs", 1, "unknown schedule setting 'total_kimgs'.*'total_kimg'"),
        (("schedule",), "total_kimg", 0, "total_kimg is 0"),
        (("schedule", "stages", 1), "fade", 1, "unknown stage setting 'fade'.*'fad"),
        (("schedule", "stages", 1), "lr", 0, "learning rate is 0"),
        (("labels",), "atributes", 1, "unknown labels setting 'atributes'.*'attributes'"),
        (("labels",), "balance", ["Mael"], "'Mael'.*'Male'"),
    ],
)
def test_names_and_values_are_checked_at_any_depth(path, name, value, message) -> None:
    values = json.loads(json.dumps(run_config().to_dict()))
    inner = values
    for step in path:
        inner = inner[step]
    inner[name] = value
    with pytest.raises(InputError, match=message):
        RunConfig.from_dict(values)


@pytest.mark.parametrize("missing", ["model", "schedule", "dataset", "objective"])
def test_a_config_without_a_needed_part_names_it(missing) -> None:
    values = run_config().to_dict()
    del values[missing]
    with pytest.raises(InputError, match=missing):
        RunConfig.from_dict(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("precision", "fp16"),
        ("seed", -1),
        ("snapshot_kimg", 0.0),
        ("snapshot_kimg", -1.0),
        ("snapshot_kimg", math.nan),
        ("snapshot_kimg", math.inf),
        ("metric_kimg", 0.0),
        ("ema_kimg", -1.0),
        ("ema_kimg", math.nan),
        ("ema_rampup", -0.1),
        ("ema_rampup", math.nan),
        ("betas", (0.0, 1.0)),
        ("betas", (-0.1, 0.99)),
        ("betas", (0.0, math.nan)),
    ],
)
def test_a_run_refuses(name, value) -> None:
    with pytest.raises(InputError, match=name):
        run_config(**{name: value})
