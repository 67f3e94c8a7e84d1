"""Lengths and widths by hours: what a run of them takes, what stays as asked, what is refused."""

import dataclasses

import pytest
import torch
from runs import FakeStore

from pgvae.errors import InputError
from pgvae.request import Request
from pgvae.schedule import Schedule, Stage
from pgvae.training import budget, start
from pgvae.training.budget import FITTED, seconds_of, within_hours
from pgvae.training.plan import plan
from pgvae.training.ranks import ALONE, Ranks
from pgvae.training.resume import fitted_before
from pgvae.training.rundir import RunDirectory

ASKED = Request(dataset="faces", objective="rivae", resolution=16, device="cpu")


def cost_of(config, moment, speed: float = 1e-4) -> float:
    """Seconds of an image: by pixels and square of the width, half as much more in a fade."""
    fading = 1.5 if moment.alpha < 1 else 1.0
    return speed * fading * moment.resolution**2 * (config.model.fmap_max / 64) ** 2


@pytest.fixture
def fit(monkeypatch):
    """`within_hours` where images cost `speed`, and nothing is timed."""

    def found(asked: Request, speed: float = 1e-4, store=None, said: list | None = None) -> Request:
        store = store or FakeStore(asked.resolution, labelled=False)
        monkeypatch.setattr(
            budget, "_costs", lambda config, device: lambda moment: cost_of(config, moment, speed)
        )
        return within_hours(asked, store, None, ALONE, (said if said is not None else []).append)

    return found


def test_a_schedule_takes_the_sum_of_its_phases() -> None:
    stages = (Stage(4, 2, 1.0, 0, 3), Stage(8, 2, 1.0, 1, 2), Stage(16, 2, 1.0, 4, 0))
    schedule = Schedule(stages, total_kimg=15)
    seconds = seconds_of(schedule, lambda moment: moment.resolution * (2 - (moment.alpha == 1)))
    assert seconds == [3000 * 4, 1000 * 16 + 2000 * 8, 4000 * 32 + 5000 * 16]


@pytest.mark.parametrize("objective", ["rivae", "pioneer", "introvae", "pggan"])
@pytest.mark.parametrize("hours", [0.2, 3.0])
def test_the_run_that_is_found_takes_the_hours_but_for_what_is_not_training(objective, hours, fit):
    asked = dataclasses.replace(ASKED, objective=objective, hours=hours, grow=True)
    config = plan(fit(asked), FakeStore(16, labelled=False))
    seconds = sum(seconds_of(config.schedule, lambda moment: cost_of(config, moment)))
    assert seconds == pytest.approx(hours * 3420 - 20, rel=0.01)


def test_the_last_stage_has_twice_the_images_and_the_batch_of_a_cpu_is_small(fit):
    config = plan(fit(dataclasses.replace(ASKED, objective="pioneer", hours=1.0)), FakeStore())
    lengths = [stage.fade_kimg + stage.stable_kimg for stage in config.schedule.stages]
    assert lengths == [lengths[0]] * 3
    assert config.schedule.total_kimg == pytest.approx(4 * lengths[0], rel=1e-5)
    assert {stage.batch_size for stage in config.schedule.stages} == {16}


@pytest.mark.parametrize(
    ("speed", "width"),
    [(1e-2, 64), (6.4e-5, 64), (6.1e-5, 128), (1.6e-5, 128), (1.5e-5, 256), (1e-9, 512)],
)
def test_networks_are_the_widest_with_enough_images(speed, width, fit, monkeypatch):
    monkeypatch.setattr(budget, "_fits_into_memory", lambda *_: True)
    # A stage of 1,000 images at 16 px, and all below it, by hand: 16 + 1.25 (64 + 256) + 256.
    cost = 1000 * speed * (16 + 1.25 * (64 + 256) + 256)
    kimg = {w: (3420 - 20) / cost / (w / 64) ** 2 for w in (64, 128, 256, 512)}
    assert width == max(w for w in kimg if w == 64 or kimg[w] >= 20)
    found = fit(dataclasses.replace(ASKED, hours=1.0), speed)
    assert (found.fmap_max, found.fmap_base) == (width, 16 * width)
    assert found.latent_dim == min(width, 256)
    assert found.kimg_per_stage == pytest.approx(kimg[width], rel=0.01)


def test_networks_that_do_not_fit_into_memory_are_not_taken(fit, monkeypatch):
    monkeypatch.setattr(budget, "_fits_into_memory", lambda config, _: config.model.fmap_max < 256)
    assert fit(dataclasses.replace(ASKED, hours=1.0), 1e-9).fmap_max == 128


@pytest.mark.parametrize(("gibibytes", "fits"), [(0.1, False), (64, True)])
def test_the_last_stage_has_a_quarter_of_the_memory_left(gibibytes, fits, monkeypatch):
    """0.33 GiB are Python and PyTorch."""
    pages = {"SC_PHYS_PAGES": int(gibibytes * 2**18), "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", pages.get)
    asked = dataclasses.replace(ASKED, fmap_max=4, latent_dim=8, kimg_per_stage=1.0)
    config = plan(asked, FakeStore(16, labelled=False))
    assert budget._fits_into_memory(config, torch.device("cpu")) == fits


def test_what_was_asked_for_stays(fit):
    asked = dataclasses.replace(
        ASKED, hours=1.0, fmap_max=24, latent_dim=10, batch={8: 32}, lr=0.5, seed=3
    )
    found = fit(asked)
    changed = {n for n in found.asked() if getattr(found, n) != getattr(asked, n)}
    assert changed == {"kimg_per_stage", "total_kimg"}
    assert fit(dataclasses.replace(ASKED, hours=1.0, latent_dim=10)).latent_dim == 10
    assert changed < set(FITTED)


@pytest.mark.parametrize(
    ("speed", "advice"),
    [
        # 835 s for 16 * 2 + 1.25 * 64 + ... pixels of a thousand images, see above.
        (4e-4, "3.11 kimg a stage are few for pictures: --resolution 8 would have about 12"),
        (1e-2, "0.124 kimg a stage are few for pictures: give it more hours"),
    ],
)
def test_of_few_images_one_is_told_and_what_would_have_more(speed, advice, fit):
    said: list[str] = []
    fit(dataclasses.replace(ASKED, hours=0.25), speed, said=said)
    assert said[0].startswith("--hours 0.25 on this machine: --kimg-per-stage ")
    assert said[1:] == [f"warning: {advice}"]


@pytest.mark.parametrize(("hours", "speed"), [(10.0, 1e-4), (0.25, 2e-4)])
def test_of_images_enough_there_is_no_warning(hours, speed, fit):
    said: list[str] = []
    fit(dataclasses.replace(ASKED, hours=hours), speed=speed, said=said)
    assert len(said) == 1, said


@pytest.mark.parametrize("other", ["kimg_per_stage", "total_kimg"])
def test_hours_and_a_length_are_refused_before_anything_is_read(other, tmp_path):
    asked = Request(dataset="nowhere", hours=1.0, outdir=str(tmp_path), **{other: 5.0})
    for begin in (start.train, start.dry_run):
        with pytest.raises(InputError, match=f"--hours and --{other.replace('_', '-')} both say"):
            begin(asked)


def test_several_processes_are_refused(fit):
    ranks = Ranks()
    ranks.count = 2
    with pytest.raises(InputError, match="--hours times one process, and there are 2"):
        within_hours(dataclasses.replace(ASKED, hours=1.0), FakeStore(), None, ranks, print)


def test_the_same_words_find_the_run_again_and_others_do_not(fit, tmp_path):
    store = FakeStore(16, labelled=False)
    asked = dataclasses.replace(ASKED, hours=1.0, resume="newest")
    found = fit(asked)
    RunDirectory.create(tmp_path, plan(found, store), found).close()
    assert fitted_before(tmp_path, asked, store.digest, None) == found
    for other in ({"hours": 2.0}, {"seed": 4}, {"resume": None}, {"mirror": True}):
        again = dataclasses.replace(asked, **other)
        assert fitted_before(tmp_path, again, store.digest, None) is None
    assert fitted_before(tmp_path, asked, "1" * 64, None) is None


def test_a_real_image_costs_time(monkeypatch):
    monkeypatch.setattr(budget, "_TRIAL", 0.0)
    asked = dataclasses.replace(ASKED, fmap_max=4, latent_dim=8, kimg_per_stage=1.0)
    config = plan(asked, FakeStore(16, labelled=False))
    cost = budget._costs(config, torch.device("cpu"))
    for images in (500, 1250, 1750):  # 4 px, 8 px in its fade and after
        assert 0 < cost(config.schedule.at(images)) < 10
