"""The generator's running average."""

import torch
from torch import Tensor, nn


def half_life_decay(batch_size: int, half_life: float) -> float:
    """The share of the old average that stays after `batch_size` images: 2^(-batch/half_life)."""
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update_ema(ema: nn.Module, net: nn.Module, share: Tensor) -> None:
    """ema <- (1 - share) * ema + share * net, over all parameters; buffers are copied.

    share: a scalar on the networks' device.
    """
    averages = list(ema.parameters())
    torch._foreach_lerp_(averages, list(net.parameters()), [share] * len(averages))
    for mine, theirs in zip(ema.buffers(), net.buffers(), strict=True):
        mine.copy_(theirs)


@torch.no_grad()
def copy_new_layers(ema: nn.Module, net: nn.Module, old_names: set[str]) -> None:
    """After growth: layers that were not in `old_names` start equal to the network's."""
    weights = dict(net.named_parameters())
    for name, parameter in ema.named_parameters():
        if name not in old_names:
            parameter.copy_(weights[name])
