"""The networks of a snapshot at work: images to latents, and latents to images."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pgvae.checks import require
from pgvae.errors import InputError
from pgvae.inference.device import pick_device
from pgvae.inference.given import Images, require_numbers, take
from pgvae.nn import hold
from pgvae.sizes import size_at, size_named
from pgvae.snapshot import Snapshot
from pgvae.types import Posterior

_BATCH_PIXELS = 64 * 128 * 128


class Autoencoder:
    """Averaged encoder and generator of a snapshot, in evaluation mode; see `Model`."""

    @torch.inference_mode(False)  # or a caller in it would get weights for it alone
    def __init__(
        self, snapshot: Snapshot, device: str | torch.device = "cpu", path: Path | None = None
    ) -> None:
        self.path = path
        self.device = torch.device(device)
        own = snapshot.nets.ema_encoder
        self.encoder: Any = None if own is None else self._own(own)  # None: a pure GAN's
        self.generator = self._own(snapshot.nets.ema)
        self.config = snapshot.config
        self.alpha = snapshot.alpha
        self.resolution: int = self.generator.resolution
        self.latent_dim = snapshot.config.latent_dim
        self.attributes = snapshot.attributes
        self.dataset = snapshot.dataset
        self.objective = snapshot.objective
        self.images_seen = snapshot.images_seen
        self.prior = snapshot.prior
        self.mean_image = snapshot.mean_image.to(self.device)

    def _own(self, net: nn.Module) -> Any:
        """A copy of a network, which may be in training, on the device."""
        return copy.deepcopy(net).eval().requires_grad_(False).to(self.device)

    @torch.inference_mode(False)
    def to(self, device: str | torch.device) -> Self:
        """Move it to a device; -> itself. InputError where that is not here."""
        self.device = pick_device(str(device))
        for part in (self.encoder, self.generator):
            if part is not None:
                part.to(self.device)
        self.mean_image = self.mean_image.to(self.device)
        return self

    def hold(self) -> Self:
        """Have weights made once, which takes memory: sooner for one image at a time; -> itself.

        The same results. `to` another device ends it.
        """
        for part in (self.encoder, self.generator):
            if part is not None:
                hold(part)
        return self

    def _take(self, images: Images) -> tuple[Tensor, Callable[[Tensor], Any]]:
        return take(images, self.resolution, self.config.channels, self.alpha, self.config.base)

    @torch.no_grad()
    def posterior(self, images: Images) -> Posterior:
        """What the encoder says of images: [N, C, R, R] in [-1, 1] -> mean, logvar, [N, d] each.

        Or pictures of Pillow of any size, or an array of them, uint8 [N, H, W, C]: these are
        fitted as training images are. logvar is None for a sphere model. ValueError where the
        shape is another, InputError for a model without an encoder and for a tensor that is not of
        finite floats from -2 to 2: values a little outside of [-1, 1] are taken as they are.
        """
        self.require_encoder()
        images, _ = self._take(images)
        self.require_shape(images)
        split = map(self.as_input, images.split(self.batch_size))
        parts = [self.encoder(part, self.alpha) for part in split]
        mean = torch.cat([part.mean for part in parts])
        if self.config.head == "sphere":
            return Posterior(mean)
        return Posterior(mean, torch.cat([part.logvar for part in parts]))

    def require_shape(self, images: Tensor) -> None:
        """Raise ValueError unless images are [N, C, H, W] of this model."""
        shape = (self.config.channels, *size_at(self.config.base, self.resolution))
        if images.ndim != 4 or tuple(images.shape[1:]) != shape:
            want = "x".join(map(str, shape))
            raise ValueError(f"images must be [N, {want}]: got {list(images.shape)}")

    def as_input(self, images: Tensor) -> Tensor:
        """Images as the networks take them, on the device."""
        return images.to(self.device, torch.float32, memory_format=torch.channels_last)

    def encode(self, images: Images) -> Tensor:
        """Latents of images: [N, C, R, R] in [-1, 1], or pictures -> [N, d], the posterior's mean.

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
    def file(self) -> Path:
        """The snapshot's file. ValueError for a model that is not of one."""
        if self.path is None:
            raise ValueError("this model is not of a file")
        return self.path

    @property
    def classifies(self) -> bool:
        """Whether it was trained with a classifier of its attributes (vac, introvac)."""
        return self.config.classes > 0

    @torch.no_grad()
    def classify(self, images: Images) -> Tensor:
        """Logits of each attribute, yes above 0: [N, C, R, R] in [-1, 1] -> [N, K].

        In the order of `attributes`. ValueError for a model without a classifier.
        """
        if not self.classifies:
            name = self.objective["name"]
            raise ValueError(
                f"a model of objective {name} has no classifier: train vac or introvac"
            )
        return self.encoder.classify(self.encode(images))[:, : len(self.attributes)]

    def decode(self, latents: Tensor | np.ndarray) -> Tensor:
        """Images of latents: [N, d] -> [N, C, R, R], clamped to [-1, 1].

        ValueError where the shape is another, InputError unless they are finite floats.
        """
        return self.drawn(self._latents(latents))

    @torch.no_grad()
    def drawn(self, latents: Tensor) -> Tensor:
        """What `decode` makes of latents that it need not look at: our own, whatever they are."""
        parts = (z.to(self.device, torch.float32) for z in latents.split(self.batch_size))
        return torch.cat([self.generator(z, self.alpha).clamp(-1, 1) for z in parts])

    def _latents(self, given: Tensor | np.ndarray) -> Tensor:
        """Latents [N, d] of any floats, in float32 on the device. Raises as `decode`."""
        try:
            if isinstance(given, np.ndarray):  # torch takes neither all strides nor byte orders
                given = np.array(given, given.dtype.newbyteorder("="))
            latents = torch.as_tensor(given).to(self.device)
        except (TypeError, ValueError, RuntimeError) as error:
            kind = type(given).__name__
            raise InputError(f"latents must be [N, {self.latent_dim}]: got {kind}") from error
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim:
            raise ValueError(f"latents must be [N, {self.latent_dim}]: got {list(latents.shape)}")
        require_numbers("latents", latents, "as of `encode`", torch.finfo(torch.float32).max)
        return latents.float()

    @property
    def size(self) -> str:
        """What the size of its images is called: "128", or "128x96", width and height."""
        return size_named(self.config.base, self.resolution)

    @property
    def batch_size(self) -> int:
        """Images that go through the networks at once."""
        return min(max(1, _BATCH_PIXELS // self.resolution**2), 256)
