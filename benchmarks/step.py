"""Time one training iteration (every phase of an objective) on random images.

    python benchmarks/step.py --resolution 16 --batch 16

prints seconds and CPU-seconds per iteration, and PIONEER's own code's where it was measured
(2 CPU cores, batch 16, 1 encoder and 2 generator updates).
"""

import platform
import resource
import time

import click
import torch

from pgvae.allocator import keep_freed_memory
from pgvae.config import ModelConfig, RunConfig
from pgvae.objectives import OBJECTIVES, settings_of
from pgvae.schedule import PRESETS, from_preset
from pgvae.training.state import TrainState
from pgvae.training.step import resolve_precision, train_step
from pgvae.types import Batch

PIONEER_CPU_SECONDS = {16: 9.4, 32: 40.5, 64: 118.0}


@click.command(context_settings={"show_default": True})
@click.option("--resolution", type=int, default=16)
@click.option("--batch", type=int, default=16)
@click.option("--fmap-max", type=int, default=512)
@click.option("--latent-dim", type=int, default=512)
@click.option("--objective", type=click.Choice([*OBJECTIVES]), default="pioneer")
@click.option("--iterations", type=int, default=3, help="Timed ones, after one to warm up.")
@click.option("--device", default="cpu")
@click.option("--precision", type=click.Choice(["auto", "fp32", "tf32", "bf16"]), default="auto")
def main(resolution, batch, fmap_max, latent_dim, objective, iterations, device, precision) -> None:
    """Time one training iteration on random images."""
    keep_freed_memory()
    device = torch.device(device)
    chosen = OBJECTIVES[objective]()
    config = RunConfig(
        dataset="random",
        dataset_digest="",
        model=ModelConfig(
            resolution=resolution,
            fmap_max=fmap_max,
            latent_dim=latent_dim,
            **chosen.model_settings(),
        ),
        schedule=from_preset(PRESETS["pioneer"], (resolution,), batch_size=batch),
        objective=settings_of(chosen),
    )
    precision = resolve_precision(precision, device)
    state = TrainState.create(config, device, resolution)
    stage = config.schedule.at(0)
    images = torch.rand(batch, 3, resolution, resolution, device=device) * 2 - 1
    images = images.contiguous(memory_format=torch.channels_last)

    def iterate() -> None:
        scalars = train_step(state, chosen, stage, Batch(images), precision)
        if not all(value.isfinite() for value in scalars.values()):
            raise SystemExit(f"not finite: {scalars}")

    iterate()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(iterations):
        iterate()
    wall = (time.perf_counter() - wall) / iterations
    cpu = (time.process_time() - cpu) / iterations
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"{device}, {precision}, reference ops"
    )
    print(
        f"{objective} at {resolution} px, batch {batch}, {fmap_max} maps: {wall:.2f} s, "
        f"{cpu:.2f} CPU-s per iteration ({batch / wall:.1f} img/s), peak memory {peak:.1f} GiB"
    )
    known = PIONEER_CPU_SECONDS.get(resolution)
    if known and (batch, fmap_max, latent_dim, objective) == (16, 512, 512, "pioneer"):
        print(f"PIONEER's own code: {known} CPU-s; ratio {known / cpu:.2f}")


if __name__ == "__main__":
    main()
