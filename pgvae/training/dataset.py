"""The prepared set of a run: as it is asked for, as the run keeps it, and found again."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from pgvae.checks import require
from pgvae.data import Store, open_dataset, prepared_set
from pgvae.request import Request
from pgvae.sizes import parse_size
from pgvae.training.resume import Kept

_DATA_ROOT = "datasets"


def opened(request: Request, say: Callable[[str], None]) -> Store:
    """The set that is asked for; plain images are prepared. InputError as `open_dataset`."""
    base = parse_size(request.size)[1] if request.size else None
    root = Path(request.data_root or _DATA_ROOT)
    return open_dataset(str(request.dataset), root, request.resolution, say, base)


def as_taken(request: Request, whole: Request, store: Store) -> Request:
    """The request with the set and the root that were taken, in words that hold from any folder.

    whole: the request with what the run was asked before. A set in the root is said by its name,
    whatever else has that name; what was given as a path, and plain images, by their path.
    """
    root, dataset = Path(whole.data_root or _DATA_ROOT), str(request.dataset)
    by_path = "/" in dataset and Path(dataset).exists()
    named = store.path == root / dataset and not by_path
    name = dataset if named else str(Path(dataset).absolute())
    return dataclasses.replace(request, dataset=name, data_root=str(root.absolute()))


def reopened(kept: Kept, request: Request) -> Store:
    """The set that a run had, under the root that is asked for, else that of before or `datasets`.

    None is prepared, whatever became of the images. Raises InputError where it is gone; it may be
    another one of that name, by its digest.
    """
    before = dict.fromkeys([kept.request.data_root or _DATA_ROOT, _DATA_ROOT])
    roots = [request.data_root] if request.data_root else [*before]
    names = [str(kept.request.dataset), kept.config.dataset]
    found = [
        store
        for root in roots
        for name in names
        if (store := prepared_set(name, Path(root), say=lambda _: None)) is not None
    ]
    require(
        bool(found),
        f"the images of {kept.path} are gone: there is no set {kept.config.dataset} in "
        f"{' or '.join(roots)}; give --data-root with the folder that has it, or --dataset with "
        "the same images",
    )
    digest = kept.config.dataset_digest
    return next((store for store in found if store.digest == digest), found[0])
