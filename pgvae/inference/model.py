"""A trained model: encode, decode, reconstruct, interpolate, sample.

import pgvae
model = pgvae.load("snapshot-000060000.safetensors")
images = model.sample(16, seed=0)           # [16, 3, R, R] in [-1, 1]
again = model.reconstruct(images)
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from pgvae.config import require
from pgvae.objectives import terms
from pgvae.snapshot import Snapshot, load_snapshot

_BATCH_PIXELS = 64 * 128 * 128


class Model:
    """Encoder and averaged generator of a snapshot, in evaluation mode.

    resolution: pixels per side of its images (the stage of the snapshot).
    latent_dim: d, length of a latent vector.
    config:     the `ModelConfig` of the fully grown networks.
    attributes: names of the labels that it was trained with.
    mean_image: [C, R, R] in [-1, 1], mean of the training images.
    """

    def __init__(self, snapshot: Snapshot, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.encoder = snapshot.nets.encoder.eval().requires_grad_(False).to(self.device)
        self.generator = snapshot.nets.ema.eval().requires_grad_(False).to(self.device)
        self.config = snapshot.config
        self.alpha = snapshot.alpha
        self.resolution: int = snapshot.nets.ema.resolution
        self.latent_dim = snapshot.config.latent_dim
        self.attributes = snapshot.attributes
        self.dataset = snapshot.dataset
        self.objective = snapshot.objective
        self.images_seen = snapshot.images_seen
        self.mean_image = snapshot.mean_image.to(self.device)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents of images: [N, C, R, R] in [-1, 1] -> [N, d], the posterior's mean.

        For a sphere model that is the unit vector. ValueError where the shape is another.
        """
        shape = (self.config.channels, self.resolution, self.resolution)
        if images.ndim != 4 or tuple(images.shape[1:]) != shape:
            want = "x".join(map(str, shape))
            raise ValueError(f"images must be [N, {want}]: got {list(images.shape)}")
        images = images.to(self.device, torch.float32, memory_format=torch.channels_last)
        return self._batched(lambda x: self.encoder(x, self.alpha).mean, images)

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
        return self._batched(lambda z: self.generator(z, self.alpha).clamp(-1, 1), latents)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """New images from the training prior: -> [count, C, R, R] in [-1, 1].

        The same seed gives the same latents on every device.
        """
        rng = torch.Generator().manual_seed(seed)
        return self.decode(terms.sample_prior(self.config.head, count, self.latent_dim, rng))

    def reconstruct(self, images: Tensor) -> Tensor:
        """decode(encode(images)): [N, C, R, R] -> [N, C, R, R], both in [-1, 1]."""
        return self.decode(self.encode(images))

    def interpolate(self, images: Tensor, steps: int = 8) -> Tensor:
        """Between two images [steps, C, R, R]; between four, a grid [steps * steps, C, R, R].

        Four are its corners: top left, top right, bottom left, bottom right. Latents move along
        great circles on the sphere and along straight lines otherwise.
        """
        if len(images) not in (2, 4) or steps < 2:
            raise ValueError(f"give 2 or 4 images and 2 or more steps: got {len(images)}, {steps}")
        mix = slerp if self.config.head == "sphere" else torch.lerp
        corners = self.encode(images)
        ratios = torch.linspace(0, 1, steps, device=self.device)
        top = torch.stack([mix(corners[0], corners[1], t) for t in ratios])  # [steps, d]
        if len(images) == 2:
            return self.decode(top)
        bottom = torch.stack([mix(corners[2], corners[3], t) for t in ratios])
        rows = torch.stack([mix(top, bottom, t) for t in ratios])  # [steps, steps, d]
        return self.decode(rows.flatten(0, 1))

    def _batched(self, function, inputs: Tensor) -> Tensor:
        size = max(1, _BATCH_PIXELS // self.resolution**2)
        return torch.cat([function(part) for part in inputs.split(min(size, 256))])


def slerp(a: Tensor, b: Tensor, ratio: Tensor | float) -> Tensor:
    """Spherical interpolation of unit vectors [..., d] along their great circle.

    Falls back on a normalised straight line where the vectors are (nearly) equal or opposite.
    """
    angle = torch.acos((a * b).sum(dim=-1, keepdim=True).clamp(-1, 1))
    near = torch.sin(angle) < 1e-4
    safe = torch.where(near, torch.full_like(angle, math.pi / 2), angle)
    curved = (torch.sin((1 - ratio) * safe) * a + torch.sin(ratio * safe) * b) / torch.sin(safe)
    straight = torch.nn.functional.normalize(torch.lerp(a, b, ratio), dim=-1)
    return torch.where(near, straight, curved)


def pick_device(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda[:i]"; InputError where it is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    require(device is not None and device.type in ("cpu", "cuda"), f"unknown device {name!r}")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        require(
            (device.index or 0) < count,
            f"device {name} is not here: torch {torch.__version__} sees {count} CUDA devices; "
            "use --device cpu",
        )
    return device


def load(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a snapshot; its averaged generator decodes.

    Raises InputError (no such file, a pickle, another format) or CorruptFileError.
    """
    return Model(load_snapshot(path), device)
