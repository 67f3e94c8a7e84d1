"""One iteration: every phase of the objective, each checked before its optimiser moves.

All that changes from one iteration to the next is filled into tensors first (`prepare`); the rest
runs on the device without a look at a number.
"""

import dataclasses

import torch
from torch import Tensor

from pgvae.config import Precision
from pgvae.objectives import Context, Objective, Phase
from pgvae.schedule import Moment
from pgvae.training.ema import half_life_decay, update_ema
from pgvae.training.state import TrainState
from pgvae.types import AVERAGES, Batch


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast that a resolved precision means: on for "bf16" alone."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """What "auto" means on a device: fp32 on CPU, bf16 on GPUs that have it, else tf32."""
    if precision == "auto":
        if device.type == "cpu":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "tf32"
    return precision


def train_step(
    state: TrainState, objective: Objective, moment: Moment, batch: Batch, precision: Precision
) -> dict[str, Tensor]:
    """Run every phase of `objective` on `batch` and move the averages; time moves on.

    -> named scalars for the log, "phase/name", still on the device. An update with a number
    that is not finite is left out and counted (`state.skips`).
    """
    context = prepare(state, objective, moment, batch)
    if moment.settings:
        objective = dataclasses.replace(objective, **moment.settings)
    scalars: dict[str, Tensor] = {}
    for phase in (objective.pretraining,) if moment.pretraining else objective.iteration:
        for _ in range(phase.repeats):
            scalars |= _update(state, objective, phase, batch, context, precision)
    state.skips.end_iteration()
    parts = state.nets.parts()
    for name, followed in AVERAGES.items():
        update_ema(parts[name], parts[followed], state.dials.ema_share)
    state.images_seen += len(batch.images)
    return scalars


def prepare(state: TrainState, objective: Objective, moment: Moment, batch: Batch) -> Context:
    """Fill in what this iteration has otherwise than the last one, and draw its random numbers."""
    half_life = 1000 * state.config.ema_kimg
    if state.config.ema_rampup > 0 and state.config.init_from is None:
        half_life = min(half_life, state.config.ema_rampup * state.images_seen)
    count, device = len(batch.images), batch.images.device
    decay = state.config.schedule.ema_decay
    state.dials.set(moment, 1 - (half_life_decay(count, half_life) if decay is None else decay))
    state.rng.manual_seed(state.seed_of("step"))
    replays = objective.pool and moment.alpha == 1 and not moment.pretraining
    if replays:
        state.pool.draw(count, moment.resolution, state.seed_of("pool"), device)
    return Context(
        alpha=state.dials.alpha,
        noise=lambda shape: torch.randn(shape, generator=state.rng, device=device),
        replay=state.pool.replay if replays else lambda fakes: fakes,
        progress=state.dials.progress,
    )


def _update(
    state: TrainState,
    objective: Objective,
    phase: Phase,
    batch: Batch,
    context: Context,
    precision: Precision,
) -> dict[str, Tensor]:
    """One optimiser step of one phase."""
    nets = state.nets.trained()
    for name, net in nets.items():
        net.requires_grad_(name in phase.trains)
    for name in phase.trains:
        nets[name].power_iteration()
    with autocast(batch.images.device, precision):
        losses = objective.losses(phase.name, state.nets, batch, context)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    optimizers = [state.optimizers[name] for name in phase.trains]
    bad = ~_finite(total, optimizers)
    for optimizer in optimizers:
        optimizer.found_inf = bad.float()  # fused Adam leaves the step out where it is 1
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    named = {**losses, **context.reported}
    context.reported.clear()
    scalars = {f"{phase.name}/{name}": value.detach() for name, value in named.items()}
    state.skips.note(bad, scalars)
    return scalars


def _finite(total: Tensor, optimizers: list[torch.optim.Adam]) -> Tensor:
    """Whether the loss and every gradient are finite: [] bool, on the device."""
    gradients = [
        p.grad for o in optimizers for p in o.param_groups[0]["params"] if p.grad is not None
    ]
    norms = torch.stack([total.detach(), *torch._foreach_norm(gradients)])
    return norms.isfinite().all()
