"""Processes that share a run, on this machine: started as torchrun starts them.

As a script (`python group.py FOLDER`): one process of a group, which learns from its part of a
batch, every objective once, and keeps what it learned in FOLDER.
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(ROOT / "tests" / "objectives")]

from test_parts import CPU, PHASES, learned  # noqa: E402
from world import FINAL  # noqa: E402

from pgvae.errors import ResourceError  # noqa: E402
from pgvae.objectives import OBJECTIVES  # noqa: E402
from pgvae.training.pool import ImagePool  # noqa: E402
from pgvae.training.ranks import ALONE, Ranks, joined  # noqa: E402


def free_port() -> int:
    """A port below those that the system gives away meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def start(count: int, words: list[str], **variables: str) -> list[subprocess.Popen]:
    """`python WORDS` in a group of `count` processes, each by its rank; their errors are piped."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env={
                **os.environ, **where, **variables,
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
            },
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(count)
    ]  # fmt: skip


def finish(processes: list[subprocess.Popen], seconds: float = 240) -> list[str]:
    """What each printed; AssertionError where one fails."""
    said = [process.communicate(timeout=seconds)[0] for process in processes]
    assert not any(process.returncode for process in processes), said
    return said


def learned_together(name: str, phase: str, size: int, ranks: Ranks = ALONE) -> tuple:
    """`test_parts.learned` of a batch of 4, with a new pool for what goes through one."""
    pool = ImagePool() if OBJECTIVES[name].pool else None
    if pool:
        pool.draw(4, FINAL, 0, CPU)
    return learned(name, phase, size, pool, count=4, ranks=ranks)


def waits_for_one_that_fails(ranks: Ranks) -> str:
    """What a process hears that waits for another one, which fails instead."""
    if ranks.index == 0:
        ranks.fail()
        return ""
    try:
        ranks.meet()
    except ResourceError as error:
        return str(error)
    raise AssertionError("nobody came, and nobody said so")


def main(folder: Path) -> None:
    """Learn, as a process of a group, what `test_ranks` asks for."""
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as ranks:
        found = {}
        for name, phase in PHASES:
            for size in (1, 2):
                found[name, phase, size] = learned_together(name, phase, size, ranks)
        bad = torch.tensor([float("nan") if ranks.index else 1.0, 2.0])
        ranks.add_([bad])
        found["bad"] = bad
        found["any"] = ranks.any(ranks.index == 1, False, True)
        found["told"] = ranks.told(f"by {ranks.index}")
        ranks.meet()
        found["waits"] = waits_for_one_that_fails(ranks)
        torch.save(found, folder / f"{ranks.index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
