"""TensorBoard's file is whole whenever its run is killed."""

import multiprocessing
import random
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from events import records_of
from tensorboard.compat.tensorflow_stub import errors

from pgvae.training.board import Board


def write_for_ever(run_dir: Path) -> None:
    """Pictures of noise, of 30 kB each, and figures of which each call writes more than 8 kB."""
    board, rng = Board(run_dir, 0), np.random.default_rng(0)
    figures = {f"loss of attribute {number}": 1.0 for number in range(200)}
    for images in count():
        board.scalars(figures, images)
        board.picture("fakes", rng.integers(0, 256, (100, 100, 3), np.uint8), images)


def test_after_a_kill_every_event_is_whole(tmp_path):
    context, rng, found = multiprocessing.get_context("forkserver"), random.Random(0), 0
    context.set_forkserver_preload(["pgvae.training.board"])
    for kill in range(20):
        (folder := tmp_path / str(kill)).mkdir()
        process = context.Process(target=write_for_ever, args=(folder,))
        process.start()
        while not [file for file in folder.iterdir() if file.stat().st_size > 50_000]:
            assert process.is_alive()
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        (file,) = folder.iterdir()
        found += len(records_of(file))
    assert found > 20 * 200


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:-9] + b"?" + b[-8:]])
def test_a_cut_or_a_damaged_event_would_be_noticed(change, tmp_path):
    board = Board(tmp_path, 0)
    board.scalars({"a": 1.0}, 0)
    board.close()
    (file,) = tmp_path.iterdir()
    assert len(records_of(file)) == 3
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(errors.DataLossError):
        records_of(file)
