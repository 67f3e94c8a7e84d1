"""A long run in a process of its own: `python long_run.py SET RUN SAMPLES`.

What the process holds is looked at before every iteration, and written to SAMPLES.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from runs import tiny_config  # noqa: E402

from pgvae import tuning  # noqa: E402
from pgvae.config import ModelConfig, RunConfig  # noqa: E402
from pgvae.data import Store  # noqa: E402
from pgvae.objectives import OBJECTIVES  # noqa: E402
from pgvae.schedule import Schedule, Stage  # noqa: E402
from pgvae.training import engine  # noqa: E402
from pgvae.training.rundir import RunDirectory  # noqa: E402

BATCH = 2
ITERATIONS = {4: 3000, 8: 2400, 16: 1800, 32: 1200, 64: 800, 128: 480, 256: 400}
SNAPSHOT_ITERATIONS, KEPT = 40, 3  # so that each stage has several once it has settled


def config_of(store: Store) -> RunConfig:
    """Seven stages of `ITERATIONS`, the first quarter of each above 4 px in its fade."""
    settings = OBJECTIVES["rivae"]().model_settings()
    stages = tuple(
        Stage(
            resolution=resolution,
            batch_size=BATCH,
            lr=1e-4,
            fade_kimg=0.0 if resolution == 4 else count * BATCH / 4000,
            stable_kimg=count * BATCH / 1000 * (1.0 if resolution == 4 else 0.75),
        )
        for resolution, count in ITERATIONS.items()
    )
    total = sum(ITERATIONS.values()) * BATCH / 1000
    return tiny_config(
        store,
        "rivae",
        model=ModelConfig(resolution=max(ITERATIONS), latent_dim=4, fmap_max=4, **settings),
        schedule=Schedule(stages=stages, total_kimg=total),
        snapshot_kimg=SNAPSHOT_ITERATIONS * BATCH / 1000,
        keep_snapshots=KEPT,
    )


def held() -> dict[str, int]:
    """Of this process: resident kilobytes, open files, threads."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "rss": int(lines["VmRSS"].split()[0]),
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": int(lines["Threads"]),
    }


def main(data: Path, run_dir: Path, samples: Path) -> None:
    """Train it."""
    torch.set_num_threads(1)
    tuning.keep_freed_memory()
    step = engine.train_step
    with samples.open("w", buffering=1) as out:

        def looked_at(state: Any, *arguments: Any) -> dict[str, torch.Tensor]:
            seen = {"images": state.images_seen, "resolution": state.resolution}
            out.write(json.dumps(seen | held()) + "\n")
            return step(state, *arguments)

        engine.train_step = looked_at
        store = Store(data)
        engine.train(config_of(store), store, RunDirectory(run_dir), torch.device("cpu"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
