"""What an iteration would take, found on tensors without numbers."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from runs import CPU, NO_STORE, random_batch, tiny_config

from pgvae.config import RunConfig
from pgvae.objectives import OBJECTIVES, objective_from
from pgvae.training.describe import memory_of
from pgvae.training.rehearsal import Ledger, bytes_of_iteration
from pgvae.training.state import TrainState
from pgvae.training.step import train_step


def bytes_of_real_one(config: RunConfig, images_seen: int, at_once: int | None) -> tuple[int, int]:
    """(bytes that stay, the most beside them) of the second iteration of real networks."""
    moment = config.schedule.at(images_seen)
    with Ledger() as ledger:
        state = TrainState.create(config, CPU, moment.resolution)
        state.images_seen, state.batch_gpu = images_seen, at_once
        batch, objective = random_batch(state), objective_from(config.objective)
        train_step(state, objective, moment, batch, "fp32")
        ledger.peak = ledger.now
        train_step(state, objective, moment, batch, "fp32")
        del batch
        return ledger.now, ledger.peak - ledger.now


@pytest.mark.parametrize(("name", "at_once"), [*((n, None) for n in OBJECTIVES), ("pioneer", 1)])
def test_tensors_without_numbers_take_what_real_ones_do(name: str, at_once: int | None) -> None:
    config = tiny_config(NO_STORE, name)
    real = bytes_of_real_one(config, 140, at_once)
    found = bytes_of_iteration(config, config.schedule.at(140), at_once)
    assert found == pytest.approx(real, rel=0.03)


def test_the_ledger_counts_what_lives_and_each_storage_once() -> None:
    with Ledger() as ledger:
        kept = torch.zeros(1000)
        view = kept.view(10, 100).t()
        for _ in range(3):
            torch.zeros(500)
        assert (ledger.now, ledger.peak) == (4000, 6000)
        del kept
        assert ledger.now == 4000  # the view's
        del view
        assert ledger.now == 0


def test_activations_that_are_worked_out_twice_take_less() -> None:
    config = tiny_config(NO_STORE, "vae")
    model = dataclasses.replace(config.model, resolution=512)
    config = dataclasses.replace(config, model=model)
    moment = dataclasses.replace(config.schedule.at(140), resolution=512)
    kept, less = (bytes_of_iteration(config, moment, recompute=r) for r in (False, True))
    assert less[0] == kept[0]
    assert less[1] < kept[1]


_ONE_CASE = """
import json, sys
sys.path.insert(0, "benchmarks")
from throughput import run_case
print(json.dumps(run_case(json.loads(sys.argv[1]))))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("px", "batch", "maps"), [(8, 64, 128), (32, 16, 64)])
def test_a_real_process_has_in_memory_what_was_estimated(px: int, batch: int, maps: int) -> None:
    case = {"px": px, "batch": batch, "maps": maps, "mode": "native", "device": "cpu"}
    case |= {"precision": "fp32", "seconds": 0}
    sys.path.insert(0, "benchmarks")
    from scaling import config_of

    words = [sys.executable, "-c", _ONE_CASE, json.dumps(case)]
    found = json.loads(subprocess.check_output(words))["bytes"] / 2**30
    config = config_of(px, maps, maps, batch)
    assert memory_of(config, config.schedule.at(0)) == pytest.approx(found, rel=0.2)
