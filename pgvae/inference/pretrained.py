"""A model as a folder to give away: weights, a description, a card with pictures and figures."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pgvae.checks import require
from pgvae.errors import InputError, PgvaeError
from pgvae.files import atomic_path, disk_errors, remove, remove_left, require_utf8, turn_at
from pgvae.inference.directions import directions_path, kept_directions, save_directions
from pgvae.pictures import interleave, save_grid
from pgvae.seal import digest_of
from pgvae.sizes import size_at
from pgvae.snapshot import PRETRAINED, Snapshot, load_snapshot, save_snapshot
from pgvae.types import AVERAGES, Nets

if TYPE_CHECKING:
    from pgvae.inference.model import Model

CONFIG, CARD = "config.json", "README.md"
_OURS = {PRETRAINED, CONFIG, CARD}  # what a folder of a model always has
_SAMPLES, _PAIRS, _MOST = "samples.png", "reconstructions.png", 16
FILES = (*_OURS, directions_path(Path(PRETRAINED)).name, _SAMPLES, _PAIRS)  # all that is written
_COLUMNS = 8

_PAGE = """\
---
license: {licence}
library_name: pgvae
pipeline_tag: unconditional-image-generation
tags:
- pgvae
- autoencoder
---

# {title}

{what}

![Samples]({samples})

*{count} samples, seed 0, from the {prior} prior.*

{pairs}## What it is

| | |
|---|---|
{facts}

## Figures

{figures}

## Use

```python
import pgvae

model = pgvae.Model.from_pretrained("FOLDER")
images = model.sample(16, seed=0)  # [16, {channels}, {height}, {width}] in [-1, 1]
again = model.reconstruct(picture)  # a picture of Pillow
```

## Licence

{licence_said}
"""
_WHAT = {
    True: "A generative autoencoder: it samples new images, encodes images to {dim} numbers and "
    "decodes them.",
    False: "A generative model without an encoder: it samples new images from {dim} numbers, and "
    "finds those of an image by optimisation.",
}
_PAIRS_SAID = """\
![Reconstructions]({pairs})

*Rows of images, below each as they come back.*

"""


def save(
    model: "Model",
    folder: Path,
    *,
    licence: str | None = None,
    figures: Mapping[str, Mapping[str, Any]] | None = None,
    images: Tensor | None = None,
) -> None:
    """What `Model.save_pretrained` says."""
    wellformed = isinstance(figures or {}, Mapping) and all(
        isinstance(figure, Mapping) for figure in (figures or {}).values()
    )
    require(
        wellformed,
        f'figures are {figures!r}: give them as `Evaluation.to_dict` has them under "metrics", '
        'such as {"psnr": {"value": 21.5}}',
    )
    require_utf8(folder)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk_errors(folder))
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(turn_at(folder))
            _require_own(folder)
            for name in FILES:
                remove_left(folder / name)
            _save_weights(model, folder / PRETRAINED)
            with atomic_path(folder / CONFIG) as aside:
                aside.write_text(json.dumps(_about(model), indent=2) + "\n", encoding="utf-8")
            save_grid(folder / _SAMPLES, model.sample(_MOST), _COLUMNS)
            if images is None or not len(images):
                images = None
                remove(folder / _PAIRS)  # of whatever was here before
            else:
                images = images[:_MOST].to(model.device)
                columns = min(_COLUMNS, len(images))
                again = model.reconstruct(images)
                save_grid(folder / _PAIRS, interleave(images, again, columns=columns), columns)
            with atomic_path(folder / CARD) as aside:
                aside.write_text(_card(model, licence, figures, images), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write to {error.filename or folder}: {error.strerror}; use another folder"
        ) from error


def _require_own(folder: Path) -> None:
    """InputError for a folder of anything but a model, or the part of one that a kill left.

    Hidden files, such as git's, are let be.
    """
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    require(
        not names
        or names >= _OURS
        or (names <= {*FILES} and _read(folder / PRETRAINED) is not None),
        f"{folder} has other files: use a new or empty folder, or one that a model was written to",
    )


def _save_weights(model: "Model", path: Path) -> None:
    nets = Nets(model.encoder, model.generator, model.generator, model.encoder)
    snapshot = Snapshot(
        nets=nets,
        config=replace(model.config, discriminator="none"),  # it is of no use without training
        alpha=model.alpha,
        images_seen=model.images_seen,
        objective=model.objective,
        attributes=model.attributes,
        dataset=model.dataset,
        mean_image=model.mean_image,
        prior=model.prior,
    )
    estimated, beside = model.estimated, directions_path(path)
    if not _has_networks_of(snapshot, path):
        remove(beside)  # which are of another model
    with kept_directions(path, model.latent_dim):
        save_snapshot(path, snapshot, averages_only=True)
    if estimated:
        save_directions(beside, estimated, path)


def _read(path: Path) -> Snapshot | None:
    """What is there, if it can be read."""
    try:
        return load_snapshot(path)
    except PgvaeError:
        return None


def _has_networks_of(snapshot: Snapshot, path: Path) -> bool:
    """Whether a file that can be read has the averages of a snapshot, at the same fade."""
    there = _read(path)
    return there is not None and _sum_of(there) == _sum_of(snapshot)


def _sum_of(snapshot: Snapshot) -> str:
    parts = {name: net for name, net in snapshot.nets.parts().items() if name in AVERAGES}
    tensors = {f"{p}/{k}": v for p, net in parts.items() for k, v in net.state_dict().items()}
    return digest_of(tensors, {"alpha": snapshot.alpha, "model": snapshot.config.to_dict()})


def _about(model: "Model") -> dict[str, Any]:
    """What config.json says: for people and hubs; a model is read from its weights' file alone."""
    return {
        "library_name": "pgvae",
        "objective": dict(model.objective),
        "dataset": model.dataset,
        "resolution": model.resolution,
        "alpha": model.alpha,
        "images_seen": model.images_seen,
        "attributes": list(model.attributes),
        "model": model.config.to_dict(),
    }


def _card(
    model: "Model",
    licence: str | None,
    figures: Mapping[str, Mapping[str, Any]] | None,
    images: Tensor | None,
) -> str:
    name = str(model.objective["name"])
    title = f"{model.dataset or 'images'}, {name}, {model.size} px"
    height, width = size_at(model.config.base, model.resolution)
    said = licence or "Not stated: ask whoever made it before you use it."
    return _PAGE.format(
        licence=json.dumps(licence or "unknown"),
        title=_cell(title),
        what=_WHAT[model.encodes].format(dim=model.latent_dim),
        samples=_SAMPLES,
        count=_MOST,
        prior=model.default_prior,
        pairs="" if images is None else _PAIRS_SAID.format(pairs=_PAIRS),
        facts="\n".join(f"| {k} | {_cell(v)} |" for k, v in _facts(model).items()),
        figures=_table(figures or {}),
        channels=model.config.channels,
        height=height,
        width=width,
        licence_said=_cell(said),
    )


def _facts(model: "Model") -> dict[str, Any]:
    nets = [net for net in (model.generator, model.encoder) if net is not None]
    sizes = [f"{sum(p.numel() for p in net.parameters()):,}" for net in nets]
    return {
        "objective": model.objective["name"],
        "trained on": f"{model.dataset or 'unknown'}, {model.images_seen:,} images seen",
        "images": f"{model.size} px, {model.config.channels} channels",
        "latents": f"{model.latent_dim}, {model.config.head}",
        "networks": f"{model.config.arch}, {' and '.join(sizes)} parameters",
        "attributes": ", ".join(model.attributes) or "none",
    }


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of figures as `Evaluation.to_dict` has them."""
    if not figures:
        return "None were measured."
    rows = [
        f"| {_cell(figure.get('label', name))} | {_number(figure.get('value'))} | "
        f"{_number(figure.get('floor'))} |"
        for name, figure in figures.items()
    ]
    floor = "The floor is what other real images get in the model's place."
    return "\n".join(["| metric | value | floor |", "|---|---|---|", *rows, "", floor])


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "–"


def _cell(value: Any) -> str:
    """A text that breaks no table and no page."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
