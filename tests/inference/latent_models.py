"""What the tests of latents share: priors, linear classifiers, and their laws in closed form."""

import math
from pathlib import Path

import torch
from snapshots import make
from torch import Tensor
from torch.nn import functional as F

from pgvae.inference import Directions, Model, directions_path, load, save_directions
from pgvae.snapshot import save_snapshot

HEADS = ("gaussian", "sphere")
SIGMAS = 4.5  # of the standard error: of a hundred figures one is beyond with a chance of 1e-3


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prior(head: str, count: int, dim: int, seed: int = 0) -> Tensor:
    """N(0, I), or uniform on the unit sphere: [count, dim]."""
    z = torch.randn(count, dim, generator=rng(seed))
    return F.normalize(z, dim=1) if head == "sphere" else z


def pointing(*weights: list[float], bias: float | list[float] = 0.0) -> Directions:
    """Directions of given weights, their names a, b, c."""
    weight = torch.tensor(weights, dtype=torch.float32)
    biases = torch.as_tensor(bias, dtype=torch.float32).expand(len(weights)).clone()
    return Directions(tuple("abc"[: len(weights)]), weight, biases)


def random_directions(count: int, dim: int, seed: int = 0) -> Directions:
    """Directions of random weights and biases, of a length that decides on N(0, I)."""
    draw = 2 * torch.randn(count, dim + 1, generator=rng(seed))
    return Directions(tuple("abc"[:count]), draw[:, :dim], draw[:, dim])


def certainties(directions: Directions, latents: Tensor) -> Tensor:
    """sigmoid(w . z + b), in float64: [N, K]."""
    weight, bias = directions.weight.double(), directions.bias.double()
    return torch.sigmoid(latents.double() @ weight.T + bias)


def labelled(
    truth: Directions, count: int, head: str = "gaussian", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Latents from the prior, and what the logistic model `truth` says of them."""
    latents = prior(head, count, truth.weight.shape[1], seed)
    chances = certainties(truth, latents)
    draws = torch.rand(chances.shape, generator=rng(seed + 1), dtype=torch.float64)
    return latents, (draws < chances).float()


def penalised_loss(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """sum log-loss + ridge / 2 |w|^2."""
    loss = F.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="sum")
    return loss + ridge / 2 * weight.square().sum()


def minimised(latents: Tensor, said: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of least penalised loss, by L-BFGS in float64 on scaled latents."""
    scale = latents.double().square().mean().sqrt()
    x, y = latents.double() / scale, said.double()
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [weight, bias],
        max_iter=2000,
        tolerance_grad=1e-9,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = penalised_loss(weight, bias, x, y, ridge)
        loss.backward()
        return loss

    search.step(closure)
    return (weight / scale).detach(), bias.detach()


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def model_of(head: str, classes: int = 0, alpha: float = 1.0, **changes) -> Model:
    """A model at 8 px, d = 8, of the attributes glasses and Bärte."""
    return Model(make(alpha, head=head, classes=classes, **changes))


def images_of(count: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Random images at 8 px."""
    return torch.rand(count, channels, 8, 8, generator=rng(seed)) * 2 - 1


def saved(path: Path, head: str = "gaussian", classes: int = 0, alpha: float = 1.0) -> Path:
    save_snapshot(path, make(alpha, head=head, classes=classes))
    return path


def hats(seed: int = 0) -> Directions:
    """Of a hat, and of glasses that are other than the classifier's."""
    draw = 3 * torch.randn(2, 8, generator=rng(seed))
    return Directions(("hat", "glasses"), draw, torch.tensor([0.5, -0.5]))


def beside(path: Path, directions: Directions) -> Path:
    save_directions(directions_path(path), directions, path)
    return path


def probed_model(folder: Path, head: str) -> Model:
    """A model without a classifier, with directions in a file beside it."""
    return load(beside(saved(folder / "snapshot.safetensors", head), hats()))


def assert_of_law(samples: Tensor, points: Tensor, law: Tensor, bias: float = 0.0) -> None:
    """Mean and variance of samples [N] are those of a law on points, up to their error."""
    law = law / law.sum()
    mean = (law * points).sum()
    squares = (points - mean).square()
    variance = (law * squares).sum()
    spread = (law * (squares - variance).square()).sum().sqrt()
    samples, root = samples.double(), math.sqrt(len(samples))
    assert abs(samples.mean() - mean) < SIGMAS * variance.sqrt() / root + bias
    assert abs((samples - mean).square().mean() - variance) < SIGMAS * spread / root + bias


def assert_share(found: float, expected: Tensor, count: float, bias: float = 0.0) -> None:
    """A share of `count` candidates is the expected one, up to its error."""
    share = float(expected)
    error = math.sqrt(max(share * (1 - share), 0) / count)
    assert abs(found - share) <= SIGMAS * error + bias + 1e-9
