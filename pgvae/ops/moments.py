"""The moments of a batch of latents, which batches can be merged by."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean [d] and sum of squared deviations m2 [d] of latents [count, d].

    Moments of parts merge into those of the whole, so that a KL over ranks or micro-batches
    equals the KL over all their latents at once.
    """

    count: int
    mean: Tensor
    m2: Tensor

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both batches together (Chan, Golub and LeVeque, 1979, eq. 2.1).

        >>> import torch
        >>> a, b = (Moments(1, torch.tensor([z]), torch.zeros(1)) for z in (1.0, 3.0))
        >>> a.merge(b)
        Moments(count=2, mean=tensor([2.]), m2=tensor([2.]))
        """
        if self.count == 0 or other.count == 0:  # nothing has no mean
            return other if self.count == 0 else self
        count = self.count + other.count
        change = other.mean - self.mean
        share = other.count / count
        return Moments(
            count,
            self.mean + change * share,
            self.m2 + other.m2 + change.square() * (self.count * share),
        )

    def kl(self) -> Tensor:
        """KL of N(mean, variance) to N(0, I): scalar, nats, summed over dimensions.

        1/2 sum_d (v + mean^2 - 1 - log v) with the biased variance v = m2 / count (AGE, PIONEER
        eq. 1). Raises ValueError for fewer than two samples, where it is infinite.

        >>> import torch
        >>> Moments(2, torch.tensor([1.0]), torch.tensor([2.0])).kl().item()
        0.5
        """
        if self.count < 2:
            raise ValueError(f"moment_kl needs at least 2 samples: got {self.count}")
        variance = self.m2 / self.count
        return 0.5 * (variance + self.mean.square() - 1 - variance.log()).sum()
