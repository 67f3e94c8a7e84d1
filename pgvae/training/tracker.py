"""Where the figures and pictures of a run are shown beside its own files."""

import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pgvae.checks import require
from pgvae.choices import TrackerKind
from pgvae.errors import InputError, one_line
from pgvae.files import atomic_path, content_of

_KEPT = "tracker.json"  # what a tracker calls the run, so that one that goes on is the same there
_PROJECT = "pgvae"
_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}


class Tracker(Protocol):
    """What shows a run while it goes. Time is images seen."""

    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Figures by name, as stats.jsonl has them."""

    def picture(self, name: str, grid: np.ndarray, images_seen: int) -> None:
        """A grid of images, uint8 [H, W, C]."""

    def close(self) -> None:
        """Let go of it, all being shown."""


def check_tracker(kind: TrackerKind) -> None:
    """Raise InputError where its package is missing.

    >>> check_tracker("none")
    """
    package = _PACKAGES.get(kind)
    require(
        package is None or importlib.util.find_spec(package) is not None,
        f"--tracker {kind} needs the package {package}: pip install {package}, or choose another",
    )


def open_tracker(
    kind: TrackerKind,
    run_dir: Path,
    images_seen: int,
    config: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Tracker:
    """The tracker of a run, which may go on from `images_seen`.

    config: of the run, for those that show it. say: told where a service fails, which ends the
    showing and not the run. InputError where it cannot be started for a new run; one that goes on
    does so without.
    """
    if kind == "none":
        return _Nothing()
    if kind == "tensorboard":
        from pgvae.training.board import Board

        return Board(run_dir, images_seen)
    check_tracker(kind)
    make = _Wandb if kind == "wandb" else _Mlflow
    try:
        return _Guarded(kind, make(run_dir, config or {}), say)
    except Exception as error:  # of any client and any network
        failed = f"--tracker {kind} cannot be started: {one_line(error)}"
        if images_seen == 0:
            raise InputError(failed) from error
        say(f"warning: {failed}")
        return _Nothing()


class _Nothing:
    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        pass

    def picture(self, name: str, grid: np.ndarray, images_seen: int) -> None:
        pass

    def close(self) -> None:
        pass


class _Wandb:
    """Weights & Biases, over images seen; WANDB_MODE=offline keeps all in the run directory."""

    def __init__(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self._package = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run_dir.name,
            id=_kept(run_dir, "wandb"),
            resume="allow",
            dir=str(run_dir),
            config=dict(config),
        )
        _keep(run_dir, "wandb", self._run.id)
        self._run.define_metric("*", step_metric="images")

    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        self._run.log({**values, "images": images_seen})

    def picture(self, name: str, grid: np.ndarray, images_seen: int) -> None:
        self._run.log({name: self._package.Image(grid), "images": images_seen})

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """MLflow, where MLFLOW_TRACKING_URI says, by default a database in the run directory."""

    def __init__(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        import mlflow

        self._package = mlflow
        known = _kept(run_dir, "mlflow")
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        if "MLFLOW_TRACKING_URI" not in os.environ:
            own = run_dir.absolute()
            mlflow.set_tracking_uri(f"sqlite:///{own / 'mlflow.db'}")
            if mlflow.get_experiment_by_name(experiment) is None:
                mlflow.create_experiment(experiment, artifact_location=(own / "mlruns").as_uri())
        if not known:
            mlflow.set_experiment(experiment)
        run = mlflow.start_run(run_id=known, run_name=None if known else run_dir.name)
        _keep(run_dir, "mlflow", run.info.run_id)
        if not known:
            mlflow.log_dict(dict(config), "config.json")

    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        named = {re.sub(r"[^\w\-. /]", "_", name): float(v) for name, v in values.items()}
        self._package.log_metrics(named, step=images_seen)

    def picture(self, name: str, grid: np.ndarray, images_seen: int) -> None:
        grey = grid[..., 0] if grid.shape[-1] == 1 else grid
        self._package.log_image(grey, f"{name}-{images_seen:09d}.png")

    def close(self) -> None:
        self._package.end_run()


class _Guarded:
    """A service that is let go of where it fails: no run ends for that."""

    def __init__(self, kind: str, inner: Tracker, say: Callable[[str], None]) -> None:
        self._kind, self._inner, self._say = kind, inner, say

    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        self._try(lambda: self._inner.scalars(values, images_seen))

    def picture(self, name: str, grid: np.ndarray, images_seen: int) -> None:
        self._try(lambda: self._inner.picture(name, grid, images_seen))

    def close(self) -> None:
        self._try(self._inner.close)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._inner = _Nothing()
            self._say(f"warning: {self._kind} shows no more of this run: {one_line(error)}")


def _kept(run_dir: Path, kind: str) -> str | None:
    """What a tracker called the run before."""
    try:
        name = json.loads(content_of(run_dir / _KEPT))[kind]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return name if isinstance(name, str) else None


def _keep(run_dir: Path, kind: str, name: str) -> None:
    with atomic_path(run_dir / _KEPT) as aside:
        aside.write_text(json.dumps({kind: name}) + "\n", encoding="utf-8")
