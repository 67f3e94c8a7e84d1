"""The processes that share a run, one for each GPU: torchrun starts them, they are all equal.

Each has its part of every batch and all of the networks, and sees the values of the whole batch
where an objective asks for them (`parts.Work`), so that the sum of their gradients is the gradient
of one process. Rank 0 alone writes files.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pgvae.errors import InputError, Preempted, ResourceError

_TIMEOUT = "600"  # seconds after which a process that does not answer is taken for gone


class Ranks:
    """A process on its own, and what the processes of a group do together.

    index: of this process. count: of all.
    """

    index, count = 0, 1

    def gather(self, values: Tensor) -> Tensor:
        """Values of one shape of every process: [...] -> [count, ...], without a gradient."""
        return values.detach()[None]

    def add_(self, tensors: list[Tensor]) -> None:
        """Put the sums over all processes into these, in one message."""

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether one process or more says yes, for each of some questions."""
        return flags

    def told(self, value: Any) -> Any:
        """What rank 0 says, plain data, whatever the others say."""
        return value

    def meet(self) -> None:
        """Wait for rank 0, which may take its time here: it writes, and it measures."""


ALONE = Ranks()


class Group(Ranks):
    """Processes joined by `torch.distributed`: NCCL between GPUs, gloo between CPUs."""

    def __init__(self, timeout: timedelta) -> None:
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        # What is decided together never waits for a GPU.
        self._deciding = dist.new_group(backend="gloo", timeout=timeout)
        self._store, self._meetings = dist.distributed_c10d._get_default_store(), 0
        self._name = f"pgvae/{self.told(uuid.uuid4().hex)}"  # a process may train more than once

    def gather(self, values: Tensor) -> Tensor:
        mine = values.detach().contiguous()
        everyone = [torch.empty_like(mine) for _ in range(self.count)]
        with _gone():
            dist.all_gather(everyone, mine)
        return torch.stack(everyone)

    def add_(self, tensors: list[Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _gone():
            dist.all_reduce(flat)
        sums = flat.split([tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view(tensor.shape))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        said = torch.tensor(flags, dtype=torch.uint8)
        with _gone():
            dist.all_reduce(said, dist.ReduceOp.MAX, group=self._deciding)
        return tuple(map(bool, said.tolist()))

    def told(self, value: Any) -> Any:
        box = [value]
        with _gone():
            dist.broadcast_object_list(box, group=self._deciding)
        return box[0]

    def meet(self) -> None:
        self._meetings += 1
        key, failed = f"{self._name}/{self._meetings}", f"{self._name}/failed"
        with _gone():
            if self.index == 0:
                self._store.set(key, b"")
            while not self._store.check([key]):
                if self._store.check([failed]):
                    raise RuntimeError("it failed")
                time.sleep(0.05)
        self.any(False)  # rank 0 holds the store, and may end before all have looked

    def fail(self) -> None:
        """Let those that wait for this process know that it will not come."""
        with contextlib.suppress(RuntimeError):
            self._store.set(f"{self._name}/failed", b"")


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """This process among those that torchrun started, or on its own.

    Raises InputError for variables of the environment that say nothing sensible, or a PyTorch
    without the means; ResourceError where the others do not come.
    """
    if not _several():
        yield ALONE
        return
    asked = os.environ.get("PGVAE_TIMEOUT", _TIMEOUT)
    try:
        timeout = timedelta(seconds=float(asked))
    except (ValueError, OverflowError):
        timeout = timedelta(0)
    if timeout <= timedelta(0):
        raise InputError(f"PGVAE_TIMEOUT is {asked!r}: use a number of seconds above 0")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise InputError(
                f"WORLD_SIZE is set, but {name} is not: start with torchrun, or unset it"
            )
    _count("RANK", 0), _count("MASTER_PORT", 0)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_backend_available(backend):
        raise InputError(f"--device {device}: this PyTorch has no {backend} for several processes")
    with _gone():  # decisions time out first, in words; NCCL kills the process
        dist.init_process_group(backend, timeout=2 * timeout if backend == "nccl" else timeout)
        group = Group(timeout)
    together = False
    try:
        yield group
        together = True
    except Preempted:
        together = True
        raise
    finally:
        if not together:
            group.fail()
        if together or backend == "gloo":  # NCCL would wait here for the others
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process, of those that torchrun started on this machine.

    Raises InputError where there are fewer GPUs than processes.
    """
    if device.type != "cuda" or not _several():
        return device
    index, count = _count("LOCAL_RANK", 0), torch.cuda.device_count()
    if index >= count:
        raise InputError(
            f"process {index + 1} of this machine has no GPU of its own: there are {count}; start "
            f"with --nproc-per-node {count} at most"
        )
    return torch.device("cuda", index)


def _several() -> bool:
    return _count("WORLD_SIZE", 1) > 1


def _count(name: str, default: int) -> int:
    """A variable of the environment that is a whole number; InputError where it is none."""
    said = os.environ.get(name, str(default))
    if not (said.isascii() and said.isdecimal()):
        raise InputError(f"{name} is {said!r}, no whole number: start with torchrun, or unset it")
    return int(said)


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    """Turn a broken connection into a ResourceError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise ResourceError(
            f"another process of the run is gone or does not answer ({first[:120]}): go on with "
            "--resume RUN"
        ) from error
