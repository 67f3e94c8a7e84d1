"""The papers' schedules, and what a user puts in place of their values."""

import math

import pytest

from pgvae.errors import InputError
from pgvae.schedule import PRESETS, Schedule, Stage, from_preset

ALL = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


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


# --- the other papers'


def sizes_and_rates(name: str) -> tuple[list[int], list[float]]:
    plan = from_preset(PRESETS[name], ALL, milestones_kimg=())
    stages = [plan.at(plan.start_of(i)) for i in range(len(ALL))]
    return [s.batch_size for s in stages], [s.lr for s in stages]


def test_balanced_pioneer_halves_the_rate_up_to_32_px() -> None:
    """Its per-stage table: 5e-4 for 4 to 32 px; batches of 32 at 128 and 256 px."""
    sizes, rates = sizes_and_rates("balanced_pioneer")
    assert rates == [5e-4] * 4 + [1e-3] * 5
    assert sizes[5:7] == [32, 32]
    assert min(sizes) >= 2  # of one image the KL is infinite
    assert from_preset(PRESETS["balanced_pioneer"], (4, 8)).total_images == 2 * 2_400_000


def test_introvaes_batches_are_the_papers_and_one_epoch_of_200_is_pretraining() -> None:
    sizes, rates = sizes_and_rates("introvae")
    assert sizes[5:] == [64, 32, 12, 8]  # 128, 256, 512 and 1024 px
    assert rates == [2e-4] * 9
    plan = from_preset(PRESETS["introvae"], (256,))
    assert plan.total_images == 200 * 29_000
    assert plan.at(28_999).pretraining
    assert not plan.at(29_000).pretraining
    assert plan.at(plan.total_images - 1).lr == 2e-4


def test_introvacs_rate_is_halved_after_60_90_and_120_of_150_epochs() -> None:
    plan, epoch = from_preset(PRESETS["introvac"], (128,)), 30_000
    assert plan.total_images == 150 * epoch
    assert plan.at(0).batch_size == 64
    for milestone, rate in ((60, 1e-4), (90, 5e-5), (120, 2.5e-5)):
        assert plan.at(milestone * epoch - 1).lr == pytest.approx(2 * rate)
        assert plan.at(milestone * epoch).lr == pytest.approx(rate)
    assert not plan.at(0).pretraining


@pytest.mark.parametrize("total", [10.0, 3.0])
def test_pretraining_and_milestones_are_shares_of_a_shorter_run(total: float) -> None:
    assert from_preset(PRESETS["introvae"], (64,), total_kimg=total).pretrain_kimg == total / 200
    milestones = from_preset(PRESETS["introvac"], (64,), total_kimg=total).milestones_kimg
    assert milestones == pytest.approx((0.4 * total, 0.6 * total, 0.8 * total))


# --- what a user puts in place of a preset's values


def test_the_users_values_replace_the_presets() -> None:
    plan = pioneer((4, 8), kimg_per_stage=20, batch_size=6, lr=5e-4, total_kimg=33)
    assert plan.at(19_999).resolution == 4
    expected = Stage(resolution=8, alpha=0.0, batch_size=6, lr=5e-4, progress=20 / 33)
    assert plan.at(20_000) == expected
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


def test_the_users_pretraining_and_milestones_replace_the_presets() -> None:
    plan = from_preset(
        PRESETS["introvae"], (4, 8), pretrain_kimg=1.5, milestones_kimg=(2.0,), lr=1e-3
    )
    assert [plan.at(images).pretraining for images in (0, 1499, 1500)] == [True, True, False]
    assert [plan.at(images).lr for images in (1999, 2000)] == [1e-3, 5e-4]
    without = from_preset(PRESETS["introvac"], (4, 8), pretrain_kimg=0.0, milestones_kimg=())
    assert not without.at(0).pretraining
    assert without.at(10**9).lr == 2e-4


def test_a_preset_passes_settings_on() -> None:
    plan = pioneer((4, 8), settings=({}, {}, {"lambda_x": 15.0}))
    assert dict(plan.at(2_400_000 + 1_199_999).settings) == {}
    assert dict(plan.at(2_400_000 + 1_200_000).settings) == {"lambda_x": 15.0}


# --- bad input


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 0},
        {"lr": math.nan},
        {"lr": 0.0},
        {"total_kimg": 0.0},
        {"total_kimg": math.nan},
        {"total_kimg": math.inf},
        {"kimg_per_stage": math.nan},
        {"kimg_per_stage": -1.0},
        {"pretrain_kimg": math.nan},
        {"milestones_kimg": (-1.0,)},
        {"settings": ({},)},
    ],
    ids=str,
)
def test_a_preset_refuses(changes) -> None:
    with pytest.raises(InputError):
        pioneer((4, 8), **changes)


def test_the_message_says_what_was_given() -> None:
    with pytest.raises(InputError, match=r"batch size is 0.*1 or more"):
        pioneer((4, 8), batch_size=0)
    with pytest.raises(InputError, match="nan"):
        pioneer((4, 8), lr=math.nan)
