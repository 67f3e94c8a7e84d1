"""How far the latents of a set of images, taken together, are from the prior."""

import torch
from torch import Tensor

from pgvae.config import Head

_ACTIVE = 0.01  # variance of the posterior mean: Burda et al., 2016, section 5.2
_ACTIVE_SHARE = 0.1  # of the prior's variance 1 / d on the sphere


@torch.no_grad()
def latent_statistics(mean: Tensor, logvar: Tensor | None, head: Head) -> dict[str, float]:
    """Figures of the aggregate posterior of N images, to compare with those of the prior.

    mean: [N, d], N at least 2: points on the unit sphere (head "sphere", logvar None), or means
    of Gaussians (head "gaussian") with the log variances logvar [N, d]. ValueError otherwise.

    mean_norm:        length of the aggregate's mean; prior 0.
    variance_mean, variance_min, variance_max: over dimensions, of the aggregate's variance
                      (that of the means, plus the mean of e^logvar), times d on the sphere;
                      prior 1. The variances on the sphere are at most 1 on average.
    correlation_max:  largest |correlation| of two dimensions of the aggregate; prior 0.
    active:           dimensions that carry information: those whose means have a variance above
                      0.01 (Burda et al., 2016), on the sphere above a tenth of 1 / d.
    kl:               mean KL to the prior in nats, summed over dimensions; "gaussian" only.

    >>> found = latent_statistics(torch.cat([torch.eye(8), -torch.eye(8)]), None, "sphere")
    >>> found["mean_norm"], found["variance_mean"], found["active"]
    (0.0, 1.0, 8.0)
    """
    _check(mean, logvar, head)
    mean = mean.double()
    count, dim = mean.shape
    centre = mean.mean(dim=0)
    covariance = (mean - centre).t() @ (mean - centre) / count
    spread = covariance.diagonal().clone()
    if logvar is not None:
        covariance.diagonal().add_(logvar.double().exp().mean(dim=0))
    variance = covariance.diagonal()
    unit = 1 / dim if head == "sphere" else 1.0
    figures = {
        "mean_norm": centre.norm().item(),
        "variance_mean": (variance.mean() / unit).item(),
        "variance_min": (variance.min() / unit).item(),
        "variance_max": (variance.max() / unit).item(),
        "correlation_max": _largest_correlation(covariance),
        "active": float((spread > (_ACTIVE_SHARE * unit if head == "sphere" else _ACTIVE)).sum()),
    }
    return figures if logvar is None else {**figures, "kl": _mean_kl(mean, logvar.double())}


def _check(mean: Tensor, logvar: Tensor | None, head: str) -> None:
    if head not in ("sphere", "gaussian"):
        raise ValueError(f"head is {head!r}: use sphere or gaussian")
    if mean.ndim != 2 or len(mean) < 2:
        raise ValueError(f"mean must be [N, d] of at least 2 images: got {list(mean.shape)}")
    if (logvar is None) != (head == "sphere"):
        given = "no logvar" if logvar is None else "a logvar"
        raise ValueError(f"head is {head} with {given}: Gaussians have one, points none")
    if logvar is not None and logvar.shape != mean.shape:
        raise ValueError(
            f"mean and logvar must be of one shape: got {list(mean.shape)}, {list(logvar.shape)}"
        )


def _largest_correlation(covariance: Tensor) -> float:
    """Largest |correlation| off the diagonal; a dimension that never varies has none."""
    deviation = covariance.diagonal().sqrt()
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    correlation = (covariance * scale * scale[:, None]).fill_diagonal_(0.0)
    return correlation.abs().max().item()


def _mean_kl(mean: Tensor, logvar: Tensor) -> float:
    """KL(N(mean, e^logvar) || N(0, I)), Kingma and Welling, 2014, appendix B: mean over images."""
    return (0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1)).mean().item()
