"""What a run would be: stages, sizes and memory, without running it."""

import torch

from pgvae import tuning
from pgvae.config import ModelConfig, RunConfig
from pgvae.nn import build_nets, parameter_count
from pgvae.schedule import Moment
from pgvae.training.rehearsal import bytes_of_iteration

_PROCESS = 0.32  # GiB of Python and PyTorch, before there is a network
# What glibc's heap, which keeps what is freed (`pgvae.tuning`), holds for each byte that comes and
# goes: 1.3 to 2.3 measured. From `tuning.LARGE_PX` on it gives large blocks back.
_HELD, _HELD_BY_LARGE = 1.8, 1.1

_NETS = {"generator": "G params", "encoder": "E params", "discriminator": "D params"}
_ROW = "{:>5} {:>10} {:>8} {:>6} {:>8}"


def describe(config: RunConfig, batch_gpu: int | None = None, *, recompute: bool = False) -> str:
    """The run's settings and a table of its stages; parameters are those of the stable phase.

    Memory is `memory_of` each stage once it has faded in.
    """
    schedule = config.schedule
    heads = [_NETS[name] for name in _parameters(config.model, 4)]
    row = _ROW + " {:>12}" * len(heads) + " {:>10}"
    head = row.format("px", "from kimg", "fade", "batch", "lr", *heads, "memory")
    lines, never = [*settings_lines(config), head], schedule.never_reached()
    for index, stage in enumerate(schedule.stages):
        start, resolution = schedule.start_of(index) / 1000, stage.resolution
        if resolution in never:
            lines.append(row.format(resolution, "never", *[""] * (4 + len(heads))))
            continue
        last = min(schedule.start_of(index + 1), schedule.total_images) - 1
        memory = memory_of(config, schedule.at(last), batch_gpu, recompute=recompute)
        lines.append(
            row.format(
                resolution,
                f"{start:g}",
                f"{stage.fade_kimg:g}" if index else "-",
                stage.batch_size,
                f"{stage.lr:g}",
                *(f"{count:,}" for count in _parameters(config.model, resolution).values()),
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
        *([f"optimizer {config.optimizer}"] if config.optimizer != "adam" else []),
        *([f"labels {', '.join(config.labels.attributes)}"] if model.classes else []),
    ]
    return [*lines, "; ".join(changes)] if changes else lines


def _parameters(config: ModelConfig, resolution: int) -> dict[str, int]:
    """Of each trained network, in the order of `_NETS`."""
    with torch.device("meta"):
        nets = build_nets(config, resolution).trained()
    return {name: parameter_count(nets[name]) for name in _NETS if name in nets}
