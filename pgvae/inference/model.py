"""A trained model: encode, decode, reconstruct, interpolate, edit, sample.

import pgvae
model = pgvae.load("snapshot-000060000.safetensors")
images = model.sample(16, seed=0)           # [16, 3, R, R] in [-1, 1]
again = model.reconstruct(images)
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pgvae.choices import PROJECTION_STEPS, Prior, Sampling
from pgvae.config import require
from pgvae.inference import conditional, paths, projection
from pgvae.inference.directions import Directions, directions_path, load_directions, move, move_to
from pgvae.inference.prior import LatentStream, choose_prior
from pgvae.prior import FittedPrior
from pgvae.snapshot import Snapshot, load_snapshot, newest_snapshot
from pgvae.types import Posterior

_BATCH_PIXELS = 64 * 128 * 128


class Model:
    """Averaged encoder and generator of a snapshot, in evaluation mode.

    resolution: pixels per side of its images (the stage of the snapshot).
    latent_dim: d, length of a latent vector.
    config:     the `ModelConfig` of the fully grown networks.
    attributes: names of the labels that it was trained with.
    mean_image: [C, R, R] in [-1, 1], mean of the training images.
    prior:      a `FittedPrior`, or None.
    path:       the snapshot's file; None for one that is not in a file.

    >>> model.resolution, model.latent_dim, model.attributes
    (8, 4, ('glasses', 'hat'))
    >>> images = model.sample(2, seed=1)
    >>> latents = model.encode(images)
    >>> images.shape, latents.shape, model.classify(images).shape
    (torch.Size([2, 3, 8, 8]), torch.Size([2, 4]), torch.Size([2, 2]))
    >>> torch.equal(model.decode(latents), model.reconstruct(images))
    True
    """

    def __init__(
        self, snapshot: Snapshot, device: str | torch.device = "cpu", path: Path | None = None
    ) -> None:
        self.path = path
        self.device = torch.device(device)
        own = snapshot.nets.ema_encoder
        self.encoder = None if own is None else self._own(own)
        self.generator = self._own(snapshot.nets.ema)
        self.config = snapshot.config
        self.alpha = snapshot.alpha
        self.resolution: int = snapshot.nets.ema.resolution
        self.latent_dim = snapshot.config.latent_dim
        self.attributes = snapshot.attributes
        self.dataset = snapshot.dataset
        self.objective = snapshot.objective
        self.images_seen = snapshot.images_seen
        self.prior = snapshot.prior
        self.mean_image = snapshot.mean_image.to(self.device)

    def _own(self, net: nn.Module) -> nn.Module:
        """A copy of a network, which may be in training, on the device."""
        return copy.deepcopy(net).eval().requires_grad_(False).to(self.device)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Posterior:
        """What the encoder says of images: [N, C, R, R] in [-1, 1] -> mean, logvar, [N, d] each.

        logvar is None for a sphere model. ValueError where the shape is another, InputError for a
        model without an encoder.
        """
        self.require_encoder()
        images = self.as_input(images)
        parts = [self.encoder(part, self.alpha) for part in images.split(self.batch_size)]
        mean = torch.cat([part.mean for part in parts])
        if self.config.head == "sphere":
            return Posterior(mean)
        return Posterior(mean, torch.cat([part.logvar for part in parts]))

    def as_input(self, images: Tensor) -> Tensor:
        """Images [N, C, R, R] as the networks take them; ValueError where the shape is another."""
        shape = (self.config.channels, self.resolution, self.resolution)
        if images.ndim != 4 or tuple(images.shape[1:]) != shape:
            want = "x".join(map(str, shape))
            raise ValueError(f"images must be [N, {want}]: got {list(images.shape)}")
        return images.to(self.device, torch.float32, memory_format=torch.channels_last)

    def encode(self, images: Tensor) -> Tensor:
        """Latents of images: [N, C, R, R] in [-1, 1] -> [N, d], the posterior's mean.

        For a sphere model that is the unit vector. Raises as `posterior`.
        """
        return self.posterior(images).mean

    @property
    def encodes(self) -> bool:
        """Whether it has an encoder; a pure GAN has none."""
        return self.encoder is not None

    def require_encoder(self) -> None:
        """Raise InputError for a model without an encoder."""
        require(
            self.encodes,
            f"a model of objective {self.objective['name']} has no encoder, which this needs: take "
            "one of another objective; `reconstruct` alone does without, by optimisation",
        )

    @property
    def classifies(self) -> bool:
        """Whether it was trained with a classifier of its attributes (vac, introvac)."""
        return self.config.classes > 0

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Logits of each attribute, yes above 0: [N, C, R, R] in [-1, 1] -> [N, K].

        In the order of `attributes`. ValueError for a model without a classifier.
        """
        if not self.classifies:
            name = self.objective["name"]
            raise ValueError(
                f"a model of objective {name} has no classifier: train vac or introvac"
            )
        return self.encoder.classify(self.encode(images))[:, : len(self.attributes)]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents: [N, d] -> [N, C, R, R], clamped to [-1, 1]."""
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim:
            raise ValueError(f"latents must be [N, {self.latent_dim}]: got {list(latents.shape)}")
        latents = latents.to(self.device, torch.float32)
        parts = latents.split(self.batch_size)
        return torch.cat([self.generator(z, self.alpha).clamp(-1, 1) for z in parts])

    @property
    def default_prior(self) -> Prior:
        """What latents are drawn from unless told: "fitted" or "training"."""
        return "fitted" if self.prior and self.prior.is_default else "training"

    def sample_latents(
        self, count: int, seed: int = 0, prior: Prior | None = None, truncation: float = 1.0
    ) -> Tensor:
        """Latents [count, d] from a prior; the same for a seed on every device.

        The first ones are the same for any count.

        prior: "fitted" or "training"; None: `default_prior`. truncation: in (0, 1], scales the
        noise around the mean (of its component); not for the training prior on the sphere.
        InputError where no prior was fitted.
        """
        return self._stream(seed, prior, truncation).next(count)

    def _stream(self, seed: int, prior: Prior | None, truncation: float) -> LatentStream:
        fitted = self.prior_for(prior)
        return LatentStream(self.config.head, self.latent_dim, seed, fitted, truncation)

    def prior_for(self, prior: Prior | None) -> FittedPrior | None:
        """The fitted prior where it is meant; None for the training prior."""
        return choose_prior(prior or self.default_prior, self.prior, self.path)

    def sample(
        self, count: int, seed: int = 0, prior: Prior | None = None, truncation: float = 1.0
    ) -> Tensor:
        """New images, [count, C, R, R] in [-1, 1]; options as of `sample_latents`."""
        return self.decode(self.sample_latents(count, seed, prior, truncation))

    def sample_batches(
        self, count: int, seed: int = 0, prior: Prior | None = None, truncation: float = 1.0
    ) -> Iterator[Tensor]:
        """What `sample` draws, in batches [n, C, R, R], n <= `batch_size`: any count in little
        memory.

        >>> sum(len(images) for images in model.sample_batches(300))
        300
        """
        stream, most = self._stream(seed, prior, truncation), self.batch_size
        sizes = (min(most, count - start) for start in range(0, count, most))
        return (self.decode(stream.next(size)) for size in sizes)

    def reconstruct(
        self, images: Tensor, *, steps: int = PROJECTION_STEPS, seed: int = 0
    ) -> Tensor:
        """decode(encode(images)): [N, C, R, R] -> [N, C, R, R], both in [-1, 1].

        Without an encoder decode(project(images, steps, seed)).
        """
        if self.encodes:
            return self.decode(self.encode(images))
        return self.decode(self.project(images, steps, seed))

    def project(self, images: Tensor, steps: int = PROJECTION_STEPS, seed: int = 0) -> Tensor:
        """Latents [N, d] whose images are near to others, found by optimisation from samples.

        For a model without an encoder; images are [N, C, R, R] in [-1, 1]. Takes `steps` passes
        of the generator and back. InputError for less than a step.
        """
        return projection.project(self, images, steps, seed)

    def interpolate(self, images: Tensor, steps: int = 8) -> Tensor:
        """Between two images [steps, C, R, R]; between four, a grid [steps * steps, C, R, R].

        Four are its corners: top left, top right, bottom left, bottom right. Latents move along
        great circles on the sphere and along straight lines otherwise.

        >>> [len(model.interpolate(model.sample(n), steps=5)) for n in (2, 4)]
        [5, 25]
        """
        if len(images) not in (2, 4) or steps < 2:
            raise ValueError(f"give 2 or 4 images and 2 or more steps: got {len(images)}, {steps}")
        return self.between(self.encode(images), steps)

    def between(self, corners: Tensor, steps: int = 8) -> Tensor:
        """What `interpolate` shows, between two or four latents: [2, d] or [4, d]."""
        corners, head = corners.to(self.device), self.config.head
        if len(corners) == 2:
            return self.decode(paths.line(head, *corners, steps))
        return self.decode(paths.square(head, corners, steps).flatten(0, 1))

    def walk(self, latents: Tensor, steps: int = 16, closed: bool = False) -> Tensor:
        """A walk through latents [N, d], N >= 2: -> [(N - 1) steps + 1, C, R, R].

        closed: back to the first one and up to just before it, for a loop: [N steps, C, R, R].

        >>> len(model.walk(model.sample_latents(3), steps=4))
        9
        """
        if len(latents) < 2 or steps < 1:
            raise ValueError(f"give 2 latents or more, 1 step or more: got {len(latents)}, {steps}")
        latents = latents.to(self.device)
        return self.decode(paths.polyline(self.config.head, latents, steps, closed))

    @cached_property
    def directions(self) -> Directions:
        """The attributes that can be edited: the classifier's, and those of the file beside it.

        InputError where there are none, CorruptFileError for a damaged file.
        """
        self.require_encoder()
        found: list[Directions] = []
        if self.classifies:
            weight = self.encoder.classifier.weight[: len(self.attributes)]
            found.append(Directions(self.attributes, weight, weight.new_zeros(len(weight))))
        file = directions_path(self.path) if self.path else None
        if file and file.is_file():
            found.append(load_directions(file, self.path, self.latent_dim).to(self.device))
        require(
            bool(found),
            f"a model of objective {self.objective['name']} knows no attributes: estimate them "
            f"with `pgvae directions --snapshot {self.path or 'PATH'} --dataset NAME`",
        )
        return found[0] if len(found) == 1 else found[0].joined(found[1])

    def edit(
        self,
        images: Tensor,
        attribute: str | Sequence[str],
        delta: float | Sequence[float] = 3.0,
        *,
        to: float | None = None,
    ) -> Tensor:
        """Images with attributes added or taken away: [N, C, R, R] -> the same, in [-1, 1].

        attribute: one of `directions.names`, or several.
        delta: how far to move along each, in deviations of the prior; negative takes it away.
        to:    move instead until the attributes are there with this probability, or, below 1/2,
               until they are gone.

        From the posterior's mean along w / |w| (IntroVAC, section 4.2). InputError for an attribute
        that the model does not know.

        >>> model.edit(model.sample(2), ["glasses", "hat"], [2.0, -1.0]).shape
        torch.Size([2, 3, 8, 8])
        """
        return self.decode(self.move(self.encode(images), attribute, delta, to=to))

    def move(
        self,
        latents: Tensor,
        attribute: str | Sequence[str],
        delta: float | Sequence[float] = 3.0,
        *,
        to: float | None = None,
    ) -> Tensor:
        """What `edit` does with latents: [N, d] -> [N, d]."""
        names = [attribute] if isinstance(attribute, str) else list(attribute)
        chosen, latents = self.directions.of(names), latents.to(self.device)
        if to is not None:
            return move_to(self.config.head, latents, chosen, to)
        deltas = [float(delta)] * len(names) if isinstance(delta, (int, float)) else list(delta)
        if len(deltas) != len(names):
            raise ValueError(f"give a delta for each of {names}: got {deltas}")
        return move(self.config.head, latents, chosen, deltas)

    def sample_conditional(
        self, count: int, attributes: Mapping[str, int], steps: int = 5000, **options: Any
    ) -> Tensor:
        """New images with given attributes, {"glasses": 1, "hat": 0}: -> [count, C, R, R].

        Decodes `conditional_latents`, which has the other options.

        >>> model.sample_conditional(2, {"hat": 1}, method="rejection", sure=None).shape
        torch.Size([2, 3, 8, 8])
        """
        return self.decode(self.conditional_latents(count, attributes, steps, **options).latents)

    def conditional_latents(
        self,
        count: int,
        attributes: Mapping[str, int],
        steps: int = 5000,
        *,
        method: Sampling = "langevin",
        step_size: float = 2e-4,
        sure: float | None = 0.5,
        seed: int = 0,
        prior: Prior | None = None,
    ) -> conditional.Conditional:
        """Latents [count, d] of p(z | attributes), and the share of candidates that they are.

        method: "langevin", `steps` of size `step_size` from the prior, or "rejection", exact.
        sure:   leave out a latent whose image, encoded again, is not classified as asked with this
                probability (IntroVAC, section 4.3, at 1/2); None: do not look at images.
        prior:  for rejection as of `sample_latents`; Langevin's is the training prior.

        Either way latents that the classifier gets wrong are left out. InputError for an unknown
        attribute, or for attributes that hardly ever occur.
        """
        return conditional.draw(
            self, count, attributes, steps, method, step_size, sure, seed, prior
        )

    @property
    def batch_size(self) -> int:
        """Images that go through the networks at once."""
        return min(max(1, _BATCH_PIXELS // self.resolution**2), 256)


def load(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a snapshot, or the newest one of a run directory; its averaged generator decodes.

    Raises InputError (no such file, a pickle, another format) or CorruptFileError.

    >>> load("runs/none.safetensors")
    Traceback (most recent call last):
    pgvae.errors.InputError: no such snapshot: runs/none.safetensors
    """
    path = newest_snapshot(Path(path))
    return Model(load_snapshot(path), device, path)
