"""`--graphs`: an iteration as one CUDA graph, captured once in a stage and replayed.

A graph repeats the same kernels at the same addresses. So all that one iteration has otherwise
than the last one is filled into tensors that stay where they are, before it: dials and the pool's
swaps by `step.prepare`, images, labels and noise here. What an iteration changes (weights, moments,
averages, pool, counts) it changes in place.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pgvae.config import Precision
from pgvae.objectives import Objective
from pgvae.schedule import Moment
from pgvae.training.state import TrainState
from pgvae.training.step import iterate, prepare, train_step
from pgvae.types import Batch

Scalars = dict[str, Tensor]
Work = Callable[[], Scalars]


class CudaCapture:
    """What captures on a GPU; both run on a stream of its own, which is what graphs need."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, work: Work) -> Scalars:
        """Run it as it is: libraries load, and memory and Adam's moments are made."""
        outside = torch.cuda.current_stream()
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            results = work()
        outside.wait_stream(self._stream)
        return results

    def capture(self, work: Work) -> tuple[Callable[[], None], Scalars]:
        """-> (replay, where its results are after that); nothing has run yet."""
        graph = torch.cuda.CUDAGraph()
        # The loader's thread pins memory meanwhile, which would break a capture of all threads.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            results = work()
        return graph.replay, results


class Tape:
    """The noise of an iteration, in tensors that are drawn anew and stay where they are."""

    def __init__(self, fresh: Callable[[Sequence[int]], Tensor]) -> None:
        self._fresh = fresh
        self._drawn: list[Tensor] = []
        self._next = 0

    def redraw(self, rng: torch.Generator) -> None:
        """Draw what the last iteration asked for once more, in its order."""
        for values in self._drawn:
            values.normal_(generator=rng)  # what `torch.randn` does

    def rewind(self) -> None:
        """The next noise is the first of an iteration."""
        self._next = 0

    def noise(self, shape: Sequence[int]) -> Tensor:
        """As `Context.noise`."""
        if self._next == len(self._drawn):
            self._drawn.append(self._fresh(shape))
        self._next += 1
        return self._drawn[self._next - 1]


class Graphs:
    """Iterations like `train_step`'s: the second one of each kind is captured, and replayed on.

    A kind is a resolution, fading or not, a batch, augmented or not, and settings of the objective;
    the graph of the kind before is let go, with its memory. Where one cannot be captured all go on
    without graphs, and `say` is told.
    """

    def __init__(self, say: Callable[[str], None], capture: Any) -> None:
        self._say, self._capture = say, capture
        self._is_off = False
        self._let_go()

    def step(
        self,
        state: TrainState,
        objective: Objective,
        moment: Moment,
        batch: Batch,
        precision: Precision,
    ) -> Scalars:
        """As `train_step`."""
        if self._is_off:
            return train_step(state, objective, moment, batch, precision)
        context = prepare(state, objective, moment, batch)
        kind = _kind_of(state, moment, batch, precision)
        is_new = kind != self._kind
        if is_new:
            self._let_go()
            self._kind, self._batch = kind, _copy_of(batch)
            self._tape = Tape(context.noise)
        self._tape.redraw(state.rng)
        _fill(self._batch, batch)
        context = dataclasses.replace(context, noise=self._tape.noise)

        def work() -> Scalars:
            self._tape.rewind()
            return iterate(state, objective, moment, self._batch, context, precision)

        if is_new:
            scalars = self._capture.warm_up(work)
        elif self._replay or self._is_captured(state, work):
            self._replay()
            scalars = {name: value.clone() for name, value in self._results.items()}
        else:
            scalars = work()
        state.images_seen += len(batch.images)
        return scalars

    def _is_captured(self, state: TrainState, work: Work) -> bool:
        """Capture an iteration, which does not run; whether that went well, and if not why not."""
        at_once = state.batch_gpu
        try:
            self._replay, self._results = self._capture.capture(work)
            return True
        except RuntimeError as error:
            first = str(error).strip().split("\n")[0]
            self._say(f"no graphs from here on: an iteration cannot be captured ({first[:160]})")
        for optimizer in state.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        state.batch_gpu, self._is_off = at_once, True
        return False

    def _let_go(self) -> None:
        """Of graph, memory and inputs of the kind before."""
        self._kind: tuple | None = None
        self._replay: Callable[[], None] | None = None
        self._results: Scalars = {}
        self._batch: Batch | None = None
        self._tape: Tape | None = None


def graphs_on(device: torch.device, processes: int, say: Callable[[str], None]) -> Graphs | None:
    """Graphs where there can be some; None, and `say` is told why, elsewhere."""
    if device.type == "cuda" and processes == 1:
        return Graphs(say, CudaCapture(device))
    why = "they are of CUDA devices" if device.type != "cuda" else "several processes share the run"
    say(f"no graphs: {why}")
    return None


def _kind_of(state: TrainState, moment: Moment, batch: Batch, precision: Precision) -> tuple:
    """All that decides which operations an iteration is made of, and the sizes of its tensors."""
    return (
        moment.resolution,
        state.nets.generator.fading,
        moment.alpha == 1,
        moment.pretraining,
        state.augment > 0,
        tuple(sorted(moment.settings.items())),
        tuple(batch.images.shape),
        state.batch_gpu,
        precision,
    )


def _copy_of(batch: Batch) -> Batch:
    return Batch(batch.images.clone(), None if batch.labels is None else batch.labels.clone())


def _fill(there: Batch, batch: Batch) -> None:
    there.images.copy_(batch.images)
    if batch.labels is not None:
        there.labels.copy_(batch.labels)
