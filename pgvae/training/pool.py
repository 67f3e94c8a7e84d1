"""The image pool: earlier fakes, so that the encoder does not forget them (PIONEER)."""

import torch
from torch import Tensor


def pool_capacity(resolution: int) -> int:
    """Images kept at a resolution: 200, and 100 from 256 px, as PIONEER."""
    return 100 if resolution >= 256 else 200


class ImagePool:
    """Swaps each of a batch of fakes, with probability 1/2, for an earlier one.

    It fills up first and swaps only once it is full. `images` is [capacity, C, R, R], with
    `count` of them in use, or None while empty. `draw` decides what will be swapped, on the CPU;
    `replay` shows it, a part of the batch at a time, and `settle` takes what was shown that part's
    fakes in; both without a look at anything on the device.
    """

    def __init__(self) -> None:
        self.images: Tensor | None = None
        self.count = 0
        self._swaps: tuple[Tensor, Tensor, Tensor] | None = None
        self._taken: dict[int, Tensor] = {}  # fakes by the row of their first

    def clear(self) -> None:
        """Forget all images: at growth their size is no longer right."""
        self.images, self.count, self._swaps, self._taken = None, 0, None, {}

    def draw(self, fakes: int, resolution: int, seed: int, device: torch.device) -> None:
        """Choose, for the next `replay` of so many fakes: slots [n], which fakes are kept in theirs
        and which are shown the image that was there."""
        capacity = pool_capacity(resolution)
        n = min(fakes, capacity)
        if self.count < capacity:
            slots = (self.count + torch.arange(n)) % capacity
            kept = torch.arange(n) < capacity - self.count
            shown = torch.zeros(n, dtype=torch.bool)
            self.count = min(capacity, self.count + n)
        else:
            rng = torch.Generator().manual_seed(seed)
            slots = torch.randperm(capacity, generator=rng)[:n]
            kept = shown = torch.rand(n, generator=rng) < 0.5
        chosen = (slots, kept.view(-1, 1, 1, 1), shown.view(-1, 1, 1, 1))
        if self._swaps is None or len(self._swaps[0]) != n:
            self._swaps = tuple(part.to(device, copy=True) for part in chosen)
        else:  # in place: a captured iteration reads them where they were
            for mine, drawn in zip(self._swaps, chosen, strict=True):
                mine.copy_(drawn, non_blocking=True)

    @torch.no_grad()
    def replay(self, fakes: Tensor, start: int = 0) -> Tensor:
        """Fakes `start`.. of the batch, [N, C, R, R] -> the same shape, some of them earlier ones.

        The pool stays as it is until `settle`: the same fakes may be shown once more.
        """
        fakes = fakes.float()  # whatever the precision, so that a run may change it
        if self.images is None:
            self.images = fakes.new_zeros(pool_capacity(max(fakes.shape[2:])), *fakes.shape[1:])
        slots, _, shown = (part[start : start + len(fakes)] for part in self._swaps)
        self._taken[start] = fakes
        some, earlier = fakes[: len(slots)], self.images.index_select(0, slots)
        return torch.cat([torch.where(shown, earlier, some), fakes[len(slots) :]])

    @torch.no_grad()
    def settle(self) -> None:
        """Take in what was shown since the last time."""
        for start, fakes in self._taken.items():
            slots, kept, _ = (part[start : start + len(fakes)] for part in self._swaps)
            earlier = self.images.index_select(0, slots)
            some = torch.where(kept, fakes[: len(slots)], earlier)
            self.images.index_copy_(0, slots, some)
        self._taken = {}
