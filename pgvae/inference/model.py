"""A trained model: encode, decode, reconstruct, interpolate, edit, sample.

import pgvae
model = pgvae.load("snapshot-000060000.safetensors")
images = model.sample(16, seed=0)           # [16, 3, R, R] in [-1, 1]
again = model.reconstruct(images)
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from PIL import Image
from torch import Tensor

from pgvae.checks import require, whole
from pgvae.choices import (
    LANGEVIN_STEP_SIZE,
    LANGEVIN_STEPS,
    PROJECTION_STEPS,
    Prior,
    Sampling,
)
from pgvae.inference import conditional, hub, paths, pretrained, projection
from pgvae.inference.autoencoder import Autoencoder
from pgvae.inference.device import pick_device
from pgvae.inference.directions import Directions, directions_path, load_directions, move, move_to
from pgvae.inference.given import Images, numbers, require_numbers, to_pictures
from pgvae.inference.prior import LatentStream, choose_prior
from pgvae.prior import FittedPrior
from pgvae.snapshot import load_newest

Given = TypeVar("Given", bound=Images)
_DELTA = 3.0  # deviations that an edit goes unless told otherwise


class Model(Autoencoder):
    """Averaged encoder and generator of a snapshot, in evaluation mode.

    resolution: pixels of the longer side of its images (the stage of the snapshot).
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

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "cpu") -> "Model":
        """A model of a folder that `save_pretrained` wrote, a snapshot, or a run directory.

        OWNER/NAME, where it is none of these, is a repository of a hub. Raises as `load`.

        >>> model.save_pretrained(folder / "faces", licence="cc-by-4.0")
        >>> again = Model.from_pretrained(folder / "faces")
        >>> torch.equal(again.sample(1), model.sample(1))
        True
        """
        if not Path(source).exists() and hub.is_repository(str(source)):
            source = hub.pull(str(source))
        return load(source, device)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        licence: str | None = None,
        figures: Mapping[str, Mapping[str, Any]] | None = None,
        images: Images | None = None,
    ) -> None:
        """Write a folder to give away: model.safetensors, config.json, README.md, pictures.

        licence: for the card, such as "cc-by-4.0". figures: as `Evaluation.to_dict` has them under
        "metrics". images: unseen ones, to show how they come back. A folder of a model is written
        anew; directions in it stay where they are of the same networks. InputError where the folder
        cannot be written to or has other things in it, or figures are none, ResourceError when the
        disk is full.
        """
        given = None if images is None else self._take(images)[0]
        pretrained.save(self, Path(folder), licence=licence, figures=figures, images=given)

    def push_to_hub(self, repository: str, *, private: bool = False, **about: Any) -> str:
        """Upload what `save_pretrained` writes, with its options, to OWNER/NAME; -> its address.

        InputError without huggingface_hub, or where the hub refuses.
        """
        with tempfile.TemporaryDirectory() as place:
            self.save_pretrained(place, **about)
            return hub.push(Path(place), repository, private=private)

    def to(self, device: str | torch.device) -> Self:
        """Move it to a device; -> itself."""
        self.__dict__.pop("directions", None)  # which are made where it is
        return super().to(device)

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
        count = whole("count", count)
        stream, most = self._stream(seed, prior, truncation), self.batch_size
        sizes = (min(most, count - start) for start in range(0, count, most))
        return (self.decode(stream.next(size)) for size in sizes)

    def reconstruct(self, images: Given, *, steps: int = PROJECTION_STEPS, seed: int = 0) -> Given:
        """decode(encode(images)): [N, C, R, R] -> [N, C, R, R], both in [-1, 1].

        Without an encoder decode(project(images, steps, seed)).

        A picture gives a picture, a list a list, an array of uint8 an array.

        >>> from PIL import Image
        >>> model.reconstruct(Image.new("RGB", (30, 20))).size
        (8, 8)
        """
        tensor, back = self._take(images)
        if self.encodes:
            return back(self.drawn(self.encode(tensor)))
        return back(self.drawn(self.project(tensor, steps, seed)))

    def project(self, images: Tensor, steps: int = PROJECTION_STEPS, seed: int = 0) -> Tensor:
        """Latents [N, d] whose images are near to others, found by optimisation from samples.

        For a model without an encoder; images are [N, C, R, R] in [-1, 1]. Takes `steps` passes
        of the generator and back. InputError for less than a step.
        """
        return projection.project(self, self._take(images)[0], steps, seed)

    def pictures(self, images: Tensor) -> list[Image.Image]:
        """[N, C, R, R] in [-1, 1] as pictures of Pillow. Raises as `encode`."""
        require_numbers("images", images, "in [-1, 1], as of `decode`")
        self.require_shape(images)
        return to_pictures(images)

    def interpolate(self, images: Given, steps: int = 8) -> Given:
        """Between two images [steps, C, R, R]; between four, a grid [steps * steps, C, R, R].

        Four are its corners: top left, top right, bottom left, bottom right. Latents move along
        great circles on the sphere and along straight lines otherwise.

        >>> [len(model.interpolate(model.sample(n), steps=5)) for n in (2, 4)]
        [5, 25]
        """
        tensor, back = self._take(images)
        paths.require_way(tensor, steps)
        return back(self.between(self.encode(tensor), steps))

    def between(self, corners: Tensor, steps: int = 8) -> Tensor:
        """What `interpolate` shows, between two or four latents: [2, d] or [4, d]."""
        paths.require_way(corners, steps)
        corners, head = self._latents(corners), self.config.head
        if len(corners) == 2:
            return self.decode(paths.line(head, corners[0], corners[1], steps))
        return self.decode(paths.square(head, corners, steps).flatten(0, 1))

    def walk(self, latents: Tensor, steps: int = 16, closed: bool = False) -> Tensor:
        """A walk through latents [N, d], N >= 2: -> [(N - 1) steps + 1, C, R, R].

        closed: back to the first one and up to just before it, for a loop: [N steps, C, R, R].

        >>> len(model.walk(model.sample_latents(3), steps=4))
        9
        """
        paths.require_polyline(latents, steps)
        latents = self._latents(latents)
        return self.decode(paths.polyline(self.config.head, latents, steps, closed))

    @cached_property
    def estimated(self) -> Directions | None:
        """The attributes of the file beside the snapshot; None without one."""
        if self.path is None or not directions_path(self.path).is_file():
            return None
        return load_directions(directions_path(self.path), self.path, self.latent_dim)

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
        if self.estimated:
            found.append(self.estimated.to(self.device))
        require(
            bool(found),
            f"a model of objective {self.objective['name']} knows no attributes: estimate them "
            f"with `pgvae directions --snapshot {self.path or 'PATH'} --dataset NAME`",
        )
        return found[0] if len(found) == 1 else found[0].joined(found[1])

    def edit(
        self,
        images: Given,
        attribute: str | Sequence[str],
        delta: float | Sequence[float] | None = None,
        *,
        to: float | None = None,
    ) -> Given:
        """Images with attributes added or taken away: [N, C, R, R] -> the same, in [-1, 1].

        attribute: one of `directions.names`, or several.
        delta: how far to move along each, in deviations of the prior; negative takes it away.
               [default: 3]
        to:    move instead until the attributes are there with this probability, or, below 1/2,
               until they are gone.

        From the posterior's mean along w / |w| (IntroVAC, section 4.2). InputError for an attribute
        that the model does not know, ValueError for both delta and to.

        >>> model.edit(model.sample(2), ["glasses", "hat"], [2.0, -1.0]).shape
        torch.Size([2, 3, 8, 8])
        """
        tensor, back = self._take(images)
        return back(self.decode(self.move(self.encode(tensor), attribute, delta, to=to)))

    def move(
        self,
        latents: Tensor,
        attribute: str | Sequence[str],
        delta: float | Sequence[float] | None = None,
        *,
        to: float | None = None,
    ) -> Tensor:
        """What `edit` does with latents: [N, d] -> [N, d]."""
        names = [attribute] if isinstance(attribute, str) else list(attribute)
        chosen, latents = self.directions.of(names), self._latents(latents)
        if to is not None:
            if delta is not None:
                raise ValueError(f"delta {delta} and to {to}: give one of them")
            return move_to(self.config.head, latents, chosen, to)
        deltas = numbers("delta", _DELTA if delta is None else delta, len(names))
        if len(deltas) != len(names):
            raise ValueError(f"give a delta for each of {names}: got {deltas}")
        return move(self.config.head, latents, chosen, deltas)

    def sample_conditional(
        self, count: int, attributes: Mapping[str, int], steps: int = LANGEVIN_STEPS, **options: Any
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
        steps: int = LANGEVIN_STEPS,
        *,
        method: Sampling = "langevin",
        step_size: float = LANGEVIN_STEP_SIZE,
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


def load(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a snapshot, or the newest one of a run directory; its averaged generator decodes.

    Raises InputError (no such file, a pickle, another format, no such device here) or
    CorruptFileError.

    >>> load("runs/none.safetensors")
    Traceback (most recent call last):
    pgvae.errors.InputError: no such snapshot: runs/none.safetensors
    """
    chosen = pick_device(str(device))
    file, snapshot = load_newest(Path(path))
    return Model(snapshot, chosen, file)
