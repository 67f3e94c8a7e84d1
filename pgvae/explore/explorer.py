"""What can be seen of a model: pictures and figures of points, for any number of askers at once."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pgvae.checks import require
from pgvae.choices import Prior
from pgvae.data import Store, fade_images, read_images
from pgvae.explore import components, shown
from pgvae.explore.components import Components
from pgvae.explore.points import Point
from pgvae.explore.uploads import Uploads
from pgvae.inference import Model, directions_path, load, paths
from pgvae.inference.directions import Directions
from pgvae.inference.images import batches_for, encode, require_fitting
from pgvae.metrics import psnr, rmse
from pgvae.metrics.neighbours import nearest
from pgvae.snapshot import snapshots_in

_THUMB = 48  # px of pictures at the ends of sliders
_ENDS = {"attributes": (-6.0, -3.0, 3.0, 6.0), "components": (-4.0, -2.0, 2.0, 4.0)}
_PIXELS, _LEAST, _MOST = 2**22, 64, 2048  # of images whose latents have components
_DRAWS = 4096  # of a prior in their place
_SCREEN = 2**21  # pixels of images that are made at once
_MOST_LOADED = 2  # snapshots kept beside the first
_MOST_STARTS = 1024  # latents kept, so that a slider does not encode its image at each move


class Look(NamedTuple):
    """Images [N, C, R, R] in [-1, 1], and how sure the attributes are of each: [N, K] or None."""

    images: Tensor
    sure: Tensor | None


class Reconstruction(NamedTuple):
    """An image and what comes back, [1, C, R, R] each, and how far they are apart."""

    image: Tensor
    again: Tensor
    psnr: float
    rmse: float


class Neighbours(NamedTuple):
    """Images of a set, their names, and mean |difference| of pixels in 8-bit levels, best first."""

    images: Tensor
    names: list[str]
    distances: list[float]


class Explorer:
    """A model, the other snapshots of its run, and images to look at. Threads may share it.

    model: of a snapshot's file.
    run:   the directory of its run, whose other snapshots are there too; None: it is alone.
    store: a prepared set: its unseen images are offered, neighbours are of its training images.

    InputError where the set has no images for the model, CorruptFileError where the file of its
    attributes is damaged.
    """

    def __init__(self, model: Model, run: Path | None = None, store: Store | None = None) -> None:
        self.model, self.store = model.hold(), store
        if store is not None:
            require_fitting(store, model)
        self._unseen = store.split("val") if store is not None else np.empty(0, np.int64)
        self._run = run
        self.attributes = _attributes(model)
        self.uploads = Uploads(model.resolution, model.config.channels, model.config.base)
        self._found: Components | None = None
        self._starts: dict[tuple, Tensor] = {}
        self._loaded: dict[int, Model] = {}
        self._lock, self._loading = Lock(), Lock()

    def about(self) -> dict[str, Any]:
        """What a page must know, ready for JSON."""
        model, store = self.model, self.store
        priors = [p for p in get_args(Prior) if p == "training" or model.prior is not None]
        return {
            "title": self._run.resolve().name if self._run else model.path.name,
            "snapshot": model.path.name,
            "objective": model.objective["name"],
            "trained_on": model.dataset,
            "resolution": model.resolution,
            "size": model.size,
            "shape": model.config.base[1] / model.config.base[0],
            "latent_dim": model.latent_dim,
            "images_seen": model.images_seen,
            "priors": priors,
            "prior": model.default_prior,
            "truncates": [p for p in priors if p == "fitted" or model.config.head == "gaussian"],
            "attributes": list(self.attributes.names) if self.attributes else [],
            "dataset": store.name if store else None,
            "unseen": len(self._unseen),
            "training": len(store) - len(self._unseen) if store else 0,
            "snapshots": sorted({*self._snapshots(), model.images_seen}),
            "endings": shown.endings(),
            "tiles": self._affordable(4, 16),
            "steps": math.isqrt(self._affordable(9, 64)),
        }

    def latents(self, points: Sequence[Point]) -> Tensor:
        """[N, d] of points; InputError for an image or a move that is not there."""
        if not points:
            return torch.empty(0, self.model.latent_dim, dtype=torch.float32)
        start = torch.cat([self._start(point) for point in points])
        return torch.cat([self._moved(z[None], p) for z, p in zip(start, points, strict=True)])

    def look(self, points: Sequence[Point], at: int | None = None) -> Look:
        """The images of points by the snapshot after `at` images, None: the newest."""
        latents = self.latents(points)
        sure = torch.sigmoid(self.attributes.logits(latents)).cpu() if self.attributes else None
        return Look(self.model_at(at).decode(latents), sure)

    def reconstruction(self, point: Point, at: int | None = None) -> Reconstruction:
        """An image of a set or one that was sent, encoded and decoded by the snapshot after `at`.

        InputError for a sample.
        """
        require(point.kind != "seed", "a sample is no image to reconstruct")
        image, model = self.images([point], at), self.model_at(at)
        again = model.decode(model.encode(image))
        figures = psnr(image, again).item(), rmse(image, again).item()
        return Reconstruction(image, again, *figures)

    def images(self, points: Sequence[Point], at: int | None = None) -> Tensor:
        """The images [N, C, R, R] that points are of, as the snapshot was trained on them."""
        pixels, model = [self._pixels(point) for point in points], self.model_at(at)
        images = torch.from_numpy(np.stack(pixels)).to(model.device).float() / 127.5 - 1
        return fade_images(shown.reduced(images, model.resolution), model.alpha)

    def between(self, corners: Sequence[Point], steps: int, at: int | None = None) -> Tensor:
        """A line of `steps` images between two corners, of steps x steps between three or four.

        Of three the last is both of the lower corners.
        """
        latents, head = self.latents(corners), self.model.config.head
        if len(corners) == 2:
            way = paths.line(head, *latents, steps)
        else:
            four = torch.cat([latents, latents[-1:]])[:4]
            way = paths.square(head, four, steps).flatten(0, 1)
        return self.model_at(at).decode(way)

    def walk(self, corners: Sequence[Point], steps: int, at: int | None = None) -> Tensor:
        """From corner to corner and back to the first: [N steps, C, R, R]."""
        return self.model_at(at).walk(self.latents(corners), steps, closed=True)

    def nearest(self, point: Point, at: int | None = None, count: int = 6) -> Neighbours:
        """The training images nearest to what is seen, by L1; InputError without a set."""
        store, model = self.store, self.model
        require(store is not None, "training images are needed: start with --dataset NAME")
        training = store.split("train")
        count = min(count, len(training))
        query = self.look([point], at).images
        drawn = max(query.shape[2:])
        require(
            drawn == model.resolution,
            f"this snapshot draws at {drawn} px, the others at {model.resolution} px: "
            "take a later one",
        )
        figures, places = nearest(query, batches_for(model, store, training), "l1", count)
        chosen, names = training[places[0].numpy()], store.names()
        images = read_images(store, chosen, model.resolution)
        return Neighbours(images, [names[i] for i in chosen], figures[0].tolist())

    def components(self) -> Components:
        """Of the latents of training images; without a set of those that samples have; once."""
        with self._lock:
            if self._found is None:
                self._found = components.principal(self._known_latents())
            return self._found

    def ends(self) -> dict[str, Tensor]:
        """What lies at the ends of each slider from the mean latent: [K, 4, C, S, S], S small."""
        found = self.components()
        mean = found.mean[None]
        mean = normalize(mean, dim=1) if self.model.config.head == "sphere" else mean
        moved: dict[str, list[Tensor]] = {"attributes": [], "components": []}
        for name in self.attributes.names if self.attributes else ():
            moved["attributes"] += [self.model.move(mean, name, s) for s in _ENDS["attributes"]]
        for k in range(len(found)):
            moved["components"] += [self._along(mean, {k: s}) for s in _ENDS["components"]]
        return {
            part: shown.reduced(self.model.decode(torch.cat(latents)), _THUMB).unflatten(0, (-1, 4))
            for part, latents in moved.items()
            if latents
        }

    def model_at(self, at: int | None) -> Model:
        """The model of the snapshot after so many images; InputError where there is none."""
        if at in (None, self.model.images_seen):
            return self.model
        with self._loading:
            if at not in self._loaded:
                path = self._snapshots().get(at)
                require(path is not None, f"there is no snapshot after {at:,} images any more")
                found = load(path, self.model.device).hold()
                own = (self.model.latent_dim, self.model.config.head)
                require(
                    (found.latent_dim, found.config.head) == own,
                    f"{path.name} has other latents than {self.model.path.name}: it is of "
                    "another run",
                )
                while len(self._loaded) >= _MOST_LOADED:
                    del self._loaded[next(iter(self._loaded))]
                self._loaded[at] = found
            return self._loaded[at]

    def said(self) -> dict[str, Any]:
        """Of which model saved latents are."""
        model = self.model
        return {"snapshot": model.path.name, "resolution": model.resolution, **model.objective}

    def _snapshots(self) -> dict[int, Path]:
        """Those of the run by images seen, up to the model; of a single file none.

        A run that goes on writes later ones, maybe of larger images.
        """
        found = {int(p.stem[9:]): p for p in snapshots_in(self._run)} if self._run else {}
        return {seen: path for seen, path in found.items() if seen <= self.model.images_seen}

    def _affordable(self, least: int, most: int) -> int:
        """Images at once that a page asks for, so that large ones do not keep it waiting."""
        return max(least, min(most, _SCREEN // self.model.resolution**2))

    def _start(self, point: Point) -> Tensor:
        """Where a point's moves begin: [1, d]."""
        source = (point.kind, point.key, point.prior, point.truncation)
        found = self._starts.get(source)
        if found is None:
            if point.kind == "seed":
                found = self.model.sample_latents(1, *source[1:]).to(self.model.device)
            else:
                found = self.model.encode(self.images([point]))
            if len(self._starts) >= _MOST_STARTS:
                self._starts.clear()
            self._starts[source] = found
        return found

    def _pixels(self, point: Point) -> np.ndarray:
        if point.kind == "image":
            return self.uploads.pixels(point.key)
        require(point.key < len(self._unseen), f"there are {len(self._unseen)} unseen images here")
        return self.store.get(self._unseen[point.key], self.model.resolution)

    def _moved(self, latents: Tensor, point: Point) -> Tensor:
        if point.attributes:
            require(self.attributes is not None, "this model knows no attributes")
            latents = self.model.move(latents, [*point.attributes], [*point.attributes.values()])
        return self._along(latents, point.components) if point.components else latents

    def _along(self, latents: Tensor, sizes: Mapping[int, float]) -> Tensor:
        return components.move(self.model.config.head, latents, self.components(), sizes)

    def _known_latents(self) -> Tensor:
        """Where the encoder puts images: training images, or what the fitted prior knows of them.

        A training prior is alike in all directions, so that samples must be encoded again.
        """
        model = self.model
        count = max(_LEAST, min(_MOST, _PIXELS // model.resolution**2))
        if self.store is not None:
            training = np.random.default_rng(0).permutation(self.store.split("train"))[:count]
            return encode(model, self.store, training)
        if model.prior is not None:
            return model.sample_latents(_DRAWS, prior="fitted")
        draws = model.sample_latents(count).split(model.batch_size)
        return torch.cat([model.encode(model.decode(part)).cpu() for part in draws])


def _attributes(model: Model) -> Directions | None:
    """Those that it knows; raises where a file beside it is damaged or of another snapshot."""
    known = model.classifies or directions_path(model.path).is_file()
    return model.directions if known else None
