"""Seconds (on a CPU: CPU-seconds) and memory of a thousand images, stage by stage, mode by mode.

    python benchmarks/throughput.py --maps 64 --json benchmarks/results/throughput-64.json
    python benchmarks/throughput.py --maps 512 --stages 256,512,1024 --batch 2

One iteration of PIONEER (an encoder and two generator updates) on random images, each case in a
process of its own, whose peak of resident memory (on a GPU: of allocated memory) is the figure
beside the estimate of `train.py --dry-run`. Modes take turns, and the best of all rounds counts:
eager (reference ops), native, compile (native ops inside torch.compile), graphs (on a GPU, where
all cases share a process).
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from pgvae import tuning

tuning.shorten_spinning()

import click  # noqa: E402
import torch  # noqa: E402
from scaling import ALL, config_of  # noqa: E402

from pgvae import ops  # noqa: E402
from pgvae.objectives import objective_from, schedule_called  # noqa: E402
from pgvae.training.compiled import Compiler  # noqa: E402
from pgvae.training.describe import memory_of  # noqa: E402
from pgvae.training.graphs import graphs_on  # noqa: E402
from pgvae.training.state import TrainState  # noqa: E402
from pgvae.training.step import resolve_precision, train_step  # noqa: E402
from pgvae.types import Batch  # noqa: E402

MODES = ("eager", "native")
HEAD = "{:>5} {:>6} {:>8} {:>11} {:>9} {:>9} {:>10} {:>9}"
ROW = "{:>5} {:>6} {:>8} {:>11.3f} {:>9.1f} {:>9.2f} {:>10} {:>9}"


def run_case(case: dict) -> dict:
    """What a case takes: seconds of the first iteration and of the best one after, bytes."""
    tuning.keep_freed_memory()
    if case["px"] >= tuning.LARGE_PX:
        tuning.return_large_blocks()
    device = torch.device(case["device"])
    precision = resolve_precision(case["precision"], device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    config = config_of(case["px"], case["maps"], case["maps"], case["batch"])
    state = TrainState.create(config, device, case["px"])
    objective, moment = objective_from(config.objective), config.schedule.at(0)
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(case["batch"], 3, case["px"], case["px"], generator=rng) * 2 - 1
    batch = Batch(images.to(device, memory_format=torch.channels_last))
    seconds: list[float] = []
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    least = 3 if case["mode"] == "graphs" else 2  # captured in the second
    say = partial(print, file=sys.stderr)
    compiler = Compiler(say) if case["mode"] == "compile" else None
    graphs = graphs_on(device, 1, say) if case["mode"] == "graphs" else None
    take = graphs.step if graphs else train_step
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with ops.using("reference" if case["mode"] == "eager" else "auto"):
        while len(seconds) < least or (sum(seconds[1:]) < case["seconds"] and len(seconds) < 200):
            before = clock()
            with compiler.around(state.nets) if compiler else contextlib.nullcontext():
                take(state, objective, moment, batch, precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(clock() - before)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident()
    return {"first": seconds[0], "seconds": min(seconds[1:]), "bytes": peak}


def peak_resident() -> int:
    """Most bytes that this process had in memory (getrusage counts from its parent's on)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def result_of(case: dict) -> dict:
    """`run_case`, on a CPU in a fresh process; {"failed": its last words} where it fails."""
    if case["device"].startswith("cuda"):
        try:
            return run_case(case)
        except RuntimeError as error:
            return {"failed": str(error).strip().split("\n")[0][:120]}
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(case)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1][-120:]}
    return json.loads(done.stdout.splitlines()[-1])


def stage(px: int, options: dict, modes: list[str], rounds: int) -> list[dict]:
    """The best of all rounds of each mode at one resolution, printed."""
    batch = options["batch"] or schedule_called("pioneer").batch_sizes[px]
    case = {**options, "px": px, "batch": batch}
    config = config_of(px, case["maps"], case["maps"], batch)
    estimate = memory_of(config, config.schedule.at(0))
    found: dict[str, list[dict]] = {mode: [] for mode in modes}
    for _ in range(rounds):
        for mode in modes:
            found[mode].append(result_of({**case, "mode": mode}))
    rows = []
    for mode, results in found.items():
        good = [result for result in results if "failed" not in result]
        if not good:
            click.echo(f"{px:>5} {batch:>6} {mode:>8} {results[-1]['failed']}")
            continue
        best = min(good, key=lambda result: result["seconds"])
        row = {"px": px, "batch": batch, "mode": mode, **best}
        row["s_per_kimg"] = 1000 * best["seconds"] / batch
        row["gib"], row["estimate_gib"] = max(r["bytes"] for r in good) / 2**30, estimate
        rows.append(row)
        first = rows[0]["seconds"] / best["seconds"]
        click.echo(
            ROW.format(
                px, batch, mode, best["seconds"], row["s_per_kimg"], row["gib"],
                f"{estimate / row['gib']:.2f}", f"{first:.2f}",
            )
        )  # fmt: skip
    return rows


@click.command(context_settings={"show_default": True})
@click.option("--stages", default=",".join(map(str, ALL)), help="Pixels per side.")
@click.option("--maps", default=512, help="Feature maps at most, and latents.")
@click.option("--batch", type=int, help="Of every stage.  [default: PIONEER's]")
@click.option("--modes", default=",".join(MODES))
@click.option("--device", default="cpu")
@click.option("--precision", default="auto")
@click.option("--seconds", default=2.0, help="Of iterations, after the first, in each process.")
@click.option("--rounds", default=1, help="In which modes take turns.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a record there.")
@click.option("--case", hidden=True)
def main(stages, modes, rounds, json_file, case, **options) -> None:
    """Measure every stage, or run one case."""
    if case:
        click.echo(json.dumps(run_case(json.loads(case))))
        return
    on_gpu = options["device"].startswith("cuda")
    machine = torch.cuda.get_device_name() if on_gpu else platform.machine()
    about = f"torch {torch.__version__}, {machine}, {torch.get_num_threads()} threads of "
    about += f"{os.cpu_count()}, {options['precision']}, {options['maps']} maps"
    click.echo(about)
    heads = ("px", "batch", "mode", "s/iteration", "s/kimg", "GiB", "est./GiB", "speed-up")
    click.echo(HEAD.format(*heads))
    rows = []
    for px in map(int, stages.split(",")):
        rows += stage(px, options, modes.split(","), rounds)
        if json_file is not None:
            record = {"about": about, **options, "rows": rows}
            json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
