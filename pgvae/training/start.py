"""A run from a request: a new one, or one that goes on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from pgvae.config import MAX_RESOLUTION, RunConfig
from pgvae.data import Store, open_dataset, prepared_in
from pgvae.errors import InputError
from pgvae.files import sha256_of
from pgvae.inference import pick_device
from pgvae.metrics.table import check_metrics, check_names
from pgvae.request import NEWEST, Request
from pgvae.snapshot import load_snapshot, snapshots_in
from pgvae.training.checkpoint import STATE, checkpoints_in, load_weights
from pgvae.training.describe import describe
from pgvae.training.engine import train as run_training
from pgvae.training.plan import Initial, check_request, plan
from pgvae.training.resume import Kept, gone_on, newest_like
from pgvae.training.rundir import RunDirectory, require_writable

_OUTDIR, _DATA_ROOT, _WORKERS = "runs", "datasets", 2

Say = Callable[[str], None]


def train(request: Request, say: Say = print) -> Path:
    """Train what is asked for to its end; -> the run directory.

    say: told what there is to say before the run has a log.
    Raises Preempted, with all saved, after a signal to stop; InputError for a request that cannot
    be; ResourceError when the disk or the memory is full, or numbers stop being finite.

    >>> from pgvae import Request
    >>> run = train(Request(dataset="photos/", resolution=64))  # doctest: +SKIP
    """
    kept = None
    if request.resume not in (None, NEWEST):
        kept = Kept.read(Path(request.resume))
    whole = dataclasses.replace(kept.request, **request.asked()) if kept else request
    outdir = Path(whole.outdir or _OUTDIR)
    _check_early(whole, kept.path if kept else outdir)
    device = pick_device(whole.device or "auto")
    if whole.device in (None, "auto") and device.type == "cpu":
        say("no CUDA device found: training on the CPU")
    sha256 = _sha256_of_start(request)
    if kept:
        if request.dataset is None and _is_prepared(kept.config.dataset, whole):
            whole = dataclasses.replace(whole, dataset=kept.config.dataset)  # whatever became of
        return _go_on(kept, request, _open(whole, say), device, sha256, say)  # the images since

    # The weights that a run started from may be gone by the time that it is to go on.
    gone = request.resume == NEWEST and request.init_from is not None and sha256 is None
    start = None if gone else load_initial(request)
    store = _open(whole, say)
    config = None if gone else plan(request, store, start)
    if request.resume == NEWEST:
        kept = newest_like(outdir, request.recorded(), store.digest, sha256, config)
        if kept:  # whose weights to start from are those that were asked for
            return _go_on(kept, request, store, device, kept.config.init_from, say)
        if config is None:
            load_initial(request)  # says that they are gone
        say(f"no run of these options in {outdir}: starting a new one")
    run = RunDirectory.create(outdir, config, request)
    return _train(run, request, config, store, device, start)


def _go_on(
    kept: Kept, request: Request, store: Store, device: torch.device, sha256: str | None, say: Say
) -> Path:
    """Go on with a run; sha256: of the weights that the request would start from."""
    kept.require_checkpoint()
    whole, config, changes = gone_on(kept, request.recorded(), store.digest, sha256)
    if kept.images_seen >= config.schedule.total_images:
        say(
            f"{kept.path} is done already, at {kept.images_seen / 1000:g} of "
            f"{config.schedule.total_kimg:g} kimg: --total-kimg K trains on"
        )
        return kept.path
    for change in changes:
        say(f"going on with {change}")
    run = RunDirectory(kept.path)
    run.write_plan(config, whole)
    return _train(run, whole, config, store, device)


def _train(
    run: RunDirectory,
    request: Request,
    config: RunConfig,
    store: Store,
    device: torch.device,
    start: Initial | None = None,
) -> Path:
    weights = request.inception_weights
    try:
        run_training(
            config,
            store,
            run,
            device,
            workers=_WORKERS if request.workers is None else request.workers,
            initial=start.snapshot if start else None,
            inception_weights=Path(weights) if weights else None,
        )
    finally:
        run.close()
    return run.path


def dry_run(request: Request, say: Say = print) -> None:
    """Say what a new run would be: its settings, stages and memory; trains nothing.

    Raises InputError as `train`; plain images are prepared.
    """
    _check_early(request, Path(request.outdir or _OUTDIR))
    start = load_initial(request)
    say(describe(plan(request, _open(request, say), start)))


def load_initial(request: Request) -> Initial | None:
    """The weights of `init_from`: of a snapshot, of a run's newest one, or of a checkpoint."""
    if request.init_from is None:
        return None
    file = _start_file(Path(request.init_from))
    read = load_weights(file.parent) if file.name == STATE else load_snapshot(file)
    return Initial(read, sha256_of(file))


def _check_early(request: Request, writes_to: Path) -> None:
    """Raise InputError for what can be known before images are prepared."""
    if request.dataset is None:
        raise InputError("give --dataset NAME|PATH, or --resume RUN to go on with a run")
    check_request(request)
    if request.metrics:
        weights = Path(request.inception_weights) if request.inception_weights else None
        check_metrics(request.metrics, request.resolution or MAX_RESOLUTION, weights)
    require_writable(writes_to)


def _open(request: Request, say: Say) -> Store:
    root = Path(request.data_root or _DATA_ROOT)
    store = open_dataset(request.dataset, root, resolution=request.resolution, say=say)
    if request.metrics:
        check_names(request.metrics, request.resolution or store.resolutions[-1])
    return store


def _is_prepared(name: str, request: Request) -> bool:
    return name in prepared_in(Path(request.data_root or _DATA_ROOT))


def _sha256_of_start(request: Request) -> str | None:
    """Of the weights of `init_from`; None without any, or where they are not there any more."""
    if request.init_from is None or not Path(request.init_from).exists():
        return None
    return sha256_of(_start_file(Path(request.init_from)))


def _start_file(path: Path) -> Path:
    """The file with the weights: a snapshot, a run's newest one, or a checkpoint's state."""
    if not path.is_dir():
        return path
    if (path / STATE).is_file():
        return path / STATE
    snapshots, checkpoints = snapshots_in(path), checkpoints_in(path)
    if snapshots:
        return snapshots[-1]
    if checkpoints:
        return checkpoints[0] / STATE
    raise InputError(
        f"--init-from {path}: no snapshot and no checkpoint in it; give a snapshot, a run "
        "directory or a checkpoint"
    )
