"""What holds for every objective: who learns in which phase, what decides the numbers."""

import dataclasses
import math

import pytest
import torch

from pgvae.config import ModelConfig, usual_settings
from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of

NAMES = sorted(OBJECTIVES)


def phases_of(name: str) -> list:
    """The phases of an objective and of its pre-training."""
    cls = OBJECTIVES[name]
    return [*cls.phases, *([cls.pretraining] if cls.pretraining else [])]


PHASES = [(name, phase) for name in NAMES for phase in phases_of(name)]
IDS = [f"{name}-{phase.name}" for name, phase in PHASES]
every_phase = pytest.mark.parametrize(("name", "phase"), PHASES, ids=IDS)


def numbers(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {key: loss.item() for key, loss in losses.items()}


@every_phase
@pytest.mark.parametrize("fading", [False, True])
def test_a_phase_reaches_every_parameter_that_it_trains_and_no_other(
    game, name, phase, fading
) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective, fading=fading)
    g.train_only(*phase.trains)
    losses = g.losses(objective, phase.name, alpha=0.5 if fading else 1.0, progress=0.1)
    sum(losses.values()).backward()
    for net in ("encoder", "generator"):
        for key, parameter in getattr(g.nets, net).named_parameters():
            if net in phase.trains:
                assert parameter.grad is not None, key
                assert parameter.grad.abs().sum() > 0, key
            else:
                assert parameter.grad is None, key


@every_phase
def test_the_running_average_takes_no_part(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective)
    with_average = numbers(g.losses(objective, phase.name))
    for parameter in g.nets.ema.parameters():
        parameter.data.fill_(math.nan)
    assert numbers(g.losses(objective, phase.name)) == with_average


@every_phase
def test_alpha_reaches_both_networks_every_time(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective, fading=True)
    g.losses(objective, phase.name, alpha=0.3)
    assert g.decoded
    assert g.encoded
    assert set(g.alphas) == {0.3}


@every_phase
def test_the_contexts_generator_decides_the_numbers(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective)
    before = torch.random.get_rng_state()
    first, again, other = (
        numbers({**g.losses(objective, phase.name, seed=seed), **g.reported}) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again
    assert (first == other) == (name == "ae")


@every_phase
def test_only_as_introvae_follows_the_progress_of_the_run(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective)
    start, end = (numbers(g.losses(objective, phase.name, progress=p)) for p in (0.0, 1.0))
    assert (start != end) == (name == "as_introvae" and phase.name != "pretrain")


@every_phase
def test_only_objectives_with_a_pool_swap_fakes_and_only_for_the_encoder(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective)
    g.losses(objective, phase.name)
    game_of_age = name in ("age", "pioneer", "balanced_pioneer")
    assert objective.pool == (name in ("pioneer", "balanced_pioneer"))
    assert len(g.replayed) == (game_of_age and phase.name == "encoder")


@every_phase
def test_the_batch_and_the_networks_are_left_as_they_were(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective)
    images, labels = g.batch.images.clone(), g.batch.labels.clone()
    nets = (g.nets.encoder, g.nets.generator)
    states = [{k: v.clone() for k, v in net.state_dict().items()} for net in nets]
    g.losses(objective, phase.name)
    assert torch.equal(g.batch.images, images)
    assert torch.equal(g.batch.labels, labels)
    for net, state in zip(nets, states, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in net.parameters())


@every_phase
def test_losses_and_reports_are_finite_scalars_of_full_precision(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective)
    losses = g.losses(objective, phase.name, progress=0.1)
    for key, value in {**losses, **g.reported}.items():
        assert value.shape == (), key
        assert value.dtype == torch.float32 or (key == "c" and value.dtype == torch.float64), key
        assert math.isfinite(value.item()), key
    assert sum(losses.values()).requires_grad
    assert not any(value.requires_grad for value in g.reported.values())


@every_phase
def test_a_batch_of_2_in_bfloat16_has_finite_losses_and_gradients(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective, count=2, resolution=16)
    g.train_only(*phase.trains)
    with torch.autocast("cpu", torch.bfloat16):
        losses = g.losses(objective, phase.name, progress=0.1)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for net in phase.trains:
        gradients = [p.grad for p in getattr(g.nets, net).parameters() if p.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)


@every_phase
def test_bfloat16_changes_the_losses_by_little(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective, resolution=16)
    exact = g.losses(objective, phase.name, progress=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = g.losses(objective, phase.name, progress=0.1)
    scale = sum(abs(loss.item()) for loss in exact.values())
    for key, loss in exact.items():
        assert rounded[key].item() == pytest.approx(loss.item(), rel=0.05, abs=0.02 * scale), key


@every_phase
def test_a_batch_of_one_is_finite_or_refused(game, name, phase) -> None:
    objective = OBJECTIVES[name]()
    g = game(objective, count=1)
    if objective.min_batch == 1 or phase.name == "pretrain":
        losses = g.losses(objective, phase.name)
        assert all(loss.isfinite() for loss in losses.values())
    else:
        with pytest.raises(ValueError, match=r"2|two"):
            g.losses(objective, phase.name)


@pytest.mark.parametrize("name", NAMES)
def test_only_classifiers_need_labels(game, name) -> None:
    objective = OBJECTIVES[name]()
    assert objective.needs_labels == (name in ("vac", "introvac"))
    assert ("classes" in objective.model_settings(2)) == objective.needs_labels
    if not objective.needs_labels:
        g = game(objective)
        for phase in phases_of(name):
            labelled = numbers(g.losses(objective, phase.name))
            g.batch = dataclasses.replace(g.batch, labels=None)
            assert numbers(g.losses(objective, phase.name)) == labelled


def bad_settings() -> list[tuple[str, str, float]]:
    """A value out of range for every number, and an unknown choice for every word."""
    cases = []
    for name, cls in OBJECTIVES.items():
        for setting, value in settings_of(cls()).items():
            if setting != "name":
                bad = ["cosine"] if isinstance(value, str) else [math.nan, math.inf, -0.1]
                cases += [(name, setting, value) for value in bad]
    return cases


@pytest.mark.parametrize(("name", "setting", "value"), bad_settings())
def test_a_bad_setting_is_refused_by_name(name, setting, value) -> None:
    with pytest.raises(InputError, match=f"{setting}.*{value}"):
        objective_from({"name": name, setting: value})


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


@pytest.mark.parametrize("name", NAMES)
def test_phases_train_known_networks_and_each_network_is_trained(name) -> None:
    cls = OBJECTIVES[name]
    trained = {net for phase in cls.phases for net in phase.trains}
    assert trained == {"encoder", "generator"}
    assert all(phase.repeats >= 1 for phase in phases_of(name))
    assert len({phase.name for phase in phases_of(name)}) == len(phases_of(name))


def test_these_objectives_can_be_pre_trained() -> None:
    able = {name for name in NAMES if OBJECTIVES[name].pretraining}
    assert able == {"introvae", "soft_introvae", "as_introvae"}
