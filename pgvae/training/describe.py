"""What a run would be: stages, sizes and memory, without running it."""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from pgvae.config import ModelConfig, RunConfig
from pgvae.nn import build_nets, parameter_count
from pgvae.objectives import objective_class

_NETS = {"generator": "G params", "encoder": "E params", "discriminator": "D params"}
_ROW = "{:>5} {:>10} {:>8} {:>6} {:>8}"


def describe(config: RunConfig, batch_gpu: int | None = None) -> str:
    """The run's settings and a table of its stages; parameters are those of the stable phase.

    Memory is an estimate: weights, gradients, Adam's moments and the average, and what autograd
    keeps of the largest update in float32 (`Objective.passes`), `batch_gpu` images at a time.
    """
    schedule, passes = config.schedule, objective_class(config.objective["name"]).passes
    heads = [_NETS[name] for name in _trained(config.model, 4)]
    row = _ROW + " {:>12}" * len(heads) + " {:>10}"
    head = row.format("px", "from kimg", "fade", "batch", "lr", *heads, "memory")
    lines = [*settings_lines(config), head]
    for index, stage in enumerate(schedule.stages):
        start, resolution = schedule.start_of(index) / 1000, stage.resolution
        if start >= schedule.total_kimg:
            lines.append(row.format(resolution, "never", *[""] * (4 + len(heads))))
            continue
        nets = _trained(config.model, resolution)
        weights = {name: parameter_count(net) for name, net in nets.items()}
        at_once = min(stage.batch_size, batch_gpu or stage.batch_size)
        times = dict(zip(_NETS, passes, strict=False))
        saved = saved_bytes(config.model, resolution)
        kept = at_once * sum(times[name] * size for name, size in saved.items())
        # A gradient, two moments and, but for a discriminator, an average beside each.
        held = 5 * sum(weights.values()) - weights.get("discriminator", 0)
        bytes_needed = 4 * held + kept
        lines.append(
            row.format(
                resolution,
                f"{start:g}",
                f"{stage.fade_kimg:g}" if index else "-",
                stage.batch_size,
                f"{stage.lr:g}",
                *(f"{count:,}" for count in weights.values()),
                f"{bytes_needed / 2**30:.2f} GiB",
            )
            + "".join(f"  {name} {value}" for name, value in stage.settings.items())
        )
    return "\n".join(lines)


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


def _trained(config: ModelConfig, resolution: int) -> dict[str, torch.nn.Module]:
    """The networks that have an optimiser, in the order of `_NETS`, without memory for weights."""
    with torch.device("meta"):
        nets = build_nets(config, resolution).trained()
    return {name: nets[name] for name in _NETS if name in nets}


def saved_bytes(config: ModelConfig, resolution: int) -> dict[str, int]:
    """Bytes of activations that each trained network keeps for autograd, for one image."""
    nets = _trained(config, resolution)
    # As "meta", without memory, but on a device that has an autocast.
    with FakeTensorMode(allow_non_fake_inputs=True):
        latents = torch.zeros(2, config.latent_dim)
        images = torch.zeros(2, config.channels, resolution, resolution, requires_grad=True)
        pair = (images, 1.0, latents) if config.discriminator == "joint" else (images,)
        inputs = {"generator": (latents,), "encoder": (images,), "discriminator": pair}
        return {name: _kept_by(net, *inputs[name]) for name, net in nets.items()}


def _kept_by(net: torch.nn.Module, *inputs: Tensor | float) -> int:
    """Bytes that a pass of two images keeps for its backward, halved, weights left out."""
    weights = {
        name: torch.empty_strided(w.shape, w.stride(), requires_grad=w.requires_grad)
        for name, w in net.state_dict(keep_vars=True).items()
    }
    ours = {id(weight) for weight in weights.values()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if id(tensor) not in ours and tensor.ndim == 4 and len(tensor) == len(inputs[0]):
            kept[id(tensor)] = tensor.numel() * tensor.element_size()
            alive.append(tensor)
        return tensor

    alive: list[Tensor] = []  # an id is only the tensor's own while the tensor lives
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        functional_call(net, weights, inputs)
    return sum(kept.values()) // len(inputs[0])
