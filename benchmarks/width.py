"""Whether PIONEER learns from its first images at full width: 512 maps, d = 512, at 4 and 8 px.

    python benchmarks/width.py --dataset datasets/faces             # batches of 32 and 128, 3 seeds
    python benchmarks/width.py --dataset datasets/faces --batch 32 --seed 0 --start he

Each run draws batches of a prepared set of 8 px or more, as training does. `--start he` starts
spectral weights as He et al. (2015) would, `sqrt(2 / fan_in)`, in the place of what
`SpectralWeight` does. Curves of |x - G(E(x))| and of KL(E(x)) above its least are added to
benchmarks/results/width.json; width.png shows them all.
"""

import json
import math
import time
from pathlib import Path

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
# Thousands of images of the 4 px stage; of the fade to 8 px and of what follows, each half of it.
LENGTHS = {32: (3.2, 2.4), 128: (6.4, 5.12)}


def least_kl(d: int) -> float:
    """Of `terms.moment_kl` on the unit sphere, nats: means 0, deviations 1 / sqrt(d)."""
    return -d / 2 + 0.5 + d * math.log(d) / 2


def start_as_he(state: TrainState, done: set[int]) -> None:
    """Give the spectral weights that are new the deviation sqrt(2 / fan_in)."""
    for net in state.nets.parts().values():
        for module in net.modules():
            if isinstance(module, SpectralWeight) and id(module) not in done:
                done.add(id(module))
                fan_in = module.weight[0].numel()
                with torch.no_grad():
                    module.weight.mul_(math.sqrt(2 / fan_in) / module.weight.std())


def run(store: Store, batch: int, seed: int, start: str, lr: float | None) -> dict:
    """Train one; -> its record, with a point of the curves every tenth iteration."""
    first, second = LENGTHS[batch]
    request = pgvae.Request(
        dataset=store.name, resolution=8, objective="pioneer", grow=True, mirror=True,
        batch=batch, seed=seed, kimg_per_stage=second, total_kimg=first + second, lr=lr,
    )  # fmt: skip
    config = plan(request, store)
    device = torch.device("cpu")
    objective = objective_from(config.objective)
    loader = Loader(store, seed=seed, labels=config.labels, workers=0, device=device, mirror=True)
    state = TrainState.create(config, device, 4)
    least, curve, done = least_kl(config.model.latent_dim), [], set()
    before = time.process_time()
    shift = round(1000 * (first - config.schedule.start_of(1) / 1000))
    for index in range(round(1000 * (first + second)) // batch):
        # The 4 px stage is cut to its own length.
        seen = state.images_seen
        moment = config.schedule.at(seen if seen < 1000 * first else seen - shift)
        state.enter(moment)
        if start == "he":
            start_as_he(state, done)
        images = loader.batch(seen, batch, moment.resolution, moment.alpha)
        scalars = train_step(state, objective, moment, images, "fp32")
        if index % 5 == 4:
            kl = scalars["encoder/kl_real"].item()
            point = [state.images_seen, moment.resolution, scalars["encoder/l1"].item(), kl / least]
            curve.append([round(value, 4) for value in point])
            print(*curve[-1], f"{scalars['encoder/kl_gap'].item():.1f}", flush=True)
    loader.close()
    about = {"batch": batch, "seed": seed, "start": start, "lr": lr}
    return {**about, "cpu_seconds": round(time.process_time() - before), "curve": curve}


@click.command()
@click.option("--dataset", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--batch", "batches", multiple=True, type=int, default=(32, 128))
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2))
@click.option("--start", "starts", multiple=True, default=("he", "ours"))
@click.option("--lr", type=float)
def main(dataset, batches, seeds, starts, lr) -> None:
    """Train every combination and draw the curves."""
    torch.set_num_threads(1)
    store = Store(dataset)
    for batch in batches:
        for seed in seeds:
            for start in starts:
                found = run(store, batch, seed, start, lr)
                rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
                RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, [*rows, found])) + "\n]\n")


if __name__ == "__main__":
    main()
