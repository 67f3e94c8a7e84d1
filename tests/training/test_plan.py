"""From a request to the config of a run: objective, schedule, labels, networks, weights."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from runs import LABELLED, FakeStore

from pgvae.config import RunConfig
from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from
from pgvae.request import Request
from pgvae.training.plan import Initial, plan
from pgvae.training.settings import parse_settings


def configured(
    objective: str, *, store: Any = None, initial: Any = None, **options: Any
) -> RunConfig:
    """The plan for these options; labels that can be learnt where the objective needs them."""
    if OBJECTIVES[objective].needs_labels:
        options = {"attributes": ("glasses", "hat"), **options}
    start = initial and Initial(initial, "0" * 64)
    request = Request(dataset="faces", objective=objective, **options)
    return plan(request, FakeStore() if store is None else store, start)


def stage_values(config: RunConfig, name: str) -> list[tuple[int, float, Any]]:
    """(resolution, alpha at its begin, value of a setting) of each phase, in order."""
    schedule = config.schedule
    found = []
    for index, planned in enumerate(schedule.stages):
        start = schedule.start_of(index)
        for images in (start, start + round(1000 * planned.fade_kimg)) if index else (0,):
            stage = schedule.at(images)
            found.append((stage.resolution, stage.alpha, stage.settings.get(name)))
    return found


EACH = ("lambda_x=7", "lambda_x@16=9", "lambda_z@16=3")
EVERY = pytest.mark.parametrize("objective", OBJECTIVES)


@EVERY
def test_a_config_is_that_of_its_objective_and_travels_through_json(objective):
    config = configured(objective, store=FakeStore(channels=1))
    kind = OBJECTIVES[objective]
    assert type(objective_from(config.objective)) is kind
    assert config.betas == kind.betas
    assert config.model.head == kind().model_settings(2)["head"]
    assert config.model.channels == 1
    assert config.schedule.resolutions == ((4, 8, 16) if kind.grows else (16,))
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for grow, resolutions in ((True, (4, 8, 16)), (False, (16,))):
        assert configured(objective, grow=grow).schedule.resolutions == resolutions


# Presets


# Final resolution: margin, alpha, beta, latent_dim (IntroVAE, section 4.1 and appendix D).
@pytest.mark.parametrize(
    ("resolution", "margin", "alpha", "beta", "latent_dim"),
    [(128, 110, 0.25, 0.5, 256), (256, 120, 0.25, 0.05, 512), (1024, 90, 0.25, 0.0025, 512)],
)
def test_introvaes_settings_are_the_papers(resolution, margin, alpha, beta, latent_dim):
    config = configured("introvae", store=FakeStore(resolution))
    found = {name: config.objective[name] for name in ("margin", "alpha", "beta")}
    assert found == {"margin": margin, "alpha": alpha, "beta": beta}
    assert (config.model.latent_dim, config.model.arch) == (latent_dim, "residual")
    assert config.betas == (0.9, 0.999)
    if resolution == 256:  # its table 3
        widths = [config.model.fmaps(r) for r in (256, 128, 64, 32, 16, 8)]
        assert widths == [32, 64, 128, 256, 512, 512]


@pytest.mark.parametrize(
    ("objective", "weights", "classes"),
    [("vac", {}, 2), ("introvac", {"b_ec": 0.01, "b_g": 5}, 3)],
)
def test_introvacs_settings_are_the_papers(objective, weights, classes):
    config = configured(objective, store=FakeStore(128))
    shared = {"name": objective, "b_ae": 100, "b_cl": 10, "b_reg": 3}
    assert config.objective == {**shared, **weights}
    assert (config.model.latent_dim, config.model.classes) == (256, classes)


def test_a_users_options_go_before_the_presets():
    settings, networks = ("margin=7", "hinge=batch"), {"arch": "pggan", "generator_norm": "pixel"}
    config = configured("introvae", settings=settings, latent_dim=24, lr=0.5, batch=3, **networks)
    assert (config.objective["margin"], config.objective["hinge"]) == (7.0, "batch")
    assert (config.model.arch, config.model.latent_dim) == ("pggan", 24)
    assert (config.model.generator_norm, config.model.encoder_norm) == ("pixel", "equalized")
    assert (config.schedule.at(0).lr, config.schedule.at(0).batch_size) == (0.5, 3)


@pytest.mark.parametrize(
    ("options", "snapshot_kimg", "metric_kimg"),
    [
        ({}, 500, 500),
        ({"total_kimg": 100.0}, 25, 25),
        ({"snapshot_kimg": 0.1}, 0.1, 0.1),
        ({"snapshot_kimg": 0.1, "metric_kimg": 3.0}, 0.1, 3),
    ],
)
def test_snapshots_and_measurements_come_as_often_as(options, snapshot_kimg, metric_kimg):
    config = configured("pioneer", **options)
    assert (config.snapshot_kimg, config.metric_kimg) == (snapshot_kimg, metric_kimg)


def test_bce_goes_with_a_tanh_everywhere():
    assert configured("soft_introvae", settings=("rec=bce",)).model.output == "tanh"
    assert configured("soft_introvae").model.output == "linear"
    with pytest.raises(InputError, match="--set rec@16: networks are built for one value of it"):
        configured("soft_introvae", settings=("rec@16=bce",))


# Settings of a stage


def test_balanced_pioneers_margins_are_those_of_celeba_hq():
    """.05 from 4 to 32 px, 0 while 64 px fade in and .02 after, .02 at 128 px, .04 at 256 px."""
    config = configured("balanced_pioneer", store=FakeStore(256))
    assert stage_values(config, "margin") == [
        *[(4, 1, 0.05), (8, 0, 0.05), (8, 1, 0.05), (16, 0, 0.05), (16, 1, 0.05)],
        *[(32, 0, 0.05), (32, 1, 0.05), (64, 0, 0.0), (64, 1, 0.02)],
        *[(128, 0, 0.02), (128, 1, 0.02), (256, 0, 0.04), (256, 1, 0.04)],
    ]


@pytest.mark.parametrize(
    ("objective", "options", "name", "values"),
    [
        ("pioneer", {}, "lambda_x", [None, None, None, None, 15.0]),  # after the last fade
        ("pioneer", {"grow": False}, "lambda_x", [None]),
        ("vae", {}, "beta_kl", [None] * 5),
        # One for everywhere takes the place of the stages' own; that of a stage goes before both.
        ("balanced_pioneer", {"settings": ("margin=0.3",)}, "margin", [None] * 5),
        ("balanced_pioneer", {"settings": ("margin@8=3",)}, "margin", [0.05, 3, 3, 0.05, 0.05]),
        ("pioneer", {"settings": EACH}, "lambda_x", [None, None, None, 9.0, 9.0]),
        ("pioneer", {"schedule": "pioneer_code"}, "lambda_x", [15.0, None, 15.0, None, 15.0]),
        ("pioneer", {"schedule": "pioneer_code", "settings": EACH[:1]}, "lambda_x", [None] * 5),
        ("pioneer", {"settings": EACH}, "lambda_z", [None, None, None, 3.0, 3.0]),
    ],
)
def test_settings_of_a_stage_hold_in_its_fade_and_after(objective, options, name, values):
    config = configured(objective, **options)
    assert [value for *_, value in stage_values(config, name)] == values
    for text in options.get("settings", ()):
        setting, _, value = text.partition("=")
        assert config.objective.get(setting, float(value)) == float(value)


def test_a_schedule_that_sets_what_the_objective_has_not_is_refused():
    with pytest.raises(InputError, match="--schedule pioneer_code sets lambda_x, which vae has"):
        configured("vae", schedule="pioneer_code")
    assert configured("age", schedule="pioneer_code").schedule.ema_decay == 0.999


# --set

AT = "after @ goes a resolution"


def test_a_switch_is_true_or_false():
    texts = ("rec_to_generator=true", "rec_to_generator@4=false")
    found = parse_settings(OBJECTIVES["pioneer"], texts)
    assert found == ({"rec_to_generator": True}, {4: {"rec_to_generator": False}})
    config = configured("pioneer", settings=texts)
    assert stage_values(config, "rec_to_generator")[0][-1] is False
    assert config.objective["rec_to_generator"] is True


def test_settings_are_typed_by_the_objective():
    texts = ("beta_kl=1", "rec=l1", "gamma_r@64=0", "beta_kl@8=2", "beta_neg@8=1e3")
    assert parse_settings(OBJECTIVES["soft_introvae"], texts) == (
        {"beta_kl": 1.0, "rec": "l1"},
        {64: {"gamma_r": 0.0}, 8: {"beta_kl": 2.0, "beta_neg": 1e3}},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("margin", "'margin' is not NAME=VALUE"),
        ("margin@8", "is not NAME=VALUE"),
        ("margim=1", "unknown balanced_pioneer setting 'margim': did you mean 'margin'"),
        ("margim@8=1", "did you mean 'margin'"),
        ("name=pioneer", "unknown balanced_pioneer setting 'name'"),
        ("=1", "unknown balanced_pioneer setting ''"),
        ("margin=x", "'x' is not a number"),
        ("margin=", "'' is not a number"),
        *(
            (f"rec_to_generator{at}={v}", f"rec_to_generator: {v!r} is not true or false")
            for v in ("", "False", "yes", "1")
            for at in ("", "@8")
        ),
        *((f"margin={v}", f"margin is {v}") for v in (-1, "nan", "inf")),
        ("margin@8=-1", "margin is -1"),
        *((f"margin@{at}=1", AT) for at in ("", "eight", "-8", "8.0", "8@8", "²")),
        *((f"margin@{r}=1", f"@{r}: the run's resolutions are 4, 8, 16") for r in (0, 2, 7, 32)),
    ],
)
def test_a_setting_that_cannot_be_is_refused(text, words):
    with pytest.raises(InputError) as caught:
        configured("balanced_pioneer", settings=(text,))
    assert words in str(caught.value)


# Pre-training, milestones, batches


@EVERY
def test_what_can_be_is_pretrained_as_asked_for_or_for_the_first_of_200_epochs(objective):
    usual = configured(objective, total_kimg=100.0, schedule="introvae").schedule
    assert configured(objective, pretrain_kimg=0.0).schedule.pretrain_kimg == 0.0
    if OBJECTIVES[objective].pretraining:
        assert usual.pretrain_kimg == 0.5
        assert configured(objective, pretrain_kimg=2.0).schedule.pretrain_kimg == 2.0
    else:
        assert usual.pretrain_kimg == 0.0
        with pytest.raises(InputError, match=f"--pretrain-kimg 2.0: {objective} is not pre-train"):
            configured(objective, pretrain_kimg=2.0)


def test_milestones_halve_the_rate():
    schedule = configured("vac", lr_milestones=(1.0, 2.0), lr=0.1).schedule
    assert [schedule.at(images).lr for images in (0, 1000, 2000)] == [0.1, 0.05, 0.025]


@EVERY
def test_one_image_is_refused_where_statistics_are_over_the_batch(objective):
    if objective in ("pioneer", "balanced_pioneer", "age", "as_introvae"):
        with pytest.raises(InputError, match=f"--batch 1 is too small for {objective}.*use 2"):
            configured(objective, batch=1)
    else:
        assert configured(objective, batch=1).schedule.at(0).batch_size == 1
    assert configured(objective, batch=2).schedule.at(0).batch_size == 2
    # No schedule has such a stage, at any resolution.
    for schedule in ("pioneer", "balanced_pioneer", "pggan", "introvae", "introvac"):
        found = configured(objective, store=FakeStore(1024), schedule=schedule, grow=True)
        assert min(stage.batch_size for stage in found.schedule.stages) >= 2


# Labels

NOT_BOTH = "label '{}' does not say both yes and no"
BARE = {"store": FakeStore(labelled=False), "attributes": None}


def test_a_classifier_learns_the_labels_chosen_in_their_order():
    config = configured("vac", attributes=("hat", "glasses"))
    assert config.labels.attributes == ("hat", "glasses")
    assert config.model.classes == 2
    assert configured("introvac", attributes=("hat",)).model.classes == 2
    store = FakeStore()
    store.attributes = ("glasses", "hat")
    everything = configured("vac", store=store, attributes=None).labels.attributes
    assert everything == ("glasses", "hat")


@pytest.mark.parametrize(
    ("objective", "options", "words"),
    [
        ("vac", {"attributes": ("glasses", "always")}, NOT_BOTH.format("always")),
        ("vac", {"attributes": None}, NOT_BOTH.format("always")),
        ("vac", {"attributes": ("hat",), "label_thresholds": (0.05, 0.5)}, NOT_BOTH.format("hat")),
        # hat says yes in an image of validation alone
        ("vac", {"attributes": ("hat",), "label_thresholds": (0.2, 0.8)}, NOT_BOTH.format("hat")),
        ("pioneer", {"balance": ("always",)}, NOT_BOTH.format("always")),
        ("vac", {"attributes": ("glasses",), "balance": ("hat",)}, "no attribute 'hat': .*glasses"),
        ("vae", {"attributes": ("hat",)}, "--attributes: vae does not learn labels"),
        *((name, BARE, f"objective {name} needs labels and faces has none") for name in LABELLED),
        ("vae", {**BARE, "balance": ("hat",)}, "--balance hat needs labels and faces has none"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(objective, options, words):
    with pytest.raises(InputError, match=words):
        configured(objective, **options)


def test_an_objective_without_a_classifier_minds_a_label_only_where_it_balances_by_it():
    config = configured("pioneer", balance=("glasses",))
    assert config.labels.attributes == ("glasses", "hat", "always")
    assert (config.labels.balance, config.model.classes) == (("glasses",), 0)


# Networks, and weights that a run starts from


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
    config = configured(objective, arch=arch)
    assert (config.model.encoder_norm, config.model.generator_norm) == norms
    assert config.model.fmap_base == fmap_base
    assert config.schedule.stages[-1].lr == lr
    asked = configured(objective, arch=arch, lr=0.01)
    assert {stage.lr for stage in asked.schedule.stages} == {0.01}


@pytest.mark.parametrize(
    ("objective", "first", "attributes", "options", "words"),
    [
        ("vac", {}, ("hat", "glasses"), {}, "--attributes .hat, glasses there, glasses, hat here"),
        ("introvae", {"resolution": 8}, (), {"grow": True}, "--resolution .8 there, 16 here"),
        ("pioneer", {"latent_dim": 24}, (), {"latent_dim": 32}, "latent-dim .24 there, 32 here"),
        ("pioneer", {}, (), {"resolution": 8}, "at 16 px, above the final resolution 8.*shrink"),
        (
            "pioneer",
            {"resolution": 8},
            (),
            {"start_resolution": 4},
            "a snapshot at 8 px but the run would start at 4 px: use --start-resolution 8",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(objective, first, attributes, options, words):
    start = snapshot_of(configured(objective, **first), attributes)
    with pytest.raises(InputError, match=words):
        configured(objective, initial=start, **options)


@pytest.mark.parametrize(
    ("objective", "first", "attributes"),
    [("vac", {}, ("glasses", "hat")), ("pioneer", {"latent_dim": 24, "fmap_base": 64}, ())],
)
def test_a_run_takes_over_networks_and_stage_of_its_snapshot(objective, first, attributes):
    config = configured(objective, **first)
    again = configured(objective, initial=snapshot_of(config, attributes))
    assert (again.model, again.init_from) == (config.model, "0" * 64)
    start = snapshot_of(configured("pioneer", resolution=8), ())
    assert configured("pioneer", initial=start).schedule.resolutions == (8, 16)
    start = snapshot_of(configured("pioneer"), ())  # and it goes on as grown
    config = configured("pioneer", initial=start, grow=False)
    assert config.schedule.at(0).settings == {"lambda_x": 15.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grow": False, "start_resolution": 8}, "--no-grow trains at 16 px alone"),
        ({"start_resolution": 32}, "--start-resolution 32 is above the final resolution 16"),
        ({"resolution": 32}, "--resolution 32 is above the data's 16: use 16"),
    ],
)
def test_resolutions_that_cannot_be_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        configured("pioneer", **options)
