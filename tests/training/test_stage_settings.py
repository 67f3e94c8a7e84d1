"""What changes over a run reaches the objective: settings of a stage, pre-training, progress."""

import dataclasses

import pytest
from runs import (
    CPU,
    NO_STORE,
    PRETRAINED,
    RESOLUTIONS,
    altered,
    random_batch,
    state_after,
    take_steps,
    tiny_config,
)

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, Objective
from pgvae.training.state import TrainState
from pgvae.training.step import train_step

IN_FADE, FADED = 108, 136  # at 16 px, the last stage


class Recorder:
    """Objectives of one kind, and those by which losses were taken."""

    def __init__(self, inner: Objective) -> None:
        self.used: list[tuple[Objective, str, float]] = []
        recorder = self

        class Recorded(type(inner)):
            def losses(self, phase, nets, batch, context):
                recorder.used.append((self, phase, context.progress.item()))
                return super().losses(phase, nets, batch, context)

        self.objective = Recorded(**dataclasses.asdict(inner))

    @property
    def phases(self) -> list[str]:
        return [phase for _, phase, _ in self.used]


def settings_used(state: TrainState, objective: Objective, **stage_changes) -> set:
    """The settings of the objective in one iteration, as the losses see them."""
    recorder = Recorder(objective)
    stage = dataclasses.replace(state.config.schedule.at(state.images_seen), **stage_changes)
    state.enter(stage)
    train_step(state, recorder.objective, stage, random_batch(state), "fp32")
    return {tuple(dataclasses.asdict(used).items()) for used, _, _ in recorder.used}


# Settings


@pytest.mark.parametrize(
    ("images", "lambda_x"), [(0, 10.0), (48, 10.0), (80, 10.0), (IN_FADE, 10.0), (FADED, 15.0)]
)
def test_pioneers_lambda_x_is_15_once_the_last_resolution_has_faded_in(images, lambda_x):
    state = state_after(images)
    [used] = settings_used(state, OBJECTIVES["pioneer"]())
    assert dict(used) == {"lambda_x": lambda_x, "lambda_z": 1000.0}


def test_the_settings_of_a_stage_change_the_losses_and_go_no_further():
    """With l1 times lambda_x d the reconstruction, 15 in place of 10 is half as much again."""
    objective = OBJECTIVES["pioneer"]()
    rec = {}
    for settings in ({}, {"lambda_x": 15.0}):
        state = state_after(8)
        stage = dataclasses.replace(state.config.schedule.at(8), settings=settings)
        scalars = train_step(state, objective, stage, random_batch(state), "fp32")
        rec[len(settings)] = scalars["encoder/rec_x"].item()
    assert rec[1] == pytest.approx(1.5 * rec[0], rel=1e-6)
    assert objective.lambda_x == 10.0


@pytest.mark.parametrize(
    ("resolution", "faded", "margin"),
    [(4, True, 0.05), (32, False, 0.05), (64, False, 0.0), (64, True, 0.02), (256, True, 0.04)],
)
def test_balanced_pioneers_margin_is_that_of_the_resolution(resolution, faded, margin):
    objective = OBJECTIVES["balanced_pioneer"](margin=0.5)
    own = objective.stage_settings(resolution, faded=faded, grown=False)
    [used] = settings_used(state_after(4, "balanced_pioneer"), objective, settings=own)
    assert dict(used)["margin"] == margin


def test_a_setting_of_a_stage_that_the_objective_refuses_is_refused():
    with pytest.raises(InputError, match="margin is -1"):
        settings_used(
            state_after(4, "balanced_pioneer"),
            OBJECTIVES["balanced_pioneer"](),
            settings={"margin": -1.0},
        )


# Pre-training


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_first_iterations_are_a_vaes_and_then_the_game_begins(name):
    state = TrainState.create(tiny_config(NO_STORE, name, pretrain_kimg=0.012), CPU, 4)
    recorder = Recorder(OBJECTIVES[name]())
    take_steps(state, recorder.objective, 5)  # of 4 images: 12 are three iterations
    assert recorder.phases == ["pretrain"] * 3 + ["encoder", "generator"] * 2


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretraining_logs_the_terms_of_a_vae(name):
    state = state_after(0, name, pretrain_kimg=0.012)
    scalars = take_steps(state, OBJECTIVES[name](), 1)
    assert {"pretrain/rec", "pretrain/kl", "pretrain/kl_real", "pretrain/l1"} == scalars.keys()


def test_pretraining_ends_in_the_middle_of_a_run_whatever_the_resolution():
    state = TrainState.create(tiny_config(NO_STORE, "introvae", pretrain_kimg=0.06), CPU, 4)
    recorder = Recorder(OBJECTIVES["introvae"]())
    take_steps(state, recorder.objective, 16)
    assert recorder.phases == ["pretrain"] * 15 + ["encoder", "generator"]
    assert state.resolution == RESOLUTIONS[1]


def test_progress_reaches_the_objective_and_starts_after_pretraining():
    state = TrainState.create(tiny_config(NO_STORE, "as_introvae", pretrain_kimg=0.06), CPU, 4)
    recorder = Recorder(OBJECTIVES["as_introvae"]())
    take_steps(state, recorder.objective, 40)
    progress = [progress for _, phase, progress in recorder.used if phase == "encoder"]
    assert progress == pytest.approx([4 * k / 100 for k in range(25)])


def test_as_introvaes_annealing_follows_the_progress():
    """c = min(5 t, 1), t the share of the run that is done."""
    state, shares = state_after(0, "as_introvae"), []
    objective = altered(OBJECTIVES["as_introvae"](), lambda _call, _phase, _nets, losses: losses)
    for _ in range(12):
        shares.append(take_steps(state, objective, 1)["encoder/c"].item())
    assert shares == pytest.approx([min(5 * 4 * k / 160, 1) for k in range(12)], rel=1e-6)
