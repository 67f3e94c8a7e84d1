"""CUDA graphs without a GPU: what an iteration does is recorded, operation by operation, and done
again on the same tensors. Also what would not go into a graph, or not come out of it right."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"}
TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def place_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Recorder(TorchDispatchMode):
    """What was done, and what of it reads a number, or draws one from a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple] = []
        self.reads: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        results = op(*args, **kwargs)
        if TAGS & set(op.tags):
            self.reads.append(str(op))
        if any(isinstance(leaf, torch.Generator) for leaf in tree_leaves((args, kwargs))):
            self.reads.append(f"{op} draws")
        self.done.append((op, args, kwargs, tensors_in(results)))
        return results

    @torch.no_grad()
    def again(self) -> None:
        """Do it all once more; results go where they went."""
        for op, args, kwargs, results in self.done:
            fresh = tensors_in(op(*args, **kwargs))
            for old, new in zip(results, fresh, strict=True):
                if place_of(new) != place_of(old):
                    old.copy_(new)


class Spy(TorchFunctionMode):
    """Calls that would bring numbers to the host, or from there, on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args=(), kwargs=None) -> Any:
        name = getattr(function, "__name__", "")
        made_of_numbers = function is torch.tensor or (
            function is torch.as_tensor and not isinstance(args[0], Tensor)
        )
        if name in READS or made_of_numbers:
            self.calls.append(name)
        return function(*args, **(kwargs or {}))


class FakeCapture:
    """As `CudaCapture`, but that capturing does the work once: that is undone.

    keep: -> all tensors that an iteration changes, which capturing must leave as they were.
    """

    def __init__(self, keep: Callable[[], list[Tensor]]) -> None:
        self._keep = keep
        self.captures = 0

    def warm_up(self, work: Callable[[], dict]) -> dict:
        return work()

    def capture(self, work: Callable[[], dict]) -> tuple[Callable[[], None], dict]:
        self.captures += 1
        with undone(self._keep()), Recorder() as recorder, Spy() as spy:
            results = work()
        reads = recorder.reads + spy.calls
        assert not reads, reads
        return recorder.again, results


@contextmanager
def undone(tensors: list[Tensor]) -> Iterator[None]:
    """Puts back what tensors held."""
    before = [tensor.detach().clone() for tensor in tensors]
    yield
    with torch.no_grad():
        for tensor, values in zip(tensors, before, strict=True):
            tensor.copy_(values)
