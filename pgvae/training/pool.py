"""The image pool: earlier fakes, so that the encoder does not forget them (PIONEER)."""

import torch
from torch import Tensor


def pool_capacity(resolution: int) -> int:
    """Images kept at a resolution: 200, and 100 from 256 px, as PIONEER."""
    return 100 if resolution >= 256 else 200


class ImagePool:
    """Swaps each of a batch of fakes, with probability 1/2, for an earlier one.

    It fills up first and swaps only once it is full. `images` is [capacity, C, R, R], with
    `count` of them in use, or None while empty.
    """

    def __init__(self) -> None:
        self.images: Tensor | None = None
        self.count = 0

    def clear(self) -> None:
        """Forget all images: at growth their size is no longer right."""
        self.images, self.count = None, 0

    @torch.no_grad()
    def replay(self, fakes: Tensor, rng: torch.Generator) -> Tensor:
        """[N, C, R, R] -> the same shape, some of them earlier fakes; the pool takes theirs."""
        fakes = fakes.float()  # whatever the precision, so that a run may change it
        if self.images is None:
            capacity = pool_capacity(fakes.shape[-1])
            self.images = fakes.new_zeros(capacity, *fakes.shape[1:])
        capacity = len(self.images)
        if self.count < capacity:
            added = min(len(fakes), capacity - self.count)
            self.images[self.count : self.count + added] = fakes[:added]
            self.count += added
            return fakes
        swaps = min(len(fakes), capacity)
        slots = torch.randperm(capacity, generator=rng, device=rng.device)[:swaps]
        chosen = torch.rand(swaps, 1, 1, 1, generator=rng, device=rng.device) < 0.5
        earlier = self.images[slots]
        self.images[slots] = torch.where(chosen, fakes[:swaps], earlier)
        return torch.cat([torch.where(chosen, earlier, fakes[:swaps]), fakes[swaps:]])
