"""Processes that share a run, on this machine: started as torchrun starts them.

As a script (`python group.py FOLDER`): one process of a group, which learns from its part of a
batch, every objective once, and keeps what it learned in FOLDER.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(ROOT / "tests" / "objectives")]


def start(count: int, words: list[str], **variables: str) -> list[subprocess.Popen]:
    """`python WORDS` in a group of `count` processes, each by its rank; their errors are piped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
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


def main(folder: Path) -> None:
    """Learn, as a process of a group, what `test_ranks` asks for."""
    from test_parts import PHASES, an, context_of
    from world import FINAL, smooth_world

    from pgvae.training.parts import Work
    from pgvae.training.pool import ImagePool
    from pgvae.training.ranks import joined

    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as ranks:
        found = {}
        for name, phase in PHASES:
            for size in (1, 2):
                objective = an(name)
                w = smooth_world(objective, count=4, resolution=FINAL)
                mine = w.batch.rows(slice(2 * ranks.index, 2 * ranks.index + 2))
                context, pool = context_of(w), ImagePool()
                pool.draw(4, FINAL, 0, torch.device("cpu"))
                work = Work(context, ranks, 2, pool.replay)
                losses = work.run(
                    size,
                    lambda rows, part, o=objective, p=phase, w=w, mine=mine: o.losses(
                        p, w.nets, mine.rows(rows), part
                    ),
                )
                nets = w.nets.trained().values()
                gradients = [p.grad for n in nets for p in n.parameters() if p.grad is not None]
                ranks.add_(gradients)
                found[name, phase, size] = {**losses, **context.reported}, gradients
        bad = torch.tensor([float("nan") if ranks.index else 1.0, 2.0])
        ranks.add_([bad])
        found["bad"] = bad
        found["any"] = ranks.any(ranks.index == 1, False, True)
        found["told"] = ranks.told(f"by {ranks.index}")
        ranks.meet()
        torch.save(found, folder / f"{ranks.index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
