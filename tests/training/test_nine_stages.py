"""All nine stages, 4 to 1024 px, on real 1024 px photographs, with small maps on a CPU."""

import json
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from memory import forget_peak, peak
from runs import CPU, NO_STORE, tiny_config

from pgvae.config import ModelConfig
from pgvae.objectives import OBJECTIVES
from pgvae.request import Request
from pgvae.schedule import from_preset
from pgvae.training.state import TrainState
from pgvae.training.step import train_step
from pgvae.types import Batch

SECONDS, GIBIBYTES = 600, 8


def run(words: list[str], folder: Path, *, stop_when: str = "") -> int:
    """Run a command; send SIGTERM once its output shows `stop_when`. -> its exit code."""
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if stop_when and re.search(stop_when, line):
                process.send_signal(signal.SIGTERM)
                stop_when = ""
    return process.returncode


@pytest.mark.slow
@pytest.mark.shared_data
def test_all_nine_stages_with_a_resume_in_mid_fade(shared_data, tmp_path, command_line):
    prepare = command_line(
        "data", "prepare", shared_data / "photos-1024.zip", "--name", "photos", "--data-root", "d"
    )
    train = command_line(
        *("train.py", "--dataset", "photos", "--data-root", "d", "--resume", "--batch", 4),
        *("--fmap-max", 16, "--latent-dim", 32, "--kimg-per-stage", 0.032),
    )
    began = time.monotonic()
    prepared = run(prepare, tmp_path)
    stopped = run(train, tmp_path, stop_when=r" 512px  alpha 0\.[2-8]")
    finished = run(train, tmp_path)
    seconds = time.monotonic() - began
    gibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"nine stages: {seconds:.0f} s, {gibibytes:.2f} GiB")

    assert (prepared, stopped, finished) == (0, 75, 0)
    (run_dir,) = (tmp_path / "runs").iterdir()
    stats = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    seen = [record["resolution"] for record in stats if "resolution" in record]
    assert sorted(set(seen)) == [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert seen == sorted(seen)
    assert json.loads((run_dir / "status.json").read_text())["status"] == "done"
    assert "at 0.2" in (run_dir / "log.txt").read_text()  # it went on from the middle
    assert seconds < SECONDS
    assert gibibytes < GIBIBYTES


@pytest.mark.slow
def test_a_full_width_step_at_1024_px_is_finite():
    objective = OBJECTIVES["pioneer"]()
    model = ModelConfig(resolution=1024, **objective.model_settings())
    schedule = from_preset(objective.schedule, (1024,), Request(batch=2))
    config = tiny_config(NO_STORE, model=model, schedule=schedule)
    torch.set_num_threads(os.cpu_count() or 1)
    forget_peak()
    try:
        state = TrainState.create(config, CPU, 1024)
        images = torch.rand(2, 3, 1024, 1024, generator=torch.Generator().manual_seed(0)) * 2 - 1
        scalars = train_step(state, objective, config.schedule.at(0), Batch(images), "fp32")
    finally:
        torch.set_num_threads(1)
    assert all(value.isfinite() for value in scalars.values())
    assert state.skips.read() == (0, 0)
    print(f"full width at 1024 px, batch 2: {peak() / 2**20:.1f} GiB")
    assert peak() / 2**20 < 20
