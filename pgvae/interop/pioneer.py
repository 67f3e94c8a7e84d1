"""PIONEER's checkpoints, `NNNNNN_state`, as snapshots that sample and reconstruct the same.

Those of PIONEER (Heljakka et al., 2018) and of Balanced PIONEER (Heljakka et al., 2020). A file
holds the state dicts of encoder, generator and averaged generator with all nine stages, 4 to
1024 px, whatever stage the training had reached; those up to it become part of the snapshot. The
start vectors of the spectral norms are not in it: Balanced PIONEER writes them to `NNNNNN_SNU`
beside it, PIONEER loses them.

Stage i works at 4 * 2^i px in the generator and at 1024 / 2^i px in the encoder, whose
convolutions are always spectrally normalised. A generator's second convolution is number 3 of its
block where a pixel norm follows the first, else number 2:

    progression.i.conv.{0,3}.conv.weight_orig   pixel norm and equalized learning rate
    progression.i.conv.{0,2}.conv.weight_orig   spectral norm, or an equalized learning rate alone
    progression.i.conv.{0,2}.weight             none of them
"""

import copy
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgvae.checks import require
from pgvae.config import ModelConfig
from pgvae.interop.weights import StateDict, load_weights
from pgvae.nn import build_nets
from pgvae.nn.growing import GrowingNet
from pgvae.nn.layers import SpectralWeight
from pgvae.objectives import objective_class, settings_of
from pgvae.snapshot import Snapshot
from pgvae.types import Nets

STAGES = 9
_STATE_DICTS = {
    "encoder": "D_state_dict",
    "generator": "G_state_dict",
    "ema": "G_running_state_dict",
}


class _Naming(NamedTuple):
    """Where the convolutions of a block are: number of the second, names in the state dict."""

    second: int
    weight: str
    bias: str


_NAMINGS = {
    "pixel": _Naming(3, "conv.weight_orig", "conv.bias"),
    "spectral": _Naming(2, "conv.weight_orig", "conv.bias"),
    "none": _Naming(2, "weight", "bias"),
}


def vectors_beside(path: Path) -> Path | None:
    """The file of spectral vectors that belongs to a state file, where it is there."""
    if not path.name.endswith("_state"):
        return None
    beside = path.with_name(f"{path.name.removesuffix('_state')}_SNU")
    return beside if beside.is_file() else None


def read_pioneer(
    path: Path,
    vectors: Path | None = None,
    *,
    last_activation: bool = True,
    dataset: str = "unknown",
) -> Snapshot:
    """A checkpoint of PIONEER or Balanced PIONEER as a snapshot, on the CPU.

    vectors:         its `_SNU` file: the spectral norms are then those of the first forward pass
                     after loading it, one power iteration on; None: they are exact.
    last_activation: whether LeakyReLU follows the encoder's last layer, of which a file says
                     nothing: in PIONEER and in the published models of Balanced PIONEER it does,
                     in the latter's code only where asked for (--e_last_relu).
    dataset:         name of the training data.

    Nothing in a file is ever executed. InputError for a file that is damaged or no such
    checkpoint, and for networks that `ModelConfig` cannot describe.
    """
    checkpoint = load_weights(path)
    require(isinstance(checkpoint, dict), f"{path} is no checkpoint: give a NNNNNN_state file")
    sources = {part: StateDict.of(path, checkpoint, name) for part, name in _STATE_DICTS.items()}
    require(
        "linear.weight" not in sources["encoder"].tensors,
        f"{path} was trained as a GAN, without an encoder: give one trained as an autoencoder",
    )
    phase, alpha, images_seen = _progress(path, checkpoint)
    norm = _generator_norm(sources["ema"], phase)
    config = _config(sources["ema"], norm, last_activation)
    objective = objective_class("pioneer" if norm == "pixel" else "balanced_pioneer")
    resolution = 4 * 2**phase
    return Snapshot(
        nets=_read_nets(config, resolution, alpha < 1, sources, vectors),
        config=config,
        alpha=alpha,
        images_seen=images_seen,
        objective=settings_of(objective()),
        attributes=(),
        dataset=dataset,
        mean_image=torch.zeros(config.channels, resolution, resolution, dtype=torch.float32),
    )


def _progress(path: Path, checkpoint: dict[str, Any]) -> tuple[int, float, int]:
    """Phase (0 for 4 px), alpha (1 where nothing fades in) and images seen."""
    found = [checkpoint.get(name) for name in ("phase", "alpha", "iteration")]
    numbers = all(isinstance(value, int | float) and abs(value) < 2**63 for value in found)
    phase, alpha, images_seen = found
    require(
        numbers and phase in range(STAGES) and images_seen >= 0,
        f"{path} is at phase {phase!s:.20}, alpha {alpha!s:.20}, iteration "
        f"{images_seen!s:.20}: give a checkpoint at a phase from 0 to {STAGES - 1}",
    )
    fades = phase > 0 and 0 <= alpha < 1  # any other alpha means none there
    return int(phase), float(alpha) if fades else 1.0, int(images_seen)


def _generator_norm(generator: StateDict, phase: int) -> str:
    """Which `generator_norm` a generator has; InputError for one that none describes."""

    def has(number: int, name: str) -> bool:
        return f"progression.0.conv.{number}.{name}" in generator.tensors

    norms = [n for n, it in _NAMINGS.items() if has(0, it.weight) and has(it.second, it.weight)]
    plain_with_pixel_norm = has(0, "weight") and has(3, "weight")
    require(
        not plain_with_pixel_norm and not (norms == ["spectral"] and _equalized(generator, phase)),
        f"{generator.path}: its generator has pixel norm or equalized learning rates without the "
        "other; give one with both, with neither, or with spectral norm",
    )
    require(
        len(norms) == 1,
        f"{generator.path}: {generator.name} is no generator of PIONEER: give a NNNNNN_state file",
    )
    return norms[0]


def _equalized(generator: StateDict, phase: int) -> bool:
    """Whether weights called as under spectral norm have an equalized learning rate instead.

    Short of 1024 px the last stage is as it was drawn: from N(0, 1) under an equalized learning
    rate, from He's N(0, 2 / fan_in) under spectral norm. The threshold is their geometric mean.
    """
    name = f"progression.{STAGES - 1}.conv.0.{_NAMINGS['spectral'].weight}"
    if phase == STAGES - 1 or name not in generator.tensors:
        return False
    weight = generator.get(name, 4)
    he = math.sqrt(2 / max(1, math.prod(weight.shape[1:])))
    return weight.square().mean().sqrt().item() > math.sqrt(he)


def _config(generator: StateDict, norm: str, last_activation: bool) -> ModelConfig:
    """PIONEER's networks for the latents of this generator, 512 in the papers."""
    shape = list(generator.get(f"progression.0.conv.0.{_NAMINGS[norm].weight}", 4).shape)
    d = shape[0]
    require(
        d >= 2 and shape == [d, d, 4, 4],
        f"{generator.path}: the first layer of {generator.name} is {shape}, not [d, d, 4, 4]: give "
        "a checkpoint of PIONEER's own networks",
    )
    return ModelConfig(
        resolution=4 * 2 ** (STAGES - 1),
        latent_dim=d,
        fmap_base=16 * d,
        fmap_max=d,
        generator_norm=norm,
        last_activation=last_activation,
    )


def _read_nets(
    config: ModelConfig,
    resolution: int,
    fading: bool,
    sources: dict[str, StateDict],
    vectors: Path | None,
) -> Nets:
    """The networks up to a resolution, with the weights of a file."""
    starts = _read_vectors(vectors, config.generator_norm) if vectors else {}
    with torch.device("meta"):  # no memory for weights that are replaced
        nets = build_nets(config, resolution, fading=fading)
    for part, source in sources.items():
        net, encoder = getattr(nets, part), part == "encoder"
        _set_weights(net, source, config.encoder_norm if encoder else config.generator_norm)
        _set_vectors(net, encoder, starts.get(part), vectors)
        net.to(memory_format=torch.channels_last)
    nets.ema_encoder = copy.deepcopy(nets.encoder).requires_grad_(False)  # the file has none
    return nets


def _stage(side: str, encoder: bool) -> int:
    """The number in a file of the stage of `side` pixels."""
    phase = int(math.log2(int(side))) - 2
    return STAGES - 1 - phase if encoder else phase


def _set_weights(net: GrowingNet, source: StateDict, norm: str) -> None:
    """Fill a network but for its spectral vectors; InputError where a shape is another."""
    encoder, naming = source.name == _STATE_DICTS["encoder"], _NAMINGS[norm]
    state: dict[str, Tensor] = {}
    for side in net.rgb:
        rgb = f"{'from' if encoder else 'to'}_rgb.{_stage(side, encoder)}"
        state |= {
            f"rgb.{side}.{kind}": source.get(f"{rgb}.{kind}", dims)
            for kind, dims in (("weight", 4), ("bias", 1))
        }
    for side in net.blocks:
        for layer, number in (("first", 0), ("second", naming.second)):
            theirs = f"progression.{_stage(side, encoder)}.conv.{number}"
            ours = f"blocks.{side}.{layer}"
            state[f"{ours}_bias"] = source.get(f"{theirs}.{naming.bias}", 1)
            weight = source.get(f"{theirs}.{naming.weight}", 4)
            opens = not encoder and ours == "blocks.4.first"
            state |= _opening(weight, norm) if opens else {f"{ours}.weight": weight}
    for name, tensor in net.state_dict().items():
        found = state.get(name, tensor).shape  # spectral vectors are not there yet
        require(
            found == tensor.shape,
            f"{source.path}: {name} of {source.name} is {list(found)}, not {list(tensor.shape)}: "
            "give a checkpoint of PIONEER's own networks",
        )
    net.load_state_dict(state, strict=False, assign=True)


def _opening(kernel: Tensor, norm: str) -> dict[str, Tensor]:
    """The generator's first layer, by the kernel of a convolution with padding 3 on one pixel.

    Its output pixel (i, j) sees the kernel's (3 - i, 3 - j).
    """
    weight = kernel.flip(2, 3)  # [C, d, 4, 4]
    if norm == "pixel":
        return {"blocks.4.first.weight": weight.transpose(0, 1)}
    if norm == "none":  # `LatentToBase` multiplies the latents by this
        weight = weight / math.sqrt(kernel.shape[1])
    return {"blocks.4.first.kernel.weight": weight}


def _read_vectors(path: Path, generator_norm: str) -> dict[str, list[Tensor]]:
    """The start vectors of each network, two for each of its stages, in the file's order.

    The networks are in the order of their construction: generator and average, where they have
    spectral norms, then the encoder.
    """
    found = load_weights(path)
    parts = ["generator", "ema", "encoder"] if generator_norm == "spectral" else ["encoder"]
    size = 2 * STAGES
    require(
        isinstance(found, list)
        and len(found) == size * len(parts)
        and all(isinstance(u, Tensor) for u in found),
        f"{path} is no list of {size * len(parts)} vectors: give the NNNNNN_SNU file that belongs "
        "to the checkpoint, or move it away",
    )
    return {part: found[i * size : (i + 1) * size] for i, part in enumerate(parts)}


def _set_vectors(
    net: GrowingNet, encoder: bool, starts: list[Tensor] | None, path: Path | None
) -> None:
    """One power iteration of every spectral norm from its start vector, or from the exact one."""
    norms = [module for module in net.modules() if isinstance(module, SpectralWeight)]
    places = [2 * _stage(side, encoder) + i for side in net.blocks for i in range(2)]
    for module, place in zip(norms, places[: len(norms)], strict=True):
        outputs = len(module.weight)
        if starts is None:
            module.u = leading_vector(module.weight.detach())
        else:
            u = starts[place].detach().float().flatten()
            require(
                len(u) == outputs and bool(u.isfinite().all() and u.any()),
                f"{path}: vector {place} of the {'encoder' if encoder else 'generator'} is not of "
                f"{outputs} finite numbers: give the NNNNNN_SNU file of the checkpoint",
            )
            module.u = u
        module.v = torch.zeros(module.weight[0].numel(), dtype=torch.float32)
    net.power_iteration()


def leading_vector(weight: Tensor) -> Tensor:
    """The left singular vector [O] of the largest singular value of a kernel [O, I, K, K]."""
    matrix = weight.flatten(1).double()
    return torch.linalg.eigh(matrix @ matrix.t()).eigenvectors[:, -1].float()
