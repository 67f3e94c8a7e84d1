"""The principal components of a model's latents: directions that nobody had to label.

After GANSpace (Harkonen et al., 2020), for a model whose encoder says where images lie.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.checks import require
from pgvae.config import Head

MOST = 12


@dataclass(frozen=True)
class Components:
    """The K directions in which latents vary most, most first.

    mean:       [d] of the latents; on the sphere not of length 1.
    directions: [K, d], orthonormal; the largest entry of each is positive.
    deviations: [K], of the latents along each.
    shares:     [K], of the variance of all.
    """

    mean: Tensor
    directions: Tensor
    deviations: Tensor
    shares: Tensor

    def __len__(self) -> int:
        return len(self.directions)


@torch.no_grad()
def principal(latents: Tensor, most: int = MOST) -> Components:
    """The components of latents [N, d], N >= 2; at most min(`most`, d, N - 1) of them.

    InputError where the latents do not vary.

    >>> found = principal(torch.tensor([[-3.0, 1.0], [3.0, 1.0], [0.0, 1.0]]))
    >>> found.directions[0].tolist(), round(found.shares[0].item(), 3)
    ([1.0, 0.0], 1.0)
    """
    require(len(latents) >= 2, f"{len(latents)} latents have no components: give 2 or more")
    x = latents.double().cpu()
    mean = x.mean(dim=0)
    covariance = (x - mean).t() @ (x - mean) / (len(x) - 1)
    variances, vectors = torch.linalg.eigh(covariance)  # ascending
    total = variances.clamp(min=0).sum()
    require(bool(total > 0), "all latents are the same: this model's encoder has collapsed")
    kept = min(most, len(x) - 1, x.shape[1])
    variances, vectors = variances.flip(0)[:kept].clamp(min=0), vectors.flip(1)[:, :kept].t()
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    vectors = vectors * largest.sign()
    parts = (mean, vectors, variances.sqrt(), variances / total)
    return Components(*(part.float() for part in parts))


def move(head: Head, latents: Tensor, found: Components, sizes: Mapping[int, float]) -> Tensor:
    """z + sum_k c_k s_k v_k: [N, d] -> [N, d], s_k the deviation along v_k.

    On the sphere the result is taken back to it. InputError for a component that is not there.

    >>> found = principal(torch.tensor([[-3.0, 1.0], [3.0, 1.0]]))
    >>> moved = move("gaussian", torch.zeros(1, 2), found, {0: 2.0})
    >>> torch.allclose(moved, torch.tensor([[2 * 18**0.5, 0.0]]))
    True
    """
    wrong = [k + 1 for k in sizes if not 0 <= k < len(found)]
    require(not wrong, f"no component {wrong and wrong[0]}: there are {len(found)}")
    if not sizes:
        return latents
    chosen = torch.tensor([*sizes])
    steps = torch.tensor([*sizes.values()], dtype=torch.float32) * found.deviations[chosen]
    moved = latents + (steps @ found.directions[chosen]).to(latents.device, latents.dtype)
    return F.normalize(moved, dim=1) if head == "sphere" else moved
