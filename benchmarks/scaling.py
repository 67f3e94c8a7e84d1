"""What processes that share a run tell each other, and what that costs.

    python benchmarks/scaling.py                 # bytes and messages by stage, and a model
    python benchmarks/scaling.py --measure       # 2 processes of a thread, 1 process of 2 threads

Bytes and messages are of PIONEER at full width. Those of codes and errors are counted in an
iteration at 4 px, of narrow networks and the batch of the stage, among ranks that only take notes;
gradients and fakes are computed from their numbers.
The model is `time = compute + messages * latency + bytes over the slowest link / its bandwidth`.
"""

import os
import subprocess
import sys
import time

import click
import torch
from torch import Tensor

import pgvae
from pgvae.config import ModelConfig, RunConfig, usual_settings
from pgvae.nn import build_nets, parameter_count
from pgvae.objectives import OBJECTIVES, schedule_called, settings_of
from pgvae.schedule import from_preset
from pgvae.training.ranks import Ranks, joined
from pgvae.training.state import TrainState
from pgvae.training.step import train_step
from pgvae.types import Batch

ALL = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Images per second of one H100: goals at 4, 8, 64 and 1024 px, between them interpolated. Bytes/s
# of links within a node and of one card between nodes, and seconds of a message: assumed.
GOALS = {
    4: 145_000,
    8: 33_000,
    16: 9_000,
    32: 2_400,
    64: 770,
    128: 330,
    256: 160,
    512: 90,
    1024: 50,
}
NVLINK, INFINIBAND, LATENCY = 300e9, 40e9, 30e-6


class Notes(Ranks):
    """Two ranks, of which the other says the same; counts what would be sent."""

    count = 2

    def __init__(self) -> None:
        self.sent: list[int] = []

    def gather(self, values: Tensor) -> Tensor:
        self.sent.append(values.numel() * values.element_size())
        return torch.stack([values.detach()] * 2)

    def add_(self, tensors: list[Tensor]) -> None:
        self.sent.append(sum(t.numel() * t.element_size() for t in tensors))


def config_of(resolution: int, maps: int, latent_dim: int, batch: int | None = None) -> RunConfig:
    """Of a run of PIONEER that ends at `resolution`."""
    kind = OBJECTIVES["pioneer"]
    widths = {"latent_dim": latent_dim, "fmap_max": maps, "fmap_base": 16 * maps}
    model = ModelConfig(
        **{**usual_settings("pggan", resolution), **kind().model_settings(), **widths},
        resolution=resolution,
    )
    asked = pgvae.Request(batch=batch)
    schedule = from_preset(schedule_called("pioneer"), (resolution,), asked)
    return RunConfig("none", "0" * 64, model, schedule, settings_of(kind()), betas=kind.betas)


def step(state: TrainState, images: Tensor) -> dict[str, Tensor]:
    objective = OBJECTIVES["pioneer"]()
    return train_step(state, objective, state.config.schedule.at(0), Batch(images), "fp32")


def counted(batch: int) -> tuple[int, int]:
    """(messages, bytes) of an iteration at 4 px, gradients and replayed images left out."""
    config = config_of(4, 8, 512, batch)
    state = TrainState.create(config, torch.device("cpu"), 4)
    state.ranks = notes = Notes()
    mine = torch.rand(batch // 2, 3, 4, 4)
    step(state, mine)
    weights = [4 * parameter_count(net) for net in (state.nets.encoder, state.nets.generator)]
    large = weights[0] + 2 * weights[1] + mine.numel() * 4
    return len(notes.sent) + 1, sum(notes.sent) - large + 2  # and one of 2 bytes to agree on


def table() -> None:
    """Print what an iteration sends, and how it would scale."""
    click.echo(
        f"{'px':>5} {'batch':>6} {'messages':>9} {'gradients':>10} {'fakes':>8} {'codes':>8}"
        "   modelled speed-up, batch as large again on every GPU: 8, 16, 64 GPUs"
    )
    preset = schedule_called("pioneer")
    for resolution in ALL:
        batch = preset.batch_sizes[resolution]
        with torch.device("meta"):
            nets = build_nets(config_of(resolution, 512, 512).model, resolution)
        gradients = 4 * (parameter_count(nets.encoder) + 2 * parameter_count(nets.generator))
        messages, codes = counted(max(4, batch))
        codes = codes * batch // max(4, batch)
        fakes = batch * 3 * resolution**2 * 4
        compute = batch / GOALS[resolution]
        ups = []
        for gpus in (8, 16, 64):
            link = NVLINK if gpus <= 8 else INFINIBAND * 8  # eight cards of a node, at once
            moved = 2 * gradients + (gpus - 1) * (fakes + codes)
            ups.append(gpus * compute / (compute + messages * LATENCY + moved / link))
        click.echo(
            f"{resolution:>5} {batch:>6} {messages:>9} {gradients / 2**20:>7.1f}MiB "
            f"{fakes / 2**20:>5.1f}MiB {codes / 2**10:>5.0f}KiB   "
            + ", ".join(f"{up:.1f}" for up in ups)
        )


def timed(resolution: int, maps: int, batch: int, iterations: int) -> None:
    """Print, as the first of a group's processes, the seconds of an iteration."""
    device = torch.device("cpu")
    with joined(device) as ranks:
        state = TrainState.create(config_of(resolution, maps, maps, batch), device, resolution)
        state.ranks = ranks
        images = torch.rand(batch // ranks.count, 3, resolution, resolution)
        images = images.contiguous(memory_format=torch.channels_last)
        for _ in range(2):
            step(state, images)
        ranks.any(False)
        before = time.perf_counter()
        for _ in range(iterations):
            step(state, images)
            ranks.any(False, False)
        if ranks.index == 0:
            click.echo((time.perf_counter() - before) / iterations)


def measure(*what: int) -> dict[str, float]:
    """Seconds of an iteration by one process of two threads, and by two of one, in turns."""
    found: dict[str, list[float]] = {"1 x 2 threads": [], "2 x 1 thread": []}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    words = [__file__, "--timed", ",".join(map(str, what))]
    for _ in range(3):
        for count, seconds in enumerate(found.values(), start=1):
            threads = {**os.environ, "OMP_NUM_THREADS": str(3 - count)}
            command = [*torchrun, str(count), *words]
            seconds.append(float(subprocess.check_output(command, env=threads)))
    return {name: min(seconds) for name, seconds in found.items()}


@click.command()
@click.option("--measure", "measures", is_flag=True)
@click.option("--timed", "one", hidden=True)
@click.option("--resolution", default=32)
@click.option("--maps", default=64)
@click.option("--batch", default=16)
@click.option("--iterations", default=20)
def main(
    measures: bool, one: str | None, resolution: int, maps: int, batch: int, iterations: int
) -> None:
    """Count, or measure."""
    if one:
        timed(*map(int, one.split(",")))
    elif measures:
        found = measure(resolution, maps, batch, iterations)
        for name, seconds in found.items():
            click.echo(f"{name}: {seconds:.3f} s an iteration, {batch / seconds:.1f} img/s")
        ratio = found["1 x 2 threads"] / found["2 x 1 thread"]
        click.echo(f"throughput of two processes over that of one: {ratio:.2f}")
    else:
        table()


if __name__ == "__main__":
    main()
