"""A run that fits into a time: how long its stages and how wide its networks are, by trial.

What an image costs at each stage is measured, so the same words make another run on another
machine. A run directory keeps what was found as if it had been asked for.
"""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable

import torch

from pgvae.checks import require
from pgvae.config import RunConfig
from pgvae.data import Store
from pgvae.inference import pick_device
from pgvae.objectives import objective_from
from pgvae.request import Request
from pgvae.schedule import Moment, Schedule
from pgvae.sizes import size_at
from pgvae.training.describe import memory_of
from pgvae.training.plan import Initial, plan
from pgvae.training.ranks import Ranks
from pgvae.training.state import TrainState
from pgvae.training.step import resolve_precision, train_step
from pgvae.types import Batch
from pgvae.values import option, spelled

FITTED = ("batch", "fmap_base", "fmap_max", "latent_dim", "kimg_per_stage", "total_kimg")
_WIDTHS = (64, 128, 256, 512)
# Thousands of images a stage that wider networks are taken with, and with which the narrowest ones
# show faces. By benchmarks/results/quality.md: 128 maps with 8 are no better than 64 with 30, and
# 64 with 6 show faces.
_ENOUGH, _FEW = 20.0, 5.0
_BATCH_ON_A_CPU = 16  # more images at once give fewer updates, and no more images a second
_UNIT = 1000.0  # thousands of images a stage, of the plan that is timed
_TRIAL = 1.0  # seconds of iterations of one kind, the later half of which is timed

Say = Callable[[str], None]


def within_hours(
    request: Request, store: Store, start: Initial | None, ranks: Ranks, say: Say
) -> Request:
    """The request with what its `hours` decide in place: those of `FITTED` that are left open.

    Every stage has the same number of images, the last one twice as many. Networks are the widest
    that have `_ENOUGH` of them and fit into memory. Says what was found.
    Raises InputError with several processes, and as `plan`.
    """
    assert request.hours is not None
    require(
        ranks.count == 1,
        f"--hours times one process, and there are {ranks.count}: give --kimg-per-stage",
    )
    device = pick_device(request.device or "auto")
    end = time.monotonic() + _training_seconds(request.hours)
    is_open = request.fmap_max is None and request.fmap_base is None and start is None
    found, kimg, less = request, 0.0, ""
    for width in _WIDTHS if is_open else (None,):
        asked = _unit_plan(request, width, store, start, device)
        config = plan(asked, store, start)
        if kimg and not _fits_into_memory(config, device):
            break
        seconds = seconds_of(config.schedule, _costs(config, device))
        left = max(1.0, end - time.monotonic())
        tried = _UNIT * left / sum(seconds)
        if kimg and tried < _ENOUGH:
            break
        found, kimg = _scaled(asked, tried), tried
        if kimg < 2 * _ENOUGH:  # a wider one would have less than half
            less = _less(config.schedule, seconds, left)
            break
    words = [f"{option(name)} {spelled(value)}" for name, value in found.given(*FITTED).items()]
    say(f"{option('hours')} {spelled(request.hours)} on this machine: {' '.join(words)}")
    if kimg < _FEW:
        say(f"warning: {kimg:.3g} kimg a stage are few for pictures: {less}")
    return found


def _less(schedule: Schedule, seconds: list[float], left: float) -> str:
    """What to do where images are few: the highest resolution that has enough, or more time."""
    for index in reversed(range(1, len(seconds) - 1)):
        kimg = _UNIT * left / (sum(seconds[:index]) + 2 * seconds[index])
        if kimg > _FEW:
            return f"--resolution {schedule.resolutions[index]} would have about {kimg:.2g}"
    return "give it more hours"


def check_hours(request: Request) -> None:
    """Raise InputError where lengths are asked for beside `hours`."""
    for name in ("kimg_per_stage", "total_kimg") if request.hours is not None else ():
        require(
            getattr(request, name) is None,
            f"{option('hours')} and {option(name)} both say how long it takes: leave one out",
        )


def seconds_of(schedule: Schedule, cost: Callable[[Moment], float]) -> list[float]:
    """What each stage of a schedule takes; cost: seconds of one image at a moment.

    That in the middle of a fade, or of the stable phase, stands for all of it.
    """
    found = []
    for index, stage in enumerate(schedule.stages):
        begin = schedule.start_of(index)
        is_last = stage is schedule.stages[-1]
        end = schedule.total_images if is_last else schedule.start_of(index + 1)
        faded = begin + round(1000 * stage.fade_kimg)
        phases = [(first, last) for first, last in ((begin, faded), (faded, end)) if last > first]
        found.append(sum((b - a) * cost(schedule.at((a + b) // 2)) for a, b in phases))
    return found


def _training_seconds(hours: float) -> float:
    """Without imports, checkpoints, pictures and figures."""
    return max(hours * 1800, hours * 3420 - 20)


def _unit_plan(
    request: Request, width: int | None, store: Store, start: Initial | None, device: torch.device
) -> Request:
    """The request at a width, with stages of `_UNIT` and the last one once more."""
    asked = dataclasses.replace(request, kimg_per_stage=_UNIT)
    config = plan(asked, store, start)
    if width is not None:
        latents = min(config.model.latent_dim, width)
        asked = dataclasses.replace(
            asked,
            fmap_max=width,
            fmap_base=16 * width,
            latent_dim=request.latent_dim or latents,
        )
    large = any(stage.batch_size > _BATCH_ON_A_CPU for stage in config.schedule.stages)
    if request.batch is None and large and device.type == "cpu":
        asked = dataclasses.replace(asked, batch=_BATCH_ON_A_CPU)
    return dataclasses.replace(asked, total_kimg=config.schedule.total_kimg + _UNIT)


def _scaled(asked: Request, kimg: float) -> Request:
    """Stages of `kimg` in the place of `_UNIT`."""
    kimg = float(f"{kimg:.3g}")
    assert asked.total_kimg is not None
    total = float(f"{asked.total_kimg / _UNIT * kimg:.6g}")
    return dataclasses.replace(asked, kimg_per_stage=kimg, total_kimg=total)


def _costs(config: RunConfig, device: torch.device) -> Callable[[Moment], float]:
    """Seconds of an image at any moment of a run, timed on random images."""
    objective = objective_from(config.objective)
    precision = resolve_precision(config.precision, device)
    labels = len(config.labels.attributes)

    def cost(moment: Moment) -> float:
        fading = moment.alpha < 1
        state = TrainState.create(config, device, moment.resolution, fading=fading)
        size = size_at(config.model.base, moment.resolution)
        shape = (moment.batch_size, config.model.channels, *size)
        rng = torch.Generator().manual_seed(0)
        images = torch.rand(shape, generator=rng).to(device) * 2 - 1
        images = images.contiguous(memory_format=torch.channels_last)
        said = torch.rand((moment.batch_size, labels), generator=rng).round().to(device)
        times: list[float] = []
        while len(times) < 2 or sum(times[1:]) < _TRIAL:
            begun = time.perf_counter()
            train_step(state, objective, moment, Batch(images, said if labels else None), precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begun)
        return statistics.median(times[len(times) // 2 :]) / moment.batch_size  # once it is warm

    return cost


def _fits_into_memory(config: RunConfig, device: torch.device) -> bool:
    """Whether the last stage needs three quarters of the memory at most."""
    if device.type == "cuda":
        room = torch.cuda.mem_get_info(device)[0]
    elif hasattr(os, "sysconf"):
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return True
    last = config.schedule.at(config.schedule.total_images)
    return memory_of(config, last) * 2**30 < 0.75 * room
