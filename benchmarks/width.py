"""Whether PIONEER learns from its first images at full width: 512 maps, d = 512, at 4 and 8 px.

    python benchmarks/width.py --dataset datasets/faces                        # all that is below
    python benchmarks/width.py --dataset datasets/faces --way before --seed 0 --batch 32

Ways: `before` starts spectral weights as He et al. (2015), rate 1e-3, as PIONEER's code; `start` as
`SpectralWeight` does, the rest the same; `steady` with a rate of 2e-4 and pre-training as well.
Batches are drawn from a prepared set as in training. Curves of |x - G(E(x))|, of KL(E(x)) over its
least and of the gap (KL of fakes minus that of reals) go into benchmarks/results/width.json, one
record a run, and into width.png.
"""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import click
import torch

import pgvae
from pgvae.data import Loader, Store
from pgvae.nn.layers import SpectralWeight
from pgvae.objectives import objective_from
from pgvae.training.plan import plan
from pgvae.training.state import TrainState
from pgvae.training.step import train_step

RESULTS = Path(__file__).parent / "results" / "width.json"
WAYS: dict[str, dict[str, Any]] = {
    "before": {"lr": 1e-3},
    "start": {"lr": 1e-3},
    "steady": {"lr": 2e-4, "pretrain_kimg": 1.28},
}
FIRST, SECOND = 2.56, 1.28  # thousands of images at 4 px; at 8 px, half of them fading in
EVERY = 5  # iterations between two points of a curve


def least_kl(d: int) -> float:
    """Of `terms.moment_kl` on the unit sphere, nats: means 0, deviations 1 / sqrt(d)."""
    return -d / 2 + 0.5 + d * math.log(d) / 2


def start_as_he(state: TrainState, done: set[int]) -> None:
    """Give the spectral weights that are new the deviation sqrt(2 / fan_in)."""
    for net in state.nets.parts().values():
        for module in net.modules():
            if isinstance(module, SpectralWeight) and id(module) not in done:
                done.add(id(module))
                with torch.no_grad():
                    he = math.sqrt(2 / module.weight[0].numel())
                    module.weight.mul_(he / module.weight.std())


def run(store: Store, batch: int, seed: int, way: str) -> dict[str, Any]:
    """Train one; -> its record."""
    asked = pgvae.Request(
        dataset=store.name,
        objective="pioneer",
        resolution=8,
        grow=True,
        mirror=True,
        batch=batch,
        seed=seed,
        **WAYS[way],
    )
    config = plan(asked, store)
    stages = (
        dataclasses.replace(config.schedule.stages[0], stable_kimg=FIRST),
        dataclasses.replace(
            config.schedule.stages[1], fade_kimg=SECOND / 2, stable_kimg=SECOND / 2
        ),
    )
    schedule = dataclasses.replace(config.schedule, stages=stages, total_kimg=FIRST + SECOND)
    config = dataclasses.replace(config, schedule=schedule)
    device, objective = torch.device("cpu"), objective_from(config.objective)
    loader = Loader(store, seed=seed, labels=config.labels, device=device, mirror=True)
    state = TrainState.create(config, device, 4)
    least, done = least_kl(config.model.latent_dim), set()
    curve: list[list[float]] = []
    before, iteration = time.process_time(), 0
    while state.images_seen < schedule.total_images:
        moment = schedule.at(state.images_seen)
        state.enter(moment)
        if way == "before":
            start_as_he(state, done)
        images = loader.batch(state.images_seen, batch, moment.resolution, moment.alpha)
        scalars = train_step(state, objective, moment, images, "fp32")
        iteration += 1
        if iteration % EVERY == 0:
            named = {name.split("/")[1]: value.item() for name, value in scalars.items()}
            kl = named.get("kl_real", named.get("kl"))
            point = (named["l1"], kl / least, named.get("kl_gap", 0.0))
            curve.append([state.images_seen, moment.resolution, *(round(v, 3) for v in point)])
            click.echo(f"{way} {batch} {seed}: {curve[-1]}")
    loader.close()
    seconds = round(time.process_time() - before)
    return {"way": way, "batch": batch, "seed": seed, "cpu_seconds": seconds, "curve": curve}


def draw(rows: list[dict[str, Any]]) -> None:
    """L1 and KL over images, a column a batch size, a colour a way."""
    from matplotlib import pyplot

    batches = sorted({row["batch"] for row in rows})
    figure, axes = pyplot.subplots(
        2, len(batches), figsize=(5 * len(batches), 6), squeeze=False, sharex=True
    )
    for row in rows:
        column, colour = batches.index(row["batch"]), f"C{[*WAYS].index(row['way'])}"
        images, _, l1, kl, _ = zip(*row["curve"], strict=True)
        for axis, values in zip(axes[:, column], (l1, kl), strict=True):
            axis.plot(images, values, colour, linewidth=1, label=row["way"])
    for batch, (top, bottom) in zip(batches, axes.T, strict=True):
        top.set_title(f"batch {batch}")
        top.set_ylabel("|x - G(E(x))|")
        bottom.set_ylabel("KL(E(x)) / least")
        bottom.set_xlabel("images (8 px from 2,560)")
        handles = dict(zip(*reversed(top.get_legend_handles_labels()), strict=True))
        top.legend(handles.values(), handles.keys())
    figure.tight_layout()
    figure.savefig(RESULTS.with_suffix(".png"), dpi=80)


@click.command()
@click.option("--dataset", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--batch", "batches", multiple=True, type=int, default=(32, 128))
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2))
@click.option("--way", "ways", multiple=True, type=click.Choice([*WAYS]), default=tuple(WAYS))
def main(
    dataset: Path, batches: tuple[int, ...], seeds: tuple[int, ...], ways: tuple[str, ...]
) -> None:
    """Train every combination and draw all curves that there are."""
    torch.set_num_threads(1)
    store = Store(dataset)
    for batch in batches:
        for seed in seeds:
            for way in ways:
                found = run(store, batch, seed, way)
                rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
                same = ("way", "batch", "seed")
                rows = [r for r in rows if any(r[key] != found[key] for key in same)] + [found]
                RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    draw(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()
