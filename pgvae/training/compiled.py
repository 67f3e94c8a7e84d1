"""`--compile`: the networks through torch.compile, each stage anew, and no silent way back."""

import contextlib
import time
from collections.abc import Callable, Iterator

import torch
import torch._dynamo
from torch._dynamo.utils import counters

from pgvae.errors import ResourceError
from pgvae.types import Nets

_VARIANTS = 64  # of a network: with and without gradients, one batch and two, ...


class Compiler:
    """Compiles the trained networks of a stage whole: a part that cannot be is an error.

    say: told after an iteration that new graphs came with.
    """

    def __init__(self, say: Callable[[str], None], backend: str = "inductor") -> None:
        self._say, self._backend = say, backend
        self._stage: tuple[int, bool] | None = None
        self._graphs = 0
        torch._dynamo.config.recompile_limit = _VARIANTS

    def _enter(self, nets: Nets) -> None:
        """Forget the graphs of the stage before; those of this one are made as they are met."""
        stage = (nets.generator.resolution, nets.generator.fading)
        if stage == self._stage:
            return
        self._stage, self._graphs = stage, 0
        torch._dynamo.reset()
        counters.clear()
        for net in nets.trained().values():
            net.compile(fullgraph=True, dynamic=False, backend=self._backend)

    @contextlib.contextmanager
    def around(self, nets: Nets) -> Iterator[None]:
        """Around an iteration of these networks: says how many graphs were compiled in it.

        Raises ResourceError where one cannot be.
        """
        self._enter(nets)
        before = time.monotonic()
        try:
            yield
        except torch._dynamo.exc.TorchDynamoException as error:
            first = " ".join(str(error).strip().split("\n")[:2])
            raise ResourceError(
                f"--compile: a network cannot be compiled ({first[:160]}): go on with --resume and "
                "--no-compile"
            ) from error
        graphs = counters["stats"]["unique_graphs"]
        if graphs > self._graphs:
            self._say(
                f"compiled {graphs - self._graphs} graphs at {self._stage[0]} px in "
                f"{time.monotonic() - before:.0f} s, the iteration included"
            )
            self._graphs = graphs
