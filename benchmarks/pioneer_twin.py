"""One iteration of PIONEER in plain PyTorch, as its authors' code does it: a rival for `step.py`.

Memory in PyTorch's usual format; convolutions, then each elementwise step on its own; spectral
norm with a power iteration in each of the encoder's passes, and autograd through sigma; Adam and
the generator's average a tensor at a time; a read on the host of each loss. One stage, no fade, no
image pool.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Equalized(nn.Module):
    """Convolution under the equalized learning rate, then pixel norm and LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.padding = math.sqrt(2 / (inputs * kernel**2)), padding

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)
        x = x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)
        return F.leaky_relu(x, 0.2)


class Spectral(nn.Module):
    """Convolution with spectral norm, one power iteration a pass, then LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int, act: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.conv.weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(matrix.t() @ self.u, dim=0)
            self.u = F.normalize(matrix @ v, dim=0)
        weight = self.conv.weight / (self.u @ (matrix @ v))
        x = F.conv2d(x, weight, self.conv.bias, padding=self.conv.padding)
        return F.leaky_relu(x, 0.2) if self.act else x


def blocks_of(resolution: int) -> int:
    """How many blocks double the size from 4 px on."""
    return int(math.log2(resolution)) - 2


class Generator(nn.Module):
    """[N, d] -> [N, 3, R, R]."""

    def __init__(self, resolution: int, maps: int, latent_dim: int) -> None:
        super().__init__()
        self.first = nn.Sequential(Equalized(latent_dim, maps, 4, 3), Equalized(maps, maps, 3, 1))
        self.blocks = nn.ModuleList(
            nn.Sequential(Equalized(maps, maps, 3, 1), Equalized(maps, maps, 3, 1))
            for _ in range(blocks_of(resolution))
        )
        self.to_rgb = nn.Conv2d(maps, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z[:, :, None, None])
        for block in self.blocks:
            x = block(F.interpolate(x, scale_factor=2))
        return self.to_rgb(x)


class Encoder(nn.Module):
    """[N, 3, R, R] -> [N, d] on the unit sphere."""

    def __init__(self, resolution: int, maps: int, latent_dim: int) -> None:
        super().__init__()
        self.from_rgb = nn.Conv2d(3, maps, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(Spectral(maps, maps, 3, 1, True), Spectral(maps, maps, 3, 1, True))
            for _ in range(blocks_of(resolution))
        )
        self.last = nn.Sequential(
            Spectral(maps, maps, 3, 1, True), Spectral(maps, latent_dim, 4, 0, False)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.from_rgb(x), 0.2)
        for block in self.blocks:
            x = F.avg_pool2d(block(x), 2)
        return F.normalize(self.last(x).flatten(1), dim=1)


def kl(latents: Tensor) -> Tensor:
    """Of a Gaussian of the batch's moments from N(0, I), sum over dimensions."""
    mean, var = latents.mean(0), latents.var(0, unbiased=False)
    return (mean**2 / 2 + var / 2 - torch.log(var) / 2 - 0.5).sum()


class Twin:
    """PIONEER's networks and optimisers; `step` is one encoder and two generator updates."""

    def __init__(self, resolution: int, maps: int, latent_dim: int) -> None:
        self.latent_dim = latent_dim
        self.generator = Generator(resolution, maps, latent_dim)
        self.encoder = Encoder(resolution, maps, latent_dim)
        self.average = copy.deepcopy(self.generator)
        settings = {"lr": 1e-3, "betas": (0.0, 0.99), "foreach": False}
        self.adam_g = torch.optim.Adam(self.generator.parameters(), **settings)
        self.adam_e = torch.optim.Adam(self.encoder.parameters(), **settings)

    def draw(self, count: int) -> Tensor:
        return F.normalize(torch.randn(count, self.latent_dim), dim=1)

    def step(self, images: Tensor) -> list[float]:
        """Move both networks by a batch [N, 3, R, R]; -> the losses."""
        losses = [self._move_encoder(images)]
        losses += [self._move_generator(len(images)) for _ in range(2)]
        with torch.no_grad():
            for mine, theirs in zip(
                self.average.parameters(), self.generator.parameters(), strict=True
            ):
                mine.mul_(0.999).add_(0.001 * theirs)
        return losses

    def _move_encoder(self, images: Tensor) -> float:
        self.encoder.zero_grad()
        self.generator.requires_grad_(False)
        codes = self.encoder(images)
        loss = kl(codes) + 10 * F.l1_loss(self.generator(codes), images)
        fakes = self.generator(self.draw(len(images))).detach()
        loss = loss - kl(self.encoder(fakes))
        loss.backward()
        self.adam_e.step()
        self.generator.requires_grad_(True)
        return loss.item()

    def _move_generator(self, count: int) -> float:
        self.generator.zero_grad()
        self.encoder.requires_grad_(False)
        z = self.draw(count)
        codes = self.encoder(self.generator(z))
        loss = kl(codes) + 1000 * (1 - F.cosine_similarity(codes, z)).mean()
        loss.backward()
        self.adam_g.step()
        self.encoder.requires_grad_(True)
        return loss.item()
