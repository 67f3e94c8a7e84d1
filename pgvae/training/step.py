"""One iteration: every phase of the objective, each checked before its optimiser moves.

With several processes (`TrainState.ranks`) each calls it with its own part of the batch.

All that changes from one iteration to the next is filled into tensors first (`prepare`); the rest
runs on the device without a look at a number.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from pgvae import tuning
from pgvae.config import Precision
from pgvae.errors import is_out_of_memory
from pgvae.objectives import Context, Objective, Phase
from pgvae.schedule import Moment
from pgvae.training.ema import half_life_decay, update_ema
from pgvae.training.parts import Losses, Work
from pgvae.training.pool import ImagePool
from pgvae.training.state import TrainState
from pgvae.types import Batch


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast that a resolved precision means: on for "bf16" alone."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """What "auto" means on a device: bf16 on CUDA GPUs that have it, else tf32; fp32 elsewhere."""
    if precision == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "tf32"
    return precision


def train_step(
    state: TrainState, objective: Objective, moment: Moment, batch: Batch, precision: Precision
) -> dict[str, Tensor]:
    """Run every phase of `objective` on `batch` and move the averages; time moves on.

    -> named scalars for the log, "phase/name", still on the device. An update with a number
    that is not finite is left out and counted (`state.skips`). Where memory runs out, the update
    starts over with half as many images at a time (`state.batch_gpu`), the batch being the same.
    """
    context = prepare(state, objective, moment, batch)
    scalars = iterate(state, objective, moment, batch, context, precision)
    state.images_seen += len(batch.images) * state.ranks.count
    return scalars


def iterate(
    state: TrainState,
    objective: Objective,
    moment: Moment,
    batch: Batch,
    context: Context,
    precision: Precision,
) -> dict[str, Tensor]:
    """What the device does in an iteration, after `prepare`; no number comes back from it."""
    if moment.settings:
        objective = dataclasses.replace(objective, **moment.settings)
    pool = state.pool if _replays(objective, moment) else None
    scalars: dict[str, Tensor] = {}
    for phase in (objective.pretraining,) if moment.pretraining else objective.iteration:
        for _ in range(phase.repeats):
            scalars |= _update(state, objective, phase, batch, context, precision, pool)
    state.skips.end_iteration()
    parts = state.nets.parts()
    for name, followed in state.nets.averages().items():
        update_ema(parts[name], parts[followed], state.dials.ema_share)
    return scalars


def prepare(state: TrainState, objective: Objective, moment: Moment, batch: Batch) -> Context:
    """Fill in what this iteration has otherwise than the last one, and draw its random numbers."""
    half_life = 1000 * state.config.ema_kimg
    if state.config.ema_rampup > 0 and state.config.init_from is None:
        half_life = min(half_life, state.config.ema_rampup * state.images_seen)
    count, device = len(batch.images) * state.ranks.count, batch.images.device
    decay = state.config.schedule.ema_decay
    share = 1 - (half_life_decay(count, half_life) if decay is None else decay)
    state.dials.set(moment, share, state.augment)
    state.rng.manual_seed(state.seed_of("step"))
    if _replays(objective, moment):
        state.pool.draw(count, moment.resolution, state.seed_of("pool"), device)
    return Context(
        alpha=state.dials.alpha,
        noise=lambda shape: torch.randn(shape, generator=state.rng, device=device),
        progress=state.dials.progress,
        augment=state.dials.augment if state.augment else None,
    )


def _replays(objective: Objective, moment: Moment) -> bool:
    """Whether the encoder is shown earlier fakes."""
    return objective.pool and moment.alpha == 1 and not moment.pretraining


def _update(
    state: TrainState,
    objective: Objective,
    phase: Phase,
    batch: Batch,
    context: Context,
    precision: Precision,
    pool: ImagePool | None,
) -> Losses:
    """One optimiser step of one phase."""
    nets = state.nets.trained()
    for name, net in nets.items():
        net.requires_grad_(name in phase.trains)
    for name in phase.trains:
        nets[name].power_iteration()

    def losses_of(rows: slice, context: Context) -> Losses:
        with autocast(batch.images.device, precision):
            return objective.losses(phase.name, state.nets, batch.rows(rows), context)

    optimizers = [state.optimizers[name] for name in phase.trains]
    together = state.config.model.images_together
    work = Work(context, state.ranks, len(batch.images), pool.replay if pool else None, together)
    losses = _with_memory(state, work, losses_of, optimizers, len(batch.images))
    state.pool.settle()
    total = torch.stack(list(losses.values())).sum().detach()
    gradients = _gradients(optimizers)
    state.ranks.add_([total, *gradients])  # what is not finite in one process is so in all
    bad = ~_finite(total, gradients)
    for optimizer in optimizers:
        optimizer.found_inf = bad.float()  # 1: the step is left out
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    named = {**losses, **context.reported}
    context.reported.clear()
    scalars = {f"{phase.name}/{name}": value.detach() for name, value in named.items()}
    state.skips.note(bad, scalars)
    return scalars


def _with_memory(
    state: TrainState,
    work: Work,
    losses_of: Callable[[slice, Context], Losses],
    optimizers: list[torch.optim.Adam],
    images: int,
) -> Losses:
    """The work, with fewer images at a time where memory runs out, down to as few as may be."""
    while True:
        at_once = min(state.batch_gpu or images, images)
        try:
            return work.run(at_once, losses_of)
        except (RuntimeError, MemoryError) as error:
            whole = state.config.model.has_batch_norm or state.ranks.count > 1
            least = state.config.model.images_together
            if at_once <= least or whole or not is_out_of_memory(error):
                raise
        for optimizer in optimizers:  # with no error held, whose frames hold what filled memory
            optimizer.zero_grad(set_to_none=True)
        tuning.return_large_blocks()  # memory is short: none is kept for later any more
        state.batch_gpu = -(-at_once // 2)


def _gradients(optimizers: list[torch.optim.Adam]) -> list[Tensor]:
    """Those that there are, of all that the optimisers move."""
    parameters = [p for o in optimizers for p in o.param_groups[0]["params"]]
    return [p.grad for p in parameters if p.grad is not None]


def _finite(total: Tensor, gradients: list[Tensor]) -> Tensor:
    """Whether the loss and every gradient are finite: [] bool, on the device."""
    norms = torch.stack([total, *torch._foreach_norm(gradients)])
    return norms.isfinite().all()
