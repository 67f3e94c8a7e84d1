"""What a run would be: stages, sizes and memory, without running it."""

import torch

from pgvae import tuning
from pgvae.config import RunConfig
from pgvae.nn import build_nets, parameter_count
from pgvae.schedule import Moment
from pgvae.training.rehearsal import bytes_of_iteration

_PROCESS = 0.32  # GiB of Python and PyTorch, before there is a network
# What glibc's heap, which keeps what is freed (`pgvae.tuning`), holds for each byte that comes and
# goes: 1.3 to 2.3 measured. From `tuning.LARGE_PX` on it gives large blocks back.
_HELD, _HELD_BY_LARGE = 1.8, 1.1

_HEAD = ("px", "from kimg", "fade", "batch", "lr", "G params", "E params", "memory")
_ROW = "{:>5} {:>10} {:>8} {:>6} {:>8} {:>12} {:>12} {:>10}"


def describe(config: RunConfig, batch_gpu: int | None = None, *, recompute: bool = False) -> str:
    """The run's settings and a table of its stages; parameters are those of the stable phase.

    Memory is `memory_of` each stage once it has faded in.
    """
    schedule = config.schedule
    lines = [*settings_lines(config), _ROW.format(*_HEAD)]
    for index, stage in enumerate(schedule.stages):
        start, resolution = schedule.start_of(index) / 1000, stage.resolution
        if start >= schedule.total_kimg:
            lines.append(_ROW.format(resolution, "never", *[""] * 6))
            continue
        with torch.device("meta"):
            nets = build_nets(config.model, resolution)
        weights = parameter_count(nets.generator), parameter_count(nets.encoder)
        last = min(schedule.start_of(index + 1), schedule.total_images) - 1
        memory = memory_of(config, schedule.at(last), batch_gpu, recompute=recompute)
        lines.append(
            _ROW.format(
                resolution,
                f"{start:g}",
                f"{stage.fade_kimg:g}" if index else "-",
                stage.batch_size,
                f"{stage.lr:g}",
                f"{weights[0]:,}",
                f"{weights[1]:,}",
                f"{memory:.2f} GiB",
            )
            + "".join(f"  {name} {value}" for name, value in stage.settings.items())
        )
    return "\n".join(lines)


def memory_of(
    config: RunConfig, moment: Moment, batch_gpu: int | None = None, *, recompute: bool = False
) -> float:
    """An estimate of what a process on a CPU has in memory at most, in float32: GiB."""
    stay, pass_by = bytes_of_iteration(config, moment, batch_gpu, recompute=recompute)
    held = _HELD if moment.resolution < tuning.LARGE_PX else _HELD_BY_LARGE
    return _PROCESS + (stay + held * pass_by) / 2**30


def settings_lines(config: RunConfig) -> list[str]:
    """The run, and what the preset and the user chose, in two or three lines."""
    schedule, model = config.schedule, config.model
    weights = [f"{name} {value}" for name, value in config.objective.items() if name != "name"]
    lines = [
        f"{config.dataset}, objective {config.objective['name']}, seed {config.seed}: "
        f"{schedule.total_kimg:g} kimg in {len(schedule.stages)} stages",
        f"{model.arch}, {model.latent_dim} latents ({model.head}), norms {model.encoder_norm} and "
        f"{model.generator_norm}; {', '.join(weights)}",
    ]
    first = "an autoencoder" if model.head == "sphere" else "a VAE"
    changes = [
        *([f"{first} for {schedule.pretrain_kimg:g} kimg"] if schedule.pretrain_kimg else []),
        *(f"lr x {schedule.milestone_factor:g} at {k:g} kimg" for k in schedule.milestones_kimg),
        *([f"labels {', '.join(config.labels.attributes)}"] if model.classes else []),
    ]
    return [*lines, "; ".join(changes)] if changes else lines
