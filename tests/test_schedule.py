"""The schedule: a pure function of the images seen."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgvae.errors import InputError
from pgvae.schedule import Schedule

ALL = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
# 4 px, 8 px while it fades and after, 16 px likewise.
PHASES = ({"margin": 1.0}, {"margin": 2.0}, {}, {"margin": 3.0}, {"margin": 4.0, "alpha": 5.0})


def schedule(**changes) -> Schedule:
    values = {
        "resolutions": (4, 8, 16),
        "batch_sizes": (32, 16, 8),
        "learning_rates": (1e-3, 2e-3, 3e-3),
        "first_kimg": 10.0,
        "fade_kimg": 4.0,
        "stable_kimg": 6.0,
        "total_kimg": 40.0,
        "settings": PHASES,
    }
    return Schedule(**{**values, **changes})


# --- settings of the objective that change over a run


def test_settings_are_those_of_the_phase() -> None:
    plan = schedule()  # 8 px from 10,000 images, 16 px from 20,000; both fade for 4,000
    moments = {0: 0, 9_999: 0, 10_000: 1, 13_999: 1, 14_000: 2, 19_999: 2}
    moments |= {20_000: 3, 23_999: 3, 24_000: 4, 40_000: 4, 10**9: 4}
    assert {images: dict(plan.at(images).settings) for images in moments} == {
        images: PHASES[phase] for images, phase in moments.items()
    }


def test_without_settings_none_ever_change() -> None:
    plan = schedule(settings=())
    assert all(dict(plan.at(images).settings) == {} for images in (0, 12_000, 40_000))


def test_without_growth_there_is_one_phase() -> None:
    single = {"resolutions": (4,), "batch_sizes": (32,), "learning_rates": (1e-3,)}
    plan = schedule(**single, settings=({"margin": 7.0},))
    assert [dict(plan.at(images).settings) for images in (0, 40_000)] == [{"margin": 7.0}] * 2


def test_without_a_fade_the_settings_of_a_fade_never_hold() -> None:
    plan = schedule(fade_kimg=0.0)
    assert [dict(plan.at(images).settings) for images in (9_999, 10_000, 16_000)] == [
        PHASES[0],
        PHASES[2],
        PHASES[4],
    ]


# --- pre-training, progress, milestones


def test_pretraining_is_the_first_part_of_a_run() -> None:
    plan = schedule(pretrain_kimg=2.5)
    seen = [plan.at(images).pretraining for images in (0, 2_499, 2_500, 40_000)]
    assert seen == [True, True, False, False]
    assert not schedule().at(0).pretraining


def test_progress_is_the_share_of_the_run_after_pretraining() -> None:
    plan = schedule(pretrain_kimg=8.0)  # 32,000 images are left
    moments = {0: 0.0, 7_999: 0.0, 8_000: 0.0, 16_000: 0.25, 24_000: 0.5, 40_000: 1.0, 10**9: 1.0}
    assert {i: plan.at(i).progress for i in moments} == pytest.approx(moments)
    assert schedule().at(10_000).progress == 0.25


def test_a_run_that_is_all_pretraining_is_refused() -> None:
    for kimg in (40.0, 100.0):
        with pytest.raises(InputError, match=r"of 40\.0 in all: use less"):
            schedule(pretrain_kimg=kimg)


def test_progress_may_be_of_another_length_than_the_run() -> None:
    plan = schedule(pretrain_kimg=8.0, anneal_kimg=24.0)  # of 40,000 images
    moments = {0: 0.0, 8_000: 0.0, 12_000: 0.25, 24_000: 1.0, 40_000: 1.0}
    assert {i: plan.at(i).progress for i in moments} == pytest.approx(moments)


def test_each_milestone_multiplies_the_rate_of_its_stage() -> None:
    plan = schedule(milestones_kimg=(5.0, 12.0, 12.0), milestone_factor=0.1)
    moments = {0: 1e-3, 4_999: 1e-3, 5_000: 1e-4, 9_999: 1e-4, 10_000: 2e-4, 11_999: 2e-4}
    moments |= {12_000: 2e-6, 20_000: 3e-6}
    assert {i: plan.at(i).lr for i in moments} == pytest.approx(moments, rel=1e-12)


def test_a_milestone_halves_the_rate_unless_told_otherwise() -> None:
    assert schedule(milestones_kimg=(5.0,)).at(5_000).lr == 5e-4


# --- a pure function


def test_stages_follow_the_three_lengths() -> None:
    """10k at 4 px; at 8 px 4k of fade and 6k stable; at 16 px 4k of fade, then on."""
    plan = schedule()
    expected = {
        0: (4, 1.0, 32, 1e-3),
        9_999: (4, 1.0, 32, 1e-3),
        10_000: (8, 0.0, 16, 2e-3),
        11_000: (8, 0.25, 16, 2e-3),
        14_000: (8, 1.0, 16, 2e-3),
        19_999: (8, 1.0, 16, 2e-3),
        20_000: (16, 0.0, 8, 3e-3),
        22_000: (16, 0.5, 8, 3e-3),
    }
    found = {images: plan.at(images) for images in expected}
    assert {i: (s.resolution, s.alpha, s.batch_size, s.lr) for i, s in found.items()} == expected
    assert [plan.start_of(i) for i in range(3)] == [0, 10_000, 20_000]


def test_the_past_and_the_holder_of_a_stage_change_nothing() -> None:
    plan = schedule()
    late = plan.at(30_000)
    plan.at(0)
    assert plan.at(30_000) == late == schedule().at(30_000)
    if isinstance(late.settings, dict):
        late.settings["margin"] = 7.0
    assert dict(plan.at(30_000).settings) == PHASES[4]


def test_past_the_end_the_last_stage_goes_on() -> None:
    plan = schedule()
    assert plan.at(10**12) == plan.at(plan.total_images)
    assert plan.at(10**12).resolution == 16


def test_without_a_fade_a_new_resolution_is_there_at_once() -> None:
    plan = schedule(fade_kimg=0.0)
    assert (plan.at(9_999).resolution, plan.at(9_999).alpha) == (4, 1.0)
    assert (plan.at(10_000).resolution, plan.at(10_000).alpha) == (8, 1.0)


@st.composite
def schedules(draw) -> Schedule:
    first = draw(st.integers(0, len(ALL) - 1))
    resolutions = ALL[first : draw(st.integers(first + 1, len(ALL)))]
    kimg = st.floats(0.001, 5000, allow_nan=False)
    total = draw(kimg)
    return Schedule(
        resolutions=resolutions,
        batch_sizes=tuple(draw(st.integers(1, 512)) for _ in resolutions),
        learning_rates=tuple(draw(st.floats(1e-6, 1e-1)) for _ in resolutions),
        first_kimg=draw(kimg),
        fade_kimg=draw(kimg),
        stable_kimg=draw(kimg),
        total_kimg=total,
        settings=tuple({"phase": i} for i in range(2 * len(resolutions) - 1)),
        pretrain_kimg=total * draw(st.floats(0, 0.999)),
        anneal_kimg=draw(st.one_of(st.just(0.0), kimg)),
        milestones_kimg=tuple(draw(st.lists(kimg, max_size=3))),
    )


@settings(derandomize=True, deadline=None)
@given(plan=schedules(), moments=st.lists(st.integers(0, 10**8), min_size=2, max_size=20))
def test_alpha_is_a_share_and_resolution_never_decreases(plan, moments) -> None:
    starts = [plan.start_of(i) + offset for i in range(len(plan.resolutions)) for offset in (0, 1)]
    stages = [plan.at(images) for images in sorted({*moments, *starts})]
    for stage in stages:
        assert 0.0 <= stage.alpha <= 1.0
        assert stage.resolution in plan.resolutions
        index = plan.resolutions.index(stage.resolution)
        assert stage.batch_size == plan.batch_sizes[index]
        assert 0.125 * plan.learning_rates[index] <= stage.lr <= plan.learning_rates[index]
        assert stage.settings["phase"] == max(0, 2 * index - (stage.alpha < 1))
        assert 0.0 <= stage.progress <= 1.0
        assert not (stage.pretraining and stage.progress > 0)
    for before, after in pairwise(stages):
        assert after.resolution >= before.resolution
        assert after.settings["phase"] >= before.settings["phase"]
        assert after.progress >= before.progress
        assert after.pretraining <= before.pretraining
        if after.resolution == before.resolution:
            assert after.alpha >= before.alpha
    assert stages[-1].resolution == plan.resolutions[-1]


@settings(derandomize=True, deadline=None)
@given(plan=schedules())
def test_every_resolution_has_its_turn_at_its_start(plan) -> None:
    for index, resolution in enumerate(plan.resolutions):
        assert plan.at(plan.start_of(index)).resolution == resolution
        if index:
            assert plan.at(plan.start_of(index) - 1).resolution == plan.resolutions[index - 1]


# --- bad input


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_sizes": (32, 16, -1)},
        {"batch_sizes": (32, 16, 0)},
        {"batch_sizes": (32, 16)},
        {"batch_sizes": ()},
        {"learning_rates": (1e-3, math.nan, 1e-3)},
        {"learning_rates": (1e-3, math.inf, 1e-3)},
        {"learning_rates": (1e-3, 0.0, 1e-3)},
        {"learning_rates": (1e-3, -1e-3, 1e-3)},
        {"learning_rates": (1e-3,)},
        {"total_kimg": 0.0},
        {"total_kimg": -1.0},
        {"total_kimg": math.nan},
        {"total_kimg": math.inf},
        {"first_kimg": math.nan},
        {"first_kimg": math.inf},
        {"first_kimg": -1.0},
        {"fade_kimg": math.nan},
        {"fade_kimg": -1.0},
        {"stable_kimg": math.nan},
        {"stable_kimg": -1.0},
        {"pretrain_kimg": math.nan},
        {"pretrain_kimg": math.inf},
        {"pretrain_kimg": -1.0},
        {"milestones_kimg": (1.0, math.nan)},
        {"milestones_kimg": (math.inf,)},
        {"milestones_kimg": (0.0,)},
        {"milestones_kimg": (-1.0,)},
        {"milestone_factor": 0.0},
        {"milestone_factor": 1.5},
        {"milestone_factor": math.nan},
        {"settings": PHASES[:3]},
        {"settings": (*PHASES, {})},
        {"resolutions": (), "batch_sizes": (), "learning_rates": (), "settings": ()},
        {"resolutions": (4, 16, 64)},
        {"resolutions": (16, 8, 4)},
        {"resolutions": (4, 4, 8)},
    ],
    ids=str,
)
def test_a_schedule_refuses(changes) -> None:
    with pytest.raises(InputError):
        schedule(**changes)
