"""An iteration on tensors that have shapes but no numbers: how much memory it would take."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pgvae.config import RunConfig
from pgvae.nn import build_nets
from pgvae.objectives import objective_from
from pgvae.schedule import Moment
from pgvae.sizes import size_at
from pgvae.training.state import TrainState
from pgvae.training.steering import MOST
from pgvae.training.step import train_step
from pgvae.types import Batch, Nets

_CPU = torch.device("cpu")


class Ledger(TorchDispatchMode):
    """Counts the bytes of all tensors that live: `now`, and `peak`, the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self._living: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, op: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        results = op(*args, **(kwargs or {}))
        for value in tree_leaves(results):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return results

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._living:
            return

        def freed(_: weakref.ref) -> None:
            self.now -= size
            del self._living[key]

        self._living[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


def bytes_of_iteration(
    config: RunConfig, moment: Moment, batch_gpu: int | None = None, *, recompute: bool = False
) -> tuple[int, int]:
    """(bytes that stay, the most that come and go beside them) of an iteration at a moment.

    In float32 on a CPU. Weights, averages, the optimisers' moments and the image pool stay;
    gradients, and what each phase keeps for its backward, `batch_gpu` images at a time, go.
    """
    size = size_at(config.model.base, moment.resolution)
    shape = (moment.batch_size, config.model.channels, *size)
    with torch.device("meta"):
        nets = build_nets(config.model, moment.resolution, fading=moment.alpha < 1)
    ledger, unreal = Ledger(), FakeTensorMode(allow_non_fake_inputs=True)
    with unreal, ledger:
        _make_unreal(nets)
    state = TrainState.around(config, nets, _CPU)
    state.batch_gpu, state.augment = batch_gpu, MOST if config.augment else 0.0
    if recompute:
        state.recompute()
    with unreal, ledger:
        _fill_moments(state)
        train_step(state, objective_from(config.objective), moment, _batch(config, shape), "fp32")
    return ledger.now, ledger.peak - ledger.now


def _batch(config: RunConfig, shape: tuple[int, ...]) -> Batch:
    images = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    columns = len(config.labels.attributes)
    return Batch(images, torch.zeros(len(images), columns) if columns else None)


def _make_unreal(nets: Nets) -> None:
    """Put a tensor of the same shape and strides, on a CPU, in the place of each one on "meta"."""
    for net in nets.parts().values():
        for module in net.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[name] = nn.Parameter(_like(weight), weight.requires_grad)
            for name, values in module._buffers.items():
                module._buffers[name] = None if values is None else _like(values)


def _like(values: Tensor) -> Tensor:
    return torch.empty_strided(values.shape, values.stride(), dtype=values.dtype)


def _fill_moments(state: TrainState) -> None:
    """Let the optimisers make their moments, which they do in a first step."""
    for optimizer in state.optimizers.values():
        for weight in optimizer.param_groups[0]["params"]:
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
