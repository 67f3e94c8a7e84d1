"""Time one training iteration (every phase of an objective) on random images.

    python benchmarks/step.py --resolution 16 --batch 16

prints seconds and CPU-seconds per iteration with the ops that run here and, in turns with them,
with the reference ops; how far the losses of both part in an iteration from the same state (left
to themselves they part without bound, as Adam's first steps are the gradients' signs; in float64
too); and PIONEER's own code's time where it was measured (2 CPU cores, batch 16, 1 encoder and 2
generator updates). `--twin` times PIONEER in plain PyTorch (pioneer_twin.py) in turns with them.
"""

import copy
import json
import os
import platform
import resource
import time
from pathlib import Path

from pgvae import tuning

tuning.shorten_spinning()

import click  # noqa: E402
import torch  # noqa: E402
from pioneer_twin import Twin  # noqa: E402

from pgvae import ops  # noqa: E402
from pgvae.config import ModelConfig, RunConfig, usual_settings  # noqa: E402
from pgvae.objectives import OBJECTIVES, settings_of  # noqa: E402
from pgvae.schedule import Schedule, Stage  # noqa: E402
from pgvae.training.state import TrainState  # noqa: E402
from pgvae.training.step import resolve_precision, train_step  # noqa: E402
from pgvae.types import Batch  # noqa: E402

PIONEER_CPU_SECONDS = {16: 9.4, 32: 40.5, 64: 118.0}


class Trainer:
    """One training state that runs under one implementation of the ops."""

    def __init__(self, impl: str, config: RunConfig, objective, device, precision: str) -> None:
        self.impl, self.objective, self.precision = impl, objective, precision
        self.device = device
        self.state = TrainState.create(config, device, config.model.resolution)
        self.moment = config.schedule.at(0)
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def iterate(self, images: torch.Tensor) -> dict[str, float]:
        """One iteration, timed; -> its scalars."""
        labels = (images[:, :2, 0, 0] > 0).float()
        wall, cpu = time.perf_counter(), time.process_time()
        with ops.using(self.impl):
            scalars = train_step(
                self.state, self.objective, self.moment, Batch(images, labels), self.precision
            )
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return {name: float(value) for name, value in scalars.items()}


class TwinTrainer:
    """PIONEER in plain PyTorch, timed."""

    def __init__(self, resolution: int, maps: int, latent_dim: int) -> None:
        self.twin = Twin(resolution, maps, latent_dim)
        self.cpu: list[float] = []

    def iterate(self, images: torch.Tensor) -> None:
        cpu = time.process_time()
        self.twin.step(images)
        self.cpu.append(time.process_time() - cpu)

    def seconds(self) -> float:
        """CPU-seconds an iteration, without the first."""
        return sum(self.cpu[1:]) / len(self.cpu[1:])


def largest_difference(a: dict[str, float], b: dict[str, float]) -> float:
    """The largest relative difference of losses that are not tiny; infinite for a NaN."""
    gap = {name for name in b if name.endswith("_gap")}  # a difference of losses, which cancel
    parts = [abs(a[name] - b[name]) / max(abs(b[name]), 1e-3) for name in b.keys() - gap]
    return max(part if part == part else float("inf") for part in parts)


@click.command(context_settings={"show_default": True})
@click.option("--resolution", type=int, default=16)
@click.option("--batch", type=int, default=16)
@click.option("--arch", default="pggan", type=click.Choice(["pggan", "residual"]))
@click.option("--fmap-max", type=int, default=512)
@click.option("--latent-dim", type=int, default=512)
@click.option("--objective", type=click.Choice([*OBJECTIVES]), default="pioneer")
@click.option("--iterations", type=int, default=3, help="Timed ones, after one to warm up.")
@click.option("--device", default="cpu")
@click.option("--precision", type=click.Choice(["auto", "fp32", "tf32", "bf16"]), default="auto")
@click.option("--reference/--no-reference", default=True, help="Time the reference ops too.")
@click.option("--twin", is_flag=True, help="Time PIONEER in plain PyTorch too.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a record there.")
def main(
    resolution, batch, arch, fmap_max, latent_dim, objective, iterations, device, precision,
    reference, twin, json_file,
) -> None:  # fmt: skip
    """Time one training iteration on random images."""
    tuning.keep_freed_memory()
    device = torch.device(device)
    chosen = OBJECTIVES[objective]()
    model = ModelConfig(
        resolution=resolution,
        latent_dim=latent_dim,
        **{"arch": arch, **usual_settings(arch, resolution), **chosen.model_settings(2)},
        fmap_max=fmap_max,
    )
    config = RunConfig(
        dataset="random",
        dataset_digest="",
        model=model,
        schedule=Schedule((Stage(resolution, batch, lr=1e-3, stable_kimg=1),), total_kimg=1),
        objective=settings_of(chosen),
    )
    precision = resolve_precision(precision, device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    names = ["auto", "reference"] if reference else ["auto"]
    trainers = [Trainer(name, config, chosen, device, precision) for name in names]
    theirs = TwinTrainer(resolution, fmap_max, latent_dim) if twin else None
    rng = torch.Generator().manual_seed(0)
    apart = 0.0
    for i in range(iterations + 1):  # in turns, so that both meet the same noise of the machine
        images = torch.rand(batch, 3, resolution, resolution, generator=rng) * 2 - 1
        images = images.to(device, memory_format=torch.channels_last)
        if reference:
            trainers[1].state = copy.deepcopy(trainers[0].state)
        losses = [trainer.iterate(images) for trainer in trainers]
        if theirs:
            theirs.iterate(images.contiguous())
        if i > 0:
            apart = max(apart, largest_difference(losses[0], losses[-1]))
    report(trainers, theirs, resolution, batch, apart, json_file)


def report(trainers, theirs, resolution, batch, apart, json_file) -> None:
    """Print the table; write the record."""
    first = trainers[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if first.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(first.device) / 2**30
    name = torch.cuda.get_device_name() if first.device.type == "cuda" else platform.machine()
    print(
        f"torch {torch.__version__}, {name}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()}, {first.precision}, {ops.native.on(first.device)}, peak {peak:.1f} GiB"
    )
    seconds = {}
    for trainer in trainers:
        wall, cpu = (sum(t[1:]) / len(t[1:]) for t in (trainer.wall, trainer.cpu))
        seconds[trainer.impl] = (wall, cpu)
        print(
            f"{first.objective.name} at {resolution} px, batch {batch}, {trainer.impl:9} ops: "
            f"{wall:8.4f} s, {cpu:7.3f} CPU-s per iteration ({batch / wall:.1f} img/s)"
        )
    record = {"resolution": resolution, "batch": batch, "device": name, "seconds": seconds}
    if len(trainers) == 2:
        ratio = seconds["reference"][0] / seconds["auto"][0]
        record |= {"ratio": ratio, "losses_apart": apart}
        print(f"reference / auto: {ratio:.2f}; losses apart by {apart:.1e} at most (relative)")
    if theirs:
        cpu = theirs.seconds()
        record["twin_ratio"] = cpu / seconds["auto"][1]
        print(f"PIONEER in plain PyTorch: {cpu:.3f} CPU-s; ratio {record['twin_ratio']:.2f}")
    known = PIONEER_CPU_SECONDS.get(resolution)
    model = first.state.config.model
    full_width = (batch, model.fmap_max, model.latent_dim) == (16, 512, 512)
    if known and full_width and first.objective.name == "pioneer" and first.device.type == "cpu":
        cpu = seconds["auto"][1]
        print(f"PIONEER's own code: {known} CPU-s; ratio {known / cpu:.2f}")
    if json_file is not None:
        json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
