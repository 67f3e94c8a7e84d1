"""One iteration: every phase of the objective, each checked before its optimiser moves."""

import dataclasses

import torch
from torch import Tensor

from pgvae.config import Precision
from pgvae.errors import ResourceError
from pgvae.objectives import Context, Objective, Phase
from pgvae.schedule import Stage
from pgvae.training.ema import half_life_decay, update_ema
from pgvae.training.state import TRAINED, TrainState, derive_seed
from pgvae.types import Batch

MAX_SKIPS = 3


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
    state: TrainState, objective: Objective, stage: Stage, batch: Batch, precision: Precision
) -> dict[str, Tensor]:
    """Run every phase of `objective` on `batch` and move the averages; time moves on.

    -> named scalars for the log, "phase/name", still on the device. An update with a number
    that is not finite is skipped; the third iteration in a row with one raises ResourceError.
    """
    device = batch.images.device
    rng = torch.Generator(device).manual_seed(
        derive_seed(state.config.seed, "step", state.images_seen)
    )
    replays = objective.pool and stage.alpha == 1
    context = Context(
        alpha=stage.alpha,
        rng=rng,
        replay=(lambda fakes: state.pool.replay(fakes, rng)) if replays else (lambda fakes: fakes),
        progress=stage.progress,
    )
    if stage.settings:
        objective = dataclasses.replace(objective, **stage.settings)
    scalars: dict[str, Tensor] = {}
    skipped: dict[str, Tensor] = {}  # scalars of the last update that was left out
    for phase in (objective.pretraining,) if stage.pretraining else objective.phases:
        for _ in range(phase.repeats):
            count = state.skipped_steps
            new = _update(state, objective, phase, batch, context, precision)
            skipped = new if state.skipped_steps > count else skipped
            scalars |= new
    _count_skips(state, skipped)
    half_life = 1000 * state.config.ema_kimg
    if state.config.ema_rampup > 0 and state.config.init_from is None:
        half_life = min(half_life, state.config.ema_rampup * state.images_seen)
    update_ema(state.nets.ema, state.nets.generator, half_life_decay(len(batch.images), half_life))
    state.images_seen += len(batch.images)
    return scalars


def _update(
    state: TrainState,
    objective: Objective,
    phase: Phase,
    batch: Batch,
    context: Context,
    precision: Precision,
) -> dict[str, Tensor]:
    """One optimiser step of one phase."""
    for name in TRAINED:
        getattr(state.nets, name).train().requires_grad_(name in phase.trains)
    for name in phase.trains:
        getattr(state.nets, name).power_iteration()
    with autocast(batch.images.device, precision):
        losses = objective.losses(phase.name, state.nets, batch, context)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    optimizers = [state.optimizers[name] for name in phase.trains]
    if _finite(total, optimizers):
        for optimizer in optimizers:
            optimizer.step()
    else:
        state.skipped_steps += 1
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    named = {**losses, **context.reported}
    context.reported.clear()
    return {f"{phase.name}/{name}": value.detach() for name, value in named.items()}


def _finite(total: Tensor, optimizers: list[torch.optim.Adam]) -> bool:
    """Whether the loss and every gradient are finite: one read from the device."""
    gradients = [
        p.grad for o in optimizers for p in o.param_groups[0]["params"] if p.grad is not None
    ]
    norms = torch.stack([total.detach(), *torch._foreach_norm(gradients)])
    return bool(norms.isfinite().all())


def _count_skips(state: TrainState, skipped: dict[str, Tensor]) -> None:
    """Raise ResourceError for the third iteration in a row that left an update out."""
    state.skips_in_a_row = state.skips_in_a_row + 1 if skipped else 0
    if state.skips_in_a_row >= MAX_SKIPS:
        terms = ", ".join(f"{name} {value.item():.4g}" for name, value in skipped.items())
        raise ResourceError(
            f"updates of {MAX_SKIPS} iterations in a row were not finite, the last at "
            f"{state.images_seen:,} images ({terms}): start a new run with --init-from and a "
            "snapshot, and a lower --lr or a larger --batch"
        )
