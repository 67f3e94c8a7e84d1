"""The running averages of generator and encoder."""

import torch
from torch import Tensor, nn

from pgvae.nn.layers import SpectralWeight


def half_life_decay(batch_size: int, half_life: float) -> float:
    """The share of the old average that stays after `batch_size` images: 2^(-batch/half_life)."""
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update_ema(ema: nn.Module, net: nn.Module, share: Tensor) -> None:
    """ema <- (1 - share) * ema + share * net, over all parameters.

    Buffers are copied, but for the singular vectors of a spectral norm: those follow the averaged
    weight, by one power iteration. share: a scalar on the networks' device.
    """
    averages = list(ema.parameters())
    torch._foreach_lerp_(averages, list(net.parameters()), [share] * len(averages))
    for mine, theirs in zip(ema.modules(), net.modules(), strict=True):
        if isinstance(mine, SpectralWeight):
            mine.iterate()
            continue
        buffers = (module.buffers(recurse=False) for module in (mine, theirs))
        for old, new in zip(*buffers, strict=True):
            old.copy_(new)


@torch.no_grad()
def copy_new_layers(ema: nn.Module, net: nn.Module, old_names: set[str]) -> None:
    """After growth: tensors that were not in `old_names` start equal to the network's."""
    state = net.state_dict()
    for name, tensor in ema.state_dict().items():
        if name not in old_names:
            tensor.copy_(state[name])
