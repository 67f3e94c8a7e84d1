"""The schedule, a pure function of the images seen: the papers', and what a user changes."""

import dataclasses
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgvae.errors import InputError
from pgvae.objectives import schedule_called
from pgvae.request import Request
from pgvae.schedule import Moment, Schedule, SchedulePreset, Stage, from_preset

ALL = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


def stages(fade: float = 4.0) -> tuple[Stage, ...]:
    """10k images at 4 px; at 8 and at 16 px so many k of fade, then 6k; each with its settings."""
    return (
        Stage(4, 32, 1e-3, 0.0, 10.0, {}, {"margin": 1.0}),
        Stage(8, 16, 2e-3, fade, 6.0, {"margin": 2.0}, {}),
        Stage(16, 8, 3e-3, fade, 6.0, {"margin": 3.0}, {"margin": 4.0, "alpha": 5.0}),
    )


def schedule(**changes) -> Schedule:
    return Schedule(**{"stages": stages(), "total_kimg": 40.0, **changes})


def preset(name: str, resolutions: tuple[int, ...] = ALL, **asked) -> Schedule:
    return from_preset(schedule_called(name), resolutions, Request(**asked))


def starts(plan: Schedule) -> list[Moment]:
    """The first moment of each stage."""
    return [plan.at(plan.start_of(i)) for i in range(len(plan.stages))]


# --- stages


@pytest.mark.parametrize("total", [40.0, 12.0], ids=["to the end", "cut short"])
def test_stages_follow_their_lengths_and_settings(total: float) -> None:
    plan = schedule(total_kimg=total)
    first, fading, stable, last = {"margin": 1.0}, {"margin": 2.0}, {}, plan.stages[2].settings
    expected = {
        0: (4, 1.0, 32, 1e-3, first),
        9_999: (4, 1.0, 32, 1e-3, first),
        10_000: (8, 0.0, 16, 2e-3, fading),
        11_000: (8, 0.25, 16, 2e-3, fading),
        13_999: (8, 0.99975, 16, 2e-3, fading),
        14_000: (8, 1.0, 16, 2e-3, stable),
        19_999: (8, 1.0, 16, 2e-3, stable),
        20_000: (16, 0.0, 8, 3e-3, {"margin": 3.0}),
        22_000: (16, 0.5, 8, 3e-3, {"margin": 3.0}),
        24_000: (16, 1.0, 8, 3e-3, last),
        10**12: (16, 1.0, 8, 3e-3, last),
    }
    found = {images: plan.at(images) for images in expected}
    held = ((m.resolution, m.alpha, m.batch_size, m.lr, m.settings) for m in found.values())
    assert dict(zip(expected, held, strict=True)) == expected
    assert [plan.start_of(i) for i in range(3)] == [0, 10_000, 20_000]
    assert plan.resolutions == (4, 8, 16)
    assert plan.total_images == 1000 * total


def test_without_a_fade_a_resolution_and_its_settings_are_there_at_once() -> None:
    plan = schedule(stages=stages(fade=0.0))
    found = [plan.at(images) for images in (9_999, 10_000, 16_000)]
    assert [(m.resolution, m.alpha) for m in found] == [(4, 1.0), (8, 1.0), (16, 1.0)]
    assert [m.settings for m in found] == [stage.settings for stage in plan.stages]


def test_the_past_and_the_holder_of_a_moment_change_nothing() -> None:
    plan = schedule()
    late = plan.at(30_000)
    plan.at(0)
    assert plan.at(30_000) == late == schedule().at(30_000)
    late.settings["margin"] = 7.0
    assert plan.at(30_000).settings == {"margin": 4.0, "alpha": 5.0}


@pytest.mark.parametrize(("total", "late"), [(21.0, ()), (20.0, (16,)), (9.0, (8, 16))])
def test_stages_that_begin_only_after_the_end_are_never_reached(total, late) -> None:
    assert schedule(total_kimg=total).never_reached() == late


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=4),
    st.integers(1, 120),
)
def test_stages_are_reached_that_a_batch_is_of(shapes, total) -> None:
    sizes = [(4 * 2**i, batch, length) for i, (batch, length) in enumerate(shapes)]
    made = tuple(Stage(px, batch, 1e-3, 0.0, n / 1000) for px, batch, n in sizes)
    plan, seen, trained = Schedule(made, total_kimg=total / 1000), 0, set()
    while seen < plan.total_images:
        trained.add(plan.at(seen).resolution)
        seen += plan.at(seen).batch_size
    assert {*plan.never_reached()} == {*plan.resolutions} - trained


# --- pre-training, progress, milestones


@pytest.mark.parametrize(
    ("anneal", "shares"),
    [
        (0.0, {0: 0.0, 7_999: 0.0, 8_000: 0.0, 16_000: 0.25, 24_000: 0.5, 40_000: 1.0, 10**9: 1.0}),
        (24.0, {0: 0.0, 8_000: 0.0, 12_000: 0.25, 24_000: 1.0, 40_000: 1.0}),
    ],
    ids=["of the run", "of another length"],
)
def test_progress_begins_after_pretraining(anneal, shares) -> None:
    plan = schedule(pretrain_kimg=8.0, anneal_kimg=anneal)  # of 40,000 images
    assert {i: plan.at(i).progress for i in shares} == pytest.approx(shares)
    seen = [plan.at(images).pretraining for images in (0, 7_999, 8_000, 40_000)]
    assert seen == [True, True, False, False]
    assert (schedule().at(0).pretraining, schedule().at(10_000).progress) == (False, 0.25)


def test_each_milestone_multiplies_the_rate_of_its_stage() -> None:
    plan = schedule(milestones_kimg=(5.0, 12.0, 12.0), milestone_factor=0.1)
    rates = {0: 1e-3, 4_999: 1e-3, 5_000: 1e-4, 9_999: 1e-4, 10_000: 2e-4, 11_999: 2e-4}
    rates |= {12_000: 2e-6, 20_000: 3e-6}
    assert {i: plan.at(i).lr for i in rates} == pytest.approx(rates, rel=1e-12)
    assert schedule(milestones_kimg=(5.0,)).at(5_000).lr == 5e-4  # halved unless told otherwise


# --- any schedule


@st.composite
def schedules(draw) -> Schedule:
    first = draw(st.integers(0, len(ALL) - 1))
    resolutions = ALL[first : draw(st.integers(first + 1, len(ALL)))]
    kimg = st.floats(0.001, 5000, allow_nan=False)
    total = draw(kimg)
    return Schedule(
        stages=tuple(
            Stage(
                resolution=resolution,
                batch_size=draw(st.integers(1, 512)),
                lr=draw(st.floats(1e-6, 1e-1)),
                fade_kimg=draw(kimg) if index else 0.0,
                stable_kimg=draw(kimg),
                fading={"phase": 2 * index - 1},
                settings={"phase": 2 * index},
            )
            for index, resolution in enumerate(resolutions)
        ),
        total_kimg=total,
        pretrain_kimg=total * draw(st.floats(0, 0.999)),
        anneal_kimg=draw(st.one_of(st.just(0.0), kimg)),
        milestones_kimg=tuple(draw(st.lists(kimg, max_size=3))),
    )


@settings(derandomize=True, deadline=None)
@given(plan=schedules(), images=st.lists(st.integers(0, 10**8), min_size=2, max_size=20))
def test_alpha_is_a_share_and_time_goes_forward(plan: Schedule, images: list[int]) -> None:
    first = [plan.start_of(i) for i in range(len(plan.stages))]
    assert [plan.at(start).resolution for start in first] == [*plan.resolutions]
    assert [plan.at(start - 1).resolution for start in first[1:]] == [*plan.resolutions[:-1]]
    around = {start + offset for start in first for offset in (0, 1)}
    moments = [plan.at(seen) for seen in sorted({*images, *around})]
    for moment in moments:
        index = plan.resolutions.index(moment.resolution)
        stage = plan.stages[index]
        assert 0.0 <= moment.alpha <= 1.0
        assert moment.batch_size == stage.batch_size
        assert 0.125 * stage.lr <= moment.lr <= stage.lr
        assert moment.settings["phase"] == 2 * index - (moment.alpha < 1)
        assert 0.0 <= moment.progress <= 1.0
        assert not (moment.pretraining and moment.progress > 0)
    for before, after in pairwise(moments):
        assert (after.resolution, after.alpha) >= (before.resolution, before.alpha)
        assert after.settings["phase"] >= before.settings["phase"]
        assert after.progress >= before.progress
        assert after.pretraining <= before.pretraining
    assert moments[-1].resolution == plan.resolutions[-1]


# --- the papers'

# Batch sizes and learning rates at 4, 8, ... 1024 px, before milestones.
PAPERS = {
    # Batches of one GPU, but its 1 at 1024 px, which makes the KL infinite, is 2 here.
    "pioneer": ([128, 128, 128, 64, 32, 16, 8, 4, 2], [1e-3] * 9),
    "pggan": ([128, 128, 128, 64, 32, 16, 8, 4, 4], [1e-3] * 8 + [1.5e-3]),
    # Its table: 5e-4 for 4 to 32 px; batches of 32 at 128 and 256 px.
    "balanced_pioneer": ([128, 128, 128, 64, 32, 32, 32, 4, 2], [5e-4] * 4 + [1e-3] * 5),
    "introvae": ([64] * 6 + [32, 12, 8], [2e-4] * 9),
    "introvac": ([64] * 6 + [32, 12, 8], [2e-4] * 9),
}


@pytest.mark.parametrize("name", PAPERS)
def test_batches_and_rates_are_the_papers(name: str) -> None:
    preset = dataclasses.replace(schedule_called(name), milestones=())
    moments = starts(from_preset(preset, ALL))
    assert ([m.batch_size for m in moments], [m.lr for m in moments]) == PAPERS[name]


def test_pioneers_code_is_its_paper_but_for_lambda_x_and_the_averages() -> None:
    code, paper = preset("pioneer_code"), preset("pioneer")
    assert {str(stage.settings) for stage in code.stages} == {"{'lambda_x': 15.0}"}
    assert not any(stage.fading for stage in code.stages)
    assert code.ema_decay == 0.999
    stages = tuple(dataclasses.replace(stage, settings={}) for stage in code.stages)
    assert dataclasses.replace(code, stages=stages, ema_decay=None) == paper


def test_a_half_life_that_is_asked_for_goes_before_the_schedules_averages() -> None:
    assert preset("pioneer_code", ema_kimg=10.0).ema_decay is None


@pytest.mark.parametrize(
    ("name", "first", "half"),
    [
        ("pioneer", 2_400_000, 1_200_000),
        ("balanced_pioneer", 2_400_000, 1_200_000),
        ("pggan", 600_000, 600_000),
    ],
)
def test_pioneer_and_pggan_fade_over_the_first_half_of_a_stage(name, first, half) -> None:
    plan = preset(name)
    assert [plan.at(images).alpha for images in (0, 1, half // 2, first - 1)] == [1.0] * 4
    for index in range(1, len(ALL)):
        start = first + 2 * half * (index - 1)
        assert plan.start_of(index) == start
        assert (plan.at(start - 1).resolution, plan.at(start - 1).alpha) == (ALL[index - 1], 1.0)
        for share in (0.0, 0.1, 0.25, 0.5, 0.999, 1.0, 1.5, 1.999):
            moment = plan.at(start + round(share * half))
            assert moment.resolution == ALL[index]
            assert moment.alpha == pytest.approx(min(share, 1.0), abs=1e-9)
        assert plan.at(start + half - 1).alpha < 1
        assert plan.at(start + half).alpha == 1.0
    assert plan.total_images == first + 8 * 2 * half
    assert preset(name, (4, 8, 16)).total_images == first + 2 * 2 * half


def test_one_epoch_of_introvaes_200_is_pretraining() -> None:
    plan = preset("introvae", (256,))
    assert plan.total_images == 200 * 29_000
    assert plan.at(28_999).pretraining
    assert not plan.at(29_000).pretraining
    assert plan.at(plan.total_images - 1).lr == 2e-4


def test_introvacs_rate_is_halved_after_60_90_and_120_of_150_epochs() -> None:
    plan, epoch = preset("introvac", (128,)), 30_000
    assert plan.total_images == 150 * epoch
    for milestone, rate in ((60, 1e-4), (90, 5e-5), (120, 2.5e-5)):
        assert plan.at(milestone * epoch - 1).lr == pytest.approx(2 * rate)
        assert plan.at(milestone * epoch).lr == pytest.approx(rate)
    assert not plan.at(0).pretraining


# --- what a user puts in place of a preset's values


def test_the_users_values_replace_the_presets() -> None:
    plan = preset("pioneer", (4, 8), kimg_per_stage=20.0, batch=6, lr=5e-4, total_kimg=33.0)
    assert plan.at(19_999).resolution == 4
    expected = Moment(resolution=8, alpha=0.0, batch_size=6, lr=5e-4, progress=20 / 33)
    assert plan.at(20_000) == expected
    assert plan.at(25_000).alpha == pytest.approx(0.5)
    assert plan.at(0).batch_size == 6
    assert plan.total_images == 33_000


@pytest.mark.parametrize("total", [10.0, 3.0])
def test_pretraining_and_milestones_are_shares_of_a_shorter_run(total: float) -> None:
    assert preset("introvae", (64,), total_kimg=total).pretrain_kimg == total / 200
    milestones = preset("introvac", (64,), total_kimg=total).milestones_kimg
    assert milestones == pytest.approx((0.4 * total, 0.6 * total, 0.8 * total))


def test_the_users_pretraining_and_milestones_replace_the_presets() -> None:
    plan = preset("introvae", (4, 8), pretrain_kimg=1.5, lr_milestones=(2.0,), lr=1e-3)
    assert [plan.at(images).pretraining for images in (0, 1499, 1500)] == [True, True, False]
    assert [plan.at(images).lr for images in (1999, 2000)] == [1e-3, 5e-4]
    assert not preset("introvae", (4, 8), pretrain_kimg=0.0).at(0).pretraining


@pytest.mark.parametrize(("resolutions", "batches"), [((32,), [64]), ((16, 32), [128, 64])])
def test_a_run_may_have_one_stage_or_start_above_4_px(resolutions, batches) -> None:
    plan = preset("pioneer", resolutions)
    found = [(m.resolution, m.alpha, m.batch_size) for m in starts(plan)]
    assert found == [*zip(resolutions, (1.0, 0.0), batches, strict=False)]
    assert plan.at(10**9).resolution == 32


def test_what_a_run_changes_as_it_goes_on_leaves_lengths_and_settings() -> None:
    asked = Request(batch=2, lr=1.0, total_kimg=50.0, pretrain_kimg=3.0, lr_milestones=(7.0,))
    expected = tuple(dataclasses.replace(stage, batch_size=2, lr=1.0) for stage in stages())
    whole = {"total_kimg": 50.0, "pretrain_kimg": 3.0, "milestones_kimg": (7.0,)}
    assert schedule().changed(asked) == schedule(stages=expected, **whole)
    assert schedule().changed(Request(kimg_per_stage=1.0, seed=3)) == schedule()


def test_a_batch_and_a_rate_may_be_of_some_stages_alone() -> None:
    first, *others = stages()
    asked = Request(batch={first.resolution: 3}, lr={first.resolution: 0.5})
    changed = schedule().changed(asked).stages
    assert changed == (dataclasses.replace(first, batch_size=3, lr=0.5), *others)
    with pytest.raises(InputError, match=r"^--batch at 1024 px: the run's resolutions are 4, 8"):
        schedule().changed(Request(batch={1024: 3}))


def test_a_preset_at_another_rate_has_it_in_every_stage() -> None:
    kept = schedule_called("pggan")
    other = kept.at_rate(0.5)
    assert [m.lr for m in starts(from_preset(other, ALL))] == [0.5] * 9
    assert other == SchedulePreset(**{**vars(kept), "learning_rates": other.learning_rates})


def test_the_schedule_of_no_paper_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"--schedule pionee: unknown.*'pioneer'"):
        schedule_called("pionee")


# --- bad input

_NOT_A_LENGTH = (math.nan, math.inf, -1.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(("batch_size", value, f"batch size is {value}: use 1 or more") for value in (0, -1)),
        *(("lr", value, "learning rate") for value in (*_NOT_A_LENGTH, 0.0)),
        *(("fade_kimg", value, "fade_kimg") for value in _NOT_A_LENGTH),
        *(("stable_kimg", value, "stable_kimg") for value in _NOT_A_LENGTH),
    ],
)
def test_a_stage_refuses(name, value, message) -> None:
    with pytest.raises(InputError, match=message):
        Stage(**{"resolution": 8, "batch_size": 16, "lr": 1e-3, name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(("total_kimg", value, "total_kimg is") for value in (*_NOT_A_LENGTH, 0.0)),
        *(("pretrain_kimg", value, "pretrain_kimg is") for value in _NOT_A_LENGTH),
        *(("pretrain_kimg", value, "not below the 40 kimg .*use less") for value in (40.0, 100.0)),
        *(("anneal_kimg", value, "anneal_kimg is") for value in _NOT_A_LENGTH),
        *(("milestones_kimg", (1.0, value), "milestones") for value in (*_NOT_A_LENGTH, 0.0)),
        *(("ema_decay", value, "ema_decay is") for value in (1.0, *_NOT_A_LENGTH)),
        *(("milestone_factor", value, "milestone_factor") for value in (0.0, 1.5, math.nan)),
        ("stages", (), "resolutions"),
        ("stages", stages()[::2], r"resolutions \(4, 16\) must each be twice"),
        ("stages", stages()[::-1], "twice the one before"),
        ("stages", stages()[:1] * 2, "twice the one before"),
        ("stages", stages()[1:], "the first stage has nothing to fade from"),
    ],
)
def test_a_schedule_refuses(name, value, message) -> None:
    with pytest.raises(InputError, match=message):
        schedule(**{name: value})
