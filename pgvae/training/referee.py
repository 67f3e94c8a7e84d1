"""Metrics while a run trains, and the best snapshot by the first of them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from pgvae.checks import require
from pgvae.config import RunConfig
from pgvae.data import Store
from pgvae.evaluation import Evaluation, evaluate, images_for
from pgvae.files import atomic_path, content_of
from pgvae.inference import Model
from pgvae.metrics.table import decider, defined_at
from pgvae.snapshot import MALFORMED, Snapshot, save_snapshot
from pgvae.training.log import RunLog

_BEST, _ABOUT = "best.safetensors", "best.json"


def judged_split(store: Store) -> str:
    """That of the images by which a run is measured: those held out, where there are two."""
    return "val" if len(store.split("val")) > 1 else "train"


def require_measurable(store: Store, names: Sequence[str]) -> None:
    """Raise InputError where a set has too few images to measure some metrics while it trains."""
    require(
        not names or images_for(store, judged_split(store)) >= 2,
        f"--metrics {','.join(names)}: {store.name} has {len(store.split('val'))} images held out "
        f"and {len(store.split('train'))} to train with, too few to measure with: prepare more, or "
        "give --metrics none",
    )


class Referee:
    """Measures snapshots on unseen images (training images where there are none).

    The first metric that has a better and a worse (not MS-SSIM, not latents) decides which
    snapshot is the best; one of a higher resolution, or faded in further, always is, as figures
    compare only within a resolution. What the best one was is in best.json, so a resumed run goes
    on with it.
    """

    def __init__(
        self,
        config: RunConfig,
        store: Store,
        run_dir: Path,
        device: torch.device,
        inception_weights: Path | None = None,
    ) -> None:
        self._names, self._seed = config.metrics, config.seed
        self._decider = decider(config.metrics)
        self._store, self._run_dir, self._device = store, run_dir, device
        self._inception_weights = inception_weights
        self._split = judged_split(store)

    def judge(self, snapshot: Snapshot, log: RunLog) -> None:
        """Measure, log each figure with its floor, and keep the snapshot if it is the best."""
        resolution = snapshot.nets.ema.resolution
        names = defined_at(self._names, resolution)
        if not names:
            return
        model = Model(snapshot, self._device)
        found = evaluate(
            model,
            self._store,
            names,
            split=self._split,
            seed=self._seed,
            inception_weights=self._inception_weights,
        )
        values = {f"metric/{name}": figure.value for name, figure in found.figures.items()}
        floors = {
            f"metric/{name} floor": figure.floor
            for name, figure in found.figures.items()
            if figure.floor is not None
        }
        is_best = self._keep(snapshot, found)
        log.stats(snapshot.images_seen, values | floors)  # last: what has figures is done
        log.say(
            f"{found.count:,} {self._split} images: "
            + ", ".join(f"{f.label} {f.value:.4g}" for f in found.figures.values())
            + f"; samples from the {found.prior} prior"
            + (f"; the best so far: {_BEST}" if is_best else "")
        )

    def _keep(self, snapshot: Snapshot, found: Evaluation) -> bool:
        """Write the snapshot if its deciding figure is better than that of the best one."""
        deciding = found.by_metric.get(self._decider)
        if not deciding:
            return False
        name, figure = next(iter(deciding.items()))
        about = {
            "metric": name,
            "value": figure.value,
            "resolution": snapshot.nets.ema.resolution,
            "alpha": snapshot.alpha,
            "images_seen": snapshot.images_seen,
        }
        best = self._best()
        if not math.isfinite(figure.value):
            return False
        if best and best["metric"] == name:
            stage, other = ((a["resolution"], a["alpha"]) for a in (about, best))
            if stage < other or (stage == other and not figure.beats(best["value"])):
                return False
        save_snapshot(self._run_dir / _BEST, snapshot)
        with atomic_path(self._run_dir / _ABOUT) as aside:
            aside.write_text(json.dumps(about) + "\n")
        return True

    def _best(self) -> dict | None:
        """What best.json says; None where there is no best snapshot, or the file is damaged."""
        try:
            best = json.loads(content_of(self._run_dir / _ABOUT))
            numbers = {name: float(best[name]) for name in ("value", "resolution", "alpha")}
            metric = best["metric"]
        except (OSError, *MALFORMED):
            return None
        sound = all(map(math.isfinite, numbers.values())) and (self._run_dir / _BEST).is_file()
        return {"metric": metric, **numbers} if sound else None
