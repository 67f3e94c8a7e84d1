"""One update in parts: micro-batches one after the other, processes side by side.

What an objective takes over a batch it takes of `Context.whole` values. With a batch in parts a
first pass, without gradients, notes the values of each part and gathers those of all processes; in
the second one every part sees the whole batch, its own rows with their gradient. The gradients of
all parts and processes then add up to that of the undivided batch ("gradient caching", Gao et al.,
2021), moments, distances and hinges of batches included.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pgvae.objectives import Context
from pgvae.training.ranks import Ranks

Losses = dict[str, Tensor]


def slices_of(count: int, size: int, together: int = 1) -> list[slice]:
    """The fewest parts of at most `size` of `count` images, as equal as can be.

    together: so many in a row are never parted, be they more than `size`.

    >>> slices_of(10, 4)
    [slice(0, 4, None), slice(4, 7, None), slice(7, 10, None)]
    >>> slices_of(10, 3, together=4)
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    groups = -(-count // together)
    parts = -(-groups // max(1, size // together))
    ends = [min(count, together * -(-groups * index // parts)) for index in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


class Work:
    """The images of one update: `images` of them on each process.

    together: so many in a row stay in one part (see `ModelConfig.images_together`).
    replay: (fakes, row of the first in the whole batch) -> those that the encoder is shown.
    """

    def __init__(
        self,
        context: Context,
        ranks: Ranks,
        images: int,
        replay: Callable[[Tensor, int], Tensor] | None = None,
        together: int = 1,
    ) -> None:
        self._together = together
        self._context, self._ranks, self._replay = context, ranks, replay
        self._here, self._total = images, images * ranks.count
        self._noise: list[Tensor] = []  # of the whole batch, in order: the same in whatever parts

    def run(self, size: int, losses_of: Callable[[slice, Context], Losses]) -> Losses:
        """Add the gradients of the losses of this process's images, `size` at a time.

        losses_of: (rows of this process's batch, context) -> losses. -> those of the whole batch.
        """
        parts = slices_of(self._here, size, self._together)
        notes: list[list[Tensor]] = []
        replayed: dict[int, Tensor] = {}
        if len(parts) > 1:
            with torch.no_grad():
                for part in parts:
                    losses_of(part, self._taking_notes(part, notes, replayed))
        whole = [self._of_all(torch.cat(values, dim=1)) for values in notes]
        for part in parts:
            known = whole if len(parts) > 1 else None
            losses = losses_of(part, self._among_all(part, known, replayed))
            torch.stack(list(losses.values())).sum().backward()
        return losses

    def _taking_notes(
        self, part: slice, notes: list[list[Tensor]], replayed: dict[int, Tensor]
    ) -> Context:
        """The context of a part in the first pass; nobody reads its losses."""
        calls = itertools.count()

        def whole(values: Tensor) -> Tensor:
            rows = self._rows(values, part)
            call = next(calls)
            if call == len(notes):
                notes.append([])
            notes[call].append(rows)
            stand_ins = rows[:, :1].expand(-1, self._total, *rows.shape[2:])
            return stand_ins.flatten(0, 1)

        def replay(fakes: Tensor) -> Tensor:
            replayed[part.start] = self._replayed(fakes, part)
            return replayed[part.start]

        return self._context_of(part, whole, replay, reported={})

    def _among_all(
        self, part: slice, known: list[Tensor] | None, replayed: dict[int, Tensor]
    ) -> Context:
        """The context of a part that has a gradient; known: what the first pass found."""
        calls = itertools.count()
        start = self._here * self._ranks.index + part.start

        def whole(values: Tensor) -> Tensor:
            if known is None and self._ranks.count == 1:
                return values
            rows = self._rows(values, part)
            others = self._of_all(rows) if known is None else known[next(calls)]
            after = others[:, start + rows.shape[1] :]
            return torch.cat([others[:, :start], rows, after], dim=1).flatten(0, 1)

        def replay(fakes: Tensor) -> Tensor:
            return replayed[part.start] if replayed else self._replayed(fakes, part)

        return self._context_of(part, whole, replay, reported=self._context.reported)

    def _context_of(
        self,
        part: slice,
        whole: Callable[[Tensor], Tensor],
        replay: Callable[[Tensor], Tensor],
        reported: dict[str, Tensor],
    ) -> Context:
        calls = itertools.count()
        start = self._here * self._ranks.index

        def noise(shape: Sequence[int]) -> Tensor:
            call, each = next(calls), shape[0] // (part.stop - part.start)
            if call == len(self._noise):
                drawn = self._context.noise((each * self._total, *shape[1:]))
                self._noise.append(drawn.unflatten(0, (each, self._total)))
            return self._noise[call][:, start + part.start : start + part.stop].flatten(0, 1)

        return dataclasses.replace(
            self._context,
            noise=noise,
            whole=whole,
            replay=replay if self._replay else self._context.replay,
            reported=reported,
        )

    def _rows(self, values: Tensor, part: slice) -> Tensor:
        """[m n, ...] of a part -> [m, n, ...]."""
        return values.unflatten(0, (-1, part.stop - part.start))

    def _of_all(self, rows: Tensor) -> Tensor:
        """[m, n, ...] of this process -> [m, N, ...] of all, without a gradient."""
        return self._ranks.gather(rows).transpose(0, 1).flatten(1, 2)

    def _replayed(self, fakes: Tensor, part: slice) -> Tensor:
        """The fakes of a part as the pool of all processes shows them, here its own."""
        everyone = self._ranks.gather(fakes)
        shown = [
            self._replay(theirs, self._here * index + part.start)
            for index, theirs in enumerate(everyone)
        ]
        return shown[self._ranks.index]
