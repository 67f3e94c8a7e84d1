"""The schedule: a pure function of the images seen, and the papers' presets."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgvae.errors import InputError
from pgvae.schedule import PRESETS, Schedule, Stage, from_preset

ALL = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
GROWN = {"lambda_x": 1.5}


def schedule(**changes) -> Schedule:
    values = {
        "resolutions": (4, 8, 16),
        "batch_sizes": (32, 16, 8),
        "learning_rates": (1e-3, 2e-3, 3e-3),
        "first_kimg": 10.0,
        "fade_kimg": 4.0,
        "stable_kimg": 6.0,
        "total_kimg": 40.0,
        "grown_weights": GROWN,
    }
    return Schedule(**{**values, **changes})


def pioneer(resolutions=ALL, **changes) -> Schedule:
    return from_preset(PRESETS["pioneer"], resolutions, **changes)


# --- PIONEER's stages


@pytest.mark.parametrize("index", range(1, len(ALL)))
def test_pioneer_grows_every_2_4_million_images(index: int) -> None:
    plan, start = pioneer(), 2_400_000 * index
    before, at, after = (plan.at(start + offset) for offset in (-1, 0, 1))
    assert (before.resolution, before.alpha) == (ALL[index - 1], 1.0)
    assert (at.resolution, at.alpha) == (ALL[index], 0.0)
    assert after.resolution == ALL[index]
    assert after.alpha == pytest.approx(1 / 1_200_000, rel=1e-9)
    assert plan.start_of(index) == start


def test_the_first_stage_does_not_fade() -> None:
    for images in (0, 1, 600_000, 2_399_999):
        stage = pioneer().at(images)
        assert (stage.resolution, stage.alpha) == (4, 1.0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.999, 1.0, 1.5, 1.999])
def test_pioneers_alpha_is_linear_over_the_first_half_of_a_stage(share: float) -> None:
    stage = pioneer().at(2 * 2_400_000 + round(share * 1_200_000))
    assert stage.resolution == 16
    assert stage.alpha == pytest.approx(min(share, 1.0), abs=1e-9)


def test_alpha_reaches_1_at_half_the_stage_and_not_before() -> None:
    half = 2_400_000 + 1_200_000
    assert pioneer().at(half - 1).alpha < 1
    assert pioneer().at(half).alpha == 1.0


def test_pioneers_batches_are_those_of_one_gpu_but_never_one_image() -> None:
    """Its batch of 1 at 1024 px makes the KL infinite: 2 here."""
    sizes = [pioneer().at(2_400_000 * i).batch_size for i in range(len(ALL))]
    assert sizes == [128, 128, 128, 64, 32, 16, 8, 4, 2]


def test_pioneers_learning_rate_is_constant() -> None:
    assert {pioneer().at(2_400_000 * i).lr for i in range(len(ALL))} == {1e-3}


def test_pioneer_trains_the_last_resolution_as_long_as_the_others() -> None:
    assert pioneer((4, 8, 16)).total_images == 3 * 2_400_000


# --- PGGAN's


def test_pggan_fades_and_stays_for_600_thousand_images_each() -> None:
    plan = from_preset(PRESETS["pggan"], ALL)
    for index in range(1, len(ALL)):
        start = 600_000 + 1_200_000 * (index - 1)
        assert plan.at(start - 1).resolution == ALL[index - 1]
        assert plan.at(start - 1).alpha == 1.0
        assert (plan.at(start).resolution, plan.at(start).alpha) == (ALL[index], 0.0)
        assert plan.at(start + 300_000).alpha == pytest.approx(0.5)
        assert plan.at(start + 600_000).alpha == 1.0
    assert plan.total_images == 600_000 + 8 * 1_200_000


def test_pggans_batches_and_rates_are_the_papers() -> None:
    plan = from_preset(PRESETS["pggan"], ALL)
    stages = [plan.at(plan.start_of(i)) for i in range(len(ALL))]
    assert [s.batch_size for s in stages] == [128, 128, 128, 64, 32, 16, 8, 4, 4]
    assert [s.lr for s in stages] == [1e-3] * 8 + [1.5e-3]


# --- what a user puts in place of a preset's values


def test_the_users_values_replace_the_presets() -> None:
    plan = pioneer((4, 8), kimg_per_stage=20, batch_size=6, lr=5e-4, total_kimg=33)
    assert plan.at(19_999).resolution == 4
    assert plan.at(20_000) == Stage(resolution=8, alpha=0.0, batch_size=6, lr=5e-4, weights={})
    assert plan.at(25_000).alpha == pytest.approx(0.5)
    assert plan.at(0).batch_size == 6
    assert plan.total_images == 33_000


def test_a_run_without_growth_has_one_stage() -> None:
    plan = pioneer((32,))
    for images in (0, 1, 10_000_000):
        stage = plan.at(images)
        assert (stage.resolution, stage.alpha, stage.batch_size) == (32, 1.0, 64)


def test_growth_may_start_above_4_px() -> None:
    plan = pioneer((16, 32))
    assert (plan.at(0).resolution, plan.at(0).alpha, plan.at(0).batch_size) == (16, 1.0, 128)
    assert (plan.at(2_400_000).resolution, plan.at(2_400_000).batch_size) == (32, 64)


# --- grown weights


def test_grown_weights_hold_once_the_last_resolution_has_faded_in() -> None:
    plan = schedule()  # 16 px from 20,000 images, faded in at 24,000
    assert [dict(plan.at(i).weights) for i in (0, 10_000, 14_000, 19_999, 20_000, 23_999)] == [
        {}
    ] * 6
    assert [dict(plan.at(i).weights) for i in (24_000, 40_000, 10**9)] == [GROWN] * 3


def test_grown_weights_need_growth() -> None:
    single = {"resolutions": (4,), "batch_sizes": (32,), "learning_rates": (1e-3,)}
    for images in (0, 10_000, 40_000):
        assert dict(schedule(**single).at(images).weights) == {}


def test_a_preset_passes_grown_weights_on() -> None:
    plan = pioneer((4, 8), grown_weights=GROWN)
    assert dict(plan.at(2_400_000 + 1_199_999).weights) == {}
    assert dict(plan.at(2_400_000 + 1_200_000).weights) == GROWN


# --- a pure function


def test_stages_follow_the_three_lengths() -> None:
    """10k at 4 px; at 8 px 4k of fade and 6k stable; at 16 px 4k of fade, then on."""
    plan = schedule()
    expected = {
        0: Stage(4, 1.0, 32, 1e-3),
        9_999: Stage(4, 1.0, 32, 1e-3),
        10_000: Stage(8, 0.0, 16, 2e-3),
        11_000: Stage(8, 0.25, 16, 2e-3),
        14_000: Stage(8, 1.0, 16, 2e-3),
        19_999: Stage(8, 1.0, 16, 2e-3),
        20_000: Stage(16, 0.0, 8, 3e-3),
        22_000: Stage(16, 0.5, 8, 3e-3),
    }
    assert {images: plan.at(images) for images in expected} == expected
    assert [plan.start_of(i) for i in range(3)] == [0, 10_000, 20_000]


def test_the_past_and_the_holder_of_a_stage_change_nothing() -> None:
    plan = schedule()
    late = plan.at(30_000)
    plan.at(0)
    assert plan.at(30_000) == late == schedule().at(30_000)
    if isinstance(late.weights, dict):
        late.weights["lambda_x"] = 7.0
    assert dict(plan.at(30_000).weights) == GROWN


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
    return Schedule(
        resolutions=resolutions,
        batch_sizes=tuple(draw(st.integers(2, 512)) for _ in resolutions),
        learning_rates=tuple(draw(st.floats(1e-6, 1e-1)) for _ in resolutions),
        first_kimg=draw(kimg),
        fade_kimg=draw(kimg),
        stable_kimg=draw(kimg),
        total_kimg=draw(kimg),
        grown_weights=GROWN,
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
        assert stage.lr == plan.learning_rates[index]
    for before, after in pairwise(stages):
        assert after.resolution >= before.resolution
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
        {"batch_sizes": (32, 16, 1)},
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
        {"resolutions": (), "batch_sizes": (), "learning_rates": ()},
        {"resolutions": (4, 16, 64)},
        {"resolutions": (16, 8, 4)},
        {"resolutions": (4, 4, 8)},
    ],
    ids=str,
)
def test_a_schedule_refuses(changes) -> None:
    with pytest.raises(InputError):
        schedule(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 1},
        {"lr": math.nan},
        {"lr": 0.0},
        {"total_kimg": 0.0},
        {"total_kimg": math.nan},
        {"total_kimg": math.inf},
        {"kimg_per_stage": math.nan},
        {"kimg_per_stage": -1.0},
    ],
    ids=str,
)
def test_a_preset_refuses(changes) -> None:
    with pytest.raises(InputError):
        pioneer((4, 8), **changes)


def test_the_message_says_what_was_given() -> None:
    with pytest.raises(InputError, match=r"batch.*1.*2 or more"):
        pioneer((4, 8), batch_size=1)
    with pytest.raises(InputError, match="nan"):
        pioneer((4, 8), lr=math.nan)
