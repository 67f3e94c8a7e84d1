"""A run from a request: a new one, or one that goes on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pgvae.checks import require
from pgvae.config import RunConfig
from pgvae.data import Store
from pgvae.errors import InputError, PgvaeError, Preempted
from pgvae.files import sha256_of
from pgvae.inference import pick_device
from pgvae.metrics.table import check_metrics, check_names, require_encoder
from pgvae.objectives import objective_class
from pgvae.request import NEWEST, Request
from pgvae.sizes import MAX_RESOLUTION
from pgvae.snapshot import PRETRAINED, load_snapshot, snapshots_in
from pgvae.training.budget import check_hours, within_hours
from pgvae.training.checkpoint import STATE, checkpoints_in, load_weights
from pgvae.training.dataset import as_taken, opened, reopened
from pgvae.training.describe import describe
from pgvae.training.engine import Means
from pgvae.training.engine import train as run_training
from pgvae.training.plan import Initial, check_request, plan
from pgvae.training.ranks import ALONE, Ranks, joined, local_device
from pgvae.training.referee import require_measurable
from pgvae.training.resume import Kept, fitted_before, gone_on, newest_like
from pgvae.training.rundir import RunDirectory, require_writable
from pgvae.training.stops import Stop
from pgvae.training.tracker import check_tracker
from pgvae.values import option

_OUTDIR, _WORKERS, _TRACKER = "runs", 2, "tensorboard"

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class _Job:
    """A run that is ready to be trained.

    start: weights to start from, where it is new and asked for. stop: what asks it to stop.
    """

    run: RunDirectory
    request: Request
    config: RunConfig
    store: Store
    start: Initial | None = None
    stop: Stop | None = None


def train(request: Request, say: Say = print, stop: Stop | None = None) -> Path:
    """Train what is asked for to its end; -> the run directory.

    Started by torchrun, all processes train it together.

    say: told what there is to say before the run has a log. stop: what asks it to stop.
    Raises Preempted, with all saved, after a signal to stop; InputError for a request that cannot
    be; ResourceError when the disk or the memory is full, or numbers stop being finite.

    >>> from pgvae import Request
    >>> run = train(Request(dataset="photos/", resolution=64))  # doctest: +SKIP
    """
    _check_caller(request)
    kept, stop = None, stop or Stop(request.max_hours)
    if request.resume not in (None, NEWEST):
        kept = Kept.read(Path(request.resume))
    whole = dataclasses.replace(kept.request, **request.asked()) if kept else request
    _check_early(whole, request, kept.path if kept else Path(whole.outdir or _OUTDIR))
    device = local_device(pick_device(whole.device or "auto"))
    with joined(device) as ranks:
        if ranks.index > 0:
            return _follow(ranks, device)
        if kept and request.outdir and Path(request.outdir).resolve() != kept.path.resolve().parent:
            say(f"note: {kept.path} goes on where it is: --outdir {request.outdir} is of new runs")
        if whole.device in (None, "auto") and device.type == "cpu":
            hint = "" if whole.hours or whole.resume else "; --hours H fits a run into a time"
            say(f"no CUDA device found: training on the CPU{hint}")
        try:
            job = _planned(request, kept, whole, ranks, say)
        except PgvaeError as error:
            _tell(ranks, error.exit_code)
            raise
        if isinstance(job, Path):
            _tell(ranks, str(job))
            return job
        _tell(ranks, {
            "run": str(job.run.path),
            "config": job.config.to_dict(),
            "store": str(job.store.path),
            "request": job.request.asked(),
            "starts": job.start is not None,
        })  # fmt: skip
        return _train(dataclasses.replace(job, stop=stop), ranks, device)


def _tell(ranks: Ranks, what: Any) -> None:
    ranks.meet()  # they wait for the images to be prepared
    ranks.told(what)


def _follow(ranks: Ranks, device: torch.device) -> Path:
    """What a process does that another one of the run plans and writes for."""
    ranks.meet()
    told = ranks.told(None)
    if isinstance(told, int):  # which rank 0 says why
        raise SystemExit(told)
    if isinstance(told, str):
        return Path(told)
    request = Request(**told["request"])
    job = _Job(
        run=RunDirectory(Path(told["run"]), lock=False),
        request=request,
        config=RunConfig.from_dict(told["config"]),
        store=Store(told["store"]),
        start=load_initial(request) if told["starts"] else None,
    )
    try:
        return _train(job, ranks, device)
    except Preempted as stopped:
        raise SystemExit(stopped.exit_code) from None


def _planned(
    request: Request, kept: Kept | None, whole: Request, ranks: Ranks, say: Say
) -> _Job | Path:
    """What to train; a run directory where that is done already."""
    outdir = Path(whole.outdir or _OUTDIR)
    sha256 = _sha256_of_start(request)
    if kept:
        if request.dataset is None:
            store = reopened(kept, request)
        else:
            store = opened(whole, say)
            request = as_taken(request, whole, store)
        _check_metrics(whole, store)
        return _gone_on(kept, request, store, sha256, ranks, say)

    # The weights that a run started from may be gone by the time that it is to go on.
    gone = request.resume == NEWEST and request.init_from is not None and sha256 is None
    start = None if gone else load_initial(request)
    store = opened(whole, say)
    _check_metrics(whole, store)
    request = as_taken(request, whole, store)
    if request.hours is not None and not gone:
        before = fitted_before(outdir, request, store.digest, sha256)
        request = before or within_hours(request, store, start, ranks, say)
    config = None if gone else plan(request, store, start)
    if request.resume == NEWEST:
        kept = newest_like(outdir, request.recorded(), store.digest, sha256, config, say)
        if kept:  # whose weights to start from are those that were asked for
            return _gone_on(kept, request, store, kept.config.init_from, ranks, say)
        if config is None:
            load_initial(request)  # says that they are gone
        say(f"no run of these options in {outdir}: starting a new one")
    _require_feasible(config, request, store, ranks)
    run = RunDirectory.create(outdir, config, request)
    return _Job(run, request, config, store, start)


def _gone_on(
    kept: Kept, request: Request, store: Store, sha256: str | None, ranks: Ranks, say: Say
) -> _Job | Path:
    """Go on with a run; sha256: of the weights that the request would start from."""
    kept.require_checkpoint()
    since = store.since(kept.config.dataset_digest)
    whole, config, changes = gone_on(kept, request.recorded(), store.digest, sha256, since)
    if kept.images_seen >= config.schedule.total_images and kept.ended_well:
        say(
            f"{kept.path} is done already, at {kept.images_seen / 1000:g} of "
            f"{config.schedule.total_kimg:g} kimg: --total-kimg K trains on"
        )
        return kept.path
    _require_feasible(config, whole, store, ranks)
    start = None if checkpoints_in(kept.path) else _initial_of(kept, whole)
    for change in changes:
        say(f"going on with {change}")
    run = RunDirectory(kept.path)
    run.write_plan(config, whole)
    return _Job(run, whole, config, store, start)


def _initial_of(kept: Kept, request: Request) -> Initial | None:
    """The weights that a run without a checkpoint began with, and begins with once more.

    Raises InputError where they are gone or became others.
    """
    start = load_initial(request)
    if (start.sha256 if start else None) != kept.config.init_from:
        raise InputError(
            f"{kept.path} has no checkpoint, and the weights that it started from are no more in "
            f"{request.init_from}: bring them back, or start a new run"
        )
    return start


def _train(job: _Job, ranks: Ranks, device: torch.device) -> Path:
    asked, initial = job.request, job.start.snapshot if job.start else None
    means = Means(
        workers=_WORKERS if asked.workers is None else asked.workers,
        batch_gpu=asked.batch_gpu,
        compiled=bool(asked.compile),
        graphs=bool(asked.graphs),
        recompute=bool(asked.recompute),
        inception_weights=Path(asked.inception_weights) if asked.inception_weights else None,
        tracker=asked.tracker or _TRACKER,
    )
    how = {"initial": initial, "stop": job.stop, "ranks": ranks}
    try:
        run_training(job.config, job.store, job.run, device, means, **how)
    finally:
        job.run.close()
    return job.run.path


def _require_feasible(config: RunConfig, request: Request, store: Store, ranks: Ranks) -> None:
    """Raise InputError where a plan cannot be: its metrics, its compiling, the parts of batches."""
    require_measurable(store, config.metrics)
    if not config.model.encoder:
        require_encoder(config.metrics, config.objective["name"])
    require(
        not (request.compile and objective_class(config.objective["name"]).second_order),
        f"--compile: {config.objective['name']} differentiates gradients once more, which "
        "torch.compile does not; leave it out",
    )
    together = config.model.images_together
    for stage in config.schedule.stages:
        require(
            stage.batch_size % ranks.count == 0,
            f"the batch of {stage.batch_size} at {stage.resolution} px is not a multiple of the "
            f"{ranks.count} processes: choose another --batch, or fewer processes",
        )
        require(
            ranks.count == 1 or stage.batch_size // ranks.count % together == 0,
            f"the batch of {stage.batch_size} at {stage.resolution} px, over {ranks.count} "
            f"processes, parts images that the discriminator compares by {together}s: choose a "
            f"--batch that is a multiple of {together * ranks.count}",
        )
    require(
        request.batch_gpu is None or request.batch_gpu >= together,
        f"--batch-gpu {request.batch_gpu}: the discriminator compares images by {together}s; use "
        f"{together} or more",
    )
    require(
        not config.model.has_batch_norm or (ranks.count == 1 and request.batch_gpu is None),
        "batch norm takes statistics over the images of a pass: train it by one process, without "
        "--batch-gpu, or choose other norms",
    )


def dry_run(request: Request, say: Say = print) -> None:
    """Say what a new run would be: its settings, stages and memory; trains nothing.

    Raises InputError as `train`; plain images are prepared.
    """
    _check_caller(request)
    require(
        request.resume in (None, NEWEST),
        f"--dry-run shows the plan of a new run, and {request.resume} has its own in config.json: "
        "leave one of --dry-run and --resume out",
    )
    _check_early(request, request, Path(request.outdir or _OUTDIR))
    start, store = load_initial(request), opened(request, say)
    _check_metrics(request, store)
    if request.hours is not None:
        request = within_hours(request, store, start, ALONE, say)
    config = plan(request, store, start)
    _require_feasible(config, request, store, ALONE)
    say(describe(config, request.batch_gpu, recompute=bool(request.recompute)))


def _check_metrics(request: Request, store: Store) -> None:
    if request.metrics:
        check_names(request.metrics, request.resolution or store.resolutions[-1])


def load_initial(request: Request) -> Initial | None:
    """The weights of `init_from`: of a snapshot, of a run's newest one, or of a checkpoint."""
    if request.init_from is None:
        return None
    file = _start_file(Path(request.init_from))
    read = load_weights(file.parent) if file.name == STATE else load_snapshot(file)
    return Initial(read, sha256_of(file))


def _check_caller(request: Request) -> None:
    """Raise InputError where Python code gives something else, or has set torch otherwise."""
    require(
        isinstance(request, Request),
        f"training takes a Request: got {request!r}; give Request(dataset=...)",
    )
    usual = torch.get_default_dtype() == torch.float32
    require(
        usual and torch.is_grad_enabled(),
        "training needs torch as it is by itself: call it with the default dtype float32, outside "
        "of torch.no_grad() and inference_mode()",
    )


def _check_early(request: Request, asked: Request, writes_to: Path) -> None:
    """Raise InputError for what can be known before images are prepared.

    asked: of the request, what is asked for now.
    """
    if request.dataset is None:
        raise InputError("give --dataset NAME|PATH, or --resume RUN to go on with a run")
    check_request(request)
    if request.resume in (None, NEWEST):
        check_hours(request)
    check_tracker(request.tracker or _TRACKER)
    if request.metrics:
        weights = Path(request.inception_weights) if request.inception_weights else None
        check_metrics(request.metrics, request.resolution or MAX_RESOLUTION, weights)
    for name in () if request.metrics else asked.given("metric_kimg", "inception_weights"):
        raise InputError(f"{option(name)} is of --metrics, and none are measured: leave it out")
    goes_on = request.resume not in (None, NEWEST)
    require_writable(writes_to, "copy the run to another" if goes_on else "choose another --outdir")


def _sha256_of_start(request: Request) -> str | None:
    """Of the weights of `init_from`; None without any, or where they are not there any more."""
    if request.init_from is None or not Path(request.init_from).exists():
        return None
    return sha256_of(_start_file(Path(request.init_from)))


def _start_file(path: Path) -> Path:
    """The file with the weights: a snapshot, a run's newest one, a checkpoint's, a model's."""
    if not path.is_dir():
        return path
    for name in (STATE, PRETRAINED):
        if (path / name).is_file():
            return path / name
    snapshots, checkpoints = snapshots_in(path), checkpoints_in(path)
    if snapshots:
        return snapshots[-1]
    if checkpoints:
        return checkpoints[0] / STATE
    raise InputError(
        f"--init-from {path}: no snapshot and no checkpoint in it; give a snapshot, a run "
        "directory or a checkpoint"
    )
