"""How good a picture is after equal CPU-seconds: objectives side by side on photographs.

    python benchmarks/quality.py --faces faces.zip --labels faces.csv   # all trials, three seeds
    python benchmarks/quality.py --trial recipe --seed 0                # one run
    python benchmarks/quality.py --set fashion-mnist --idx FOLDER       # grey, 28 px in 32

Each run is one `train.py` command on one core, grown from 4 to 32 px with 64 maps and d = 64, as
long as the budget of CPU-seconds allows by a short measurement of each stage's cost. `faces` are
split by the csv's column `person`: 1,000 images of people that no run has seen measure it. A trial
NAME/4 has a quarter of the budget. Records are in benchmarks/results/quality.json, medians in
quality.md, unseen images, reconstructions and samples in quality-SET.png. FID and KID are of
EfficientNet-Lite0's features. `reals` are as many training images, in the place of the samples:
the floor. `reconstructions` are of the unseen images themselves, which are the measure too, so
they lie nearer to it than any other images can; `others` are reconstructions of the `reals`, what
samples are to be held against.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import pgvae
from pgvae.data import Loader, Store, prepared_in
from pgvae.metrics import psnr, rmse, ssim, swd
from pgvae.metrics.features import extractor
from pgvae.metrics.frechet import frechet_distance, kernel_distance
from pgvae.metrics.sets import full_precision
from pgvae.objectives import objective_from
from pgvae.pictures import grid_of, to_picture
from pgvae.snapshot import load_snapshot
from pgvae.training.plan import plan
from pgvae.training.state import TrainState
from pgvae.training.step import train_step

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "quality.json"
BUDGET, COUNT, RECONSTRUCTED, SHOWN = 1030.0, 1000, 500, 16
OVERHEAD = 80  # CPU-seconds of the start and of the snapshots of a run, about
STAGES = 5  # of equal length: 4, 8, 16 px, and twice that at 32
COMMON: dict[str, Any] = {
    "resolution": 32,
    "grow": True,
    "mirror": True,
    "batch": 16,
    "fmap_base": 1024,
    "fmap_max": 64,
    "latent_dim": 64,
}
WIDER: dict[str, Any] = {"fmap_base": 2048, "fmap_max": 128, "latent_dim": 128}
LABELS = ("p_glasses", "p_facial_hair")
# Name: options of `pgvae.Request` beside COMMON.
TRIALS: dict[str, dict[str, Any]] = {
    "recipe": {"objective": "rivae"},
    "pioneer": {
        "objective": "pioneer",
        "unit_variance": True,
        "settings": ("rec_to_generator=true",),
    },
    "ae": {"objective": "ae", "lr": 2e-3},
    "vae": {"objective": "vae", "lr": 2e-3, "settings": ("beta_kl=0.2",)},
    "soft_introvae": {"objective": "soft_introvae", "arch": "pggan"},
    "introvac": {"objective": "introvac", "arch": "pggan", "attributes": LABELS},
    "pggan": {"objective": "pggan"},
    "ali": {"objective": "ali"},
}
# The recipe without one of its ingredients, or with what was one. Two more are taken from the
# recipe's own runs: the fitted prior (columns "training prior") and the averaged encoder ("raw
# encoder").
ABLATION: dict[str, dict[str, Any]] = {
    "recipe-no-game": {"objective": "rivae", "settings": ("game=0",)},
    "recipe-adam": {"objective": "rivae", "optimizer": "adam"},
    "recipe-adam-no-game-falling-rate": {
        "objective": "rivae",
        "optimizer": "adam",
        "settings": ("game=0",),
    },
    "recipe-adam-falling-rate": {"objective": "rivae", "optimizer": "adam"},
    "recipe-128-maps": {"objective": "rivae", **WIDER},
    "recipe-adam-128-maps": {"objective": "rivae", "optimizer": "adam", **WIDER},
}
FALLING = (0.7, 0.8, 0.88, 0.94, 0.97)  # shares of a run; after each the rate is halved
KEYS = ("trial", "set", "seed", "cpu_seconds", "images", "rmse", "psnr", "ssim", "swd", "fid")
KEYS += ("kid", "diversity", "swd_training_prior", "fid_training_prior")
KEYS += ("swd_reconstructions", "fid_reconstructions", "swd_others", "fid_others")
KEYS += ("rmse_raw_encoder", "fid_raw_encoder")


def request_of(trial: str, store: Store, seed: int, kimg: float) -> pgvae.Request:
    """What one run of a trial asks for, `kimg` thousand images a stage."""
    options = COMMON | (TRIALS | ABLATION)[trial.partition("/")[0]]
    where = {"dataset": store.name, "data_root": str(store.path.parent), "seed": seed}
    length: dict[str, Any] = {"kimg_per_stage": kimg, "total_kimg": STAGES * kimg}
    if "falling-rate" in trial:
        length["lr_milestones"] = tuple(share * STAGES * kimg for share in FALLING)
    return pgvae.Request(**options, **where, **length, device="cpu")


def kimg_within(trial: str, store: Store, budget: float) -> float:
    """Thousands of images a stage for `budget` CPU-seconds, by a measurement of each stage."""
    config = plan(request_of(trial, store, 0, 10.0), store)
    objective = objective_from(config.objective)
    loader = Loader(store, seed=0, labels=config.labels, workers=0, device=torch.device("cpu"))
    costs = []
    for index, stage in enumerate(config.schedule.stages):
        middle = config.schedule.start_of(index) + round(1000 * (stage.fade_kimg + 1))
        moment = config.schedule.at(middle)
        state = TrainState.create(config, torch.device("cpu"), stage.resolution)
        for count in (3, 25):  # the first are slower
            start = time.process_time()
            for _ in range(count):
                batch = loader.batch(state.images_seen, 16, stage.resolution, 1.0)
                train_step(state, objective, moment, batch, "fp32")
        costs.append((time.process_time() - start) / (25 * 16 / 1000))
    loader.close()
    return round(budget / (sum(costs) + costs[-1]), 2)


def train(trial: str, store: Store, seed: int, outdir: Path, budget: float) -> tuple[Path, float]:
    """Run a trial's command; -> its run directory and the CPU-seconds it took."""
    folder = outdir / store.name / f"{trial.replace('/', '-')}-{seed}"
    if (folder / "cpu_seconds").exists():
        return max(folder.glob("0*")), float((folder / "cpu_seconds").read_text())
    budget = budget / int(trial.partition("/")[2] or 1) - OVERHEAD
    request = request_of(trial, store, seed, kimg_within(trial, store, budget))
    words = [*request.words(), "--outdir", str(folder)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(ROOT / "train.py"), *words], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (folder / "cpu_seconds").write_text(f"{seconds:.0f}")
    return max(folder.glob("0*")), seconds


def images_of(store: Store, indices: np.ndarray) -> Tensor:
    """[N, C, 32, 32] in [-1, 1]."""
    return torch.from_numpy(store.get_many(indices, COMMON["resolution"])).float() / 127.5 - 1


def unseen_of(store: Store) -> Tensor:
    """The images that measure: 1,000 of the validation split."""
    return images_of(store, np.random.default_rng(0).permutation(store.split("val"))[:COUNT])


def diversity(images: Tensor) -> float:
    """Mean RMSE, in 8 bits, of all pairs of the first 500 images."""
    flat = (images[:500].flatten(1) * 127.5).double()
    return (torch.pdist(flat).mean() / flat.shape[1] ** 0.5).item()


class Referee:
    """Measures sets of images against unseen ones."""

    def __init__(self, store: Store) -> None:
        self.unseen = unseen_of(store)
        some = np.random.default_rng(1).permutation(store.split("train"))[:COUNT]
        self.others = images_of(store, some)
        self.extract = extractor()
        self.features = self.extract(self.unseen)

    def swd(self, images: Tensor) -> float:
        return float(np.mean([*swd(self.unseen, images).values()]))

    def fakes(self, images: Tensor) -> dict[str, float]:
        features = self.extract(images)
        return {
            "swd": self.swd(images),
            "fid": frechet_distance(self.features, features),
            "kid": kernel_distance(self.features, features, subset_size=500)[0],
            "diversity": diversity(images),
        }

    def judge(self, model: pgvae.Model) -> dict[str, float]:
        """Every figure of a model: samples of its default and training prior, reconstructions."""
        with full_precision():
            usual, training = model.sample(COUNT), model.sample(COUNT, prior="training")
        found = {"prior": model.default_prior, **self.fakes(usual)}
        found |= self.distances("training_prior", training)
        return found | self.reconstructed(model) if model.encodes else found

    def distances(self, name: str, images: Tensor) -> dict[str, float]:
        distance = frechet_distance(self.features, self.extract(images))
        return {f"swd_{name}": self.swd(images), f"fid_{name}": distance}

    def reconstructed(self, model: pgvae.Model) -> dict[str, float]:
        with full_precision():
            again, others = model.reconstruct(self.unseen), model.reconstruct(self.others)
        real, made = self.unseen[:RECONSTRUCTED], again[:RECONSTRUCTED]
        pairs = {"rmse": rmse, "psnr": psnr, "ssim": ssim}
        found = {name: measure(real, made).mean().item() for name, measure in pairs.items()}
        found |= self.distances("reconstructions", again) | self.distances("others", others)
        return found | self.without_average(model)

    def without_average(self, model: pgvae.Model) -> dict[str, float]:
        """Reconstructions by the encoder as it was in training, not its average."""
        snapshot = load_snapshot(model.path)
        snapshot.nets.ema_encoder = snapshot.nets.encoder
        again = pgvae.Model(snapshot).reconstruct(self.unseen)
        error = rmse(self.unseen[:RECONSTRUCTED], again[:RECONSTRUCTED]).mean().item()
        distance = frechet_distance(self.features, self.extract(again))
        return {"rmse_raw_encoder": error, "fid_raw_encoder": distance}


def recorded() -> list[dict[str, Any]]:
    """What the results file has."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def record(values: dict[str, Any]) -> None:
    """Put a run's figures into the results file, in the place of earlier ones of the same run."""
    values = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
    click.echo(json.dumps(values))
    same = ("trial", "set", "seed")
    others = [r for r in recorded() if any(r[key] != values[key] for key in same)]
    rows = sorted([*others, values], key=lambda r: (r["set"], r["trial"], r["seed"]))
    RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def write_table() -> None:
    """benchmarks/results/quality.md: medians over seeds."""
    names = [key for key in KEYS if key not in ("trial", "set", "seed")]
    rows = [f"| set | trial | seeds | {' | '.join(n.replace('_', ' ') for n in names)} |"]
    rows.append("|---" * (len(names) + 3) + "|")
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in recorded():
        groups.setdefault((row["set"], row["trial"]), []).append(row)
    for (set_name, trial), found in groups.items():
        cells = []
        for name in names:
            values = [row[name] for row in found if row.get(name) is not None]
            cells.append(f"{statistics.median(values):,.4g}" if values else "")
        rows.append(f"| {set_name} | {trial} | {len(found)} | {' | '.join(cells)} |")
    RESULTS.with_suffix(".md").write_text("\n".join(rows) + "\n")


def draw(outdir: Path, store: Store) -> None:
    """Unseen images, then for each trial's first finished run two rows: decoded, sampled."""
    unseen = unseen_of(store)[:SHOWN]
    rows = [("unseen", unseen)]
    for trial in TRIALS:
        done = sorted((outdir / store.name).glob(f"{trial}-[0-9]/cpu_seconds"))
        if done:
            model = pgvae.load(max(done[0].parent.glob("0*")))
            rows.append((trial, torch.cat([model.reconstruct(unseen), model.sample(SHOWN)])))
    cells = [(name, to_picture(grid_of(images, SHOWN))) for name, images in rows]
    size = 2 * cells[0][1].width
    height = sum(2 * cell.height + 8 for _, cell in cells)
    sheet = Image.new("RGB", (size + 100, height), "white")
    top = 0
    for name, cell in cells:
        sheet.paste(cell.resize((size, 2 * cell.height), Image.Resampling.BOX), (100, top))
        ImageDraw.Draw(sheet).text((4, top + 20), name, fill="black")
        top += 2 * cell.height + 8
    sheet.quantize(256).save(RESULTS.with_name(f"quality-{store.name}.png"), optimize=True)


def prepare(
    name: str, root: Path, faces: Path | None, labels: Path | None, idx: Path | None
) -> Store:
    """The prepared set; prepares it on first use."""
    if name not in prepared_in(root):
        if name == "faces":
            if not (faces and labels):
                raise click.UsageError("give --faces ZIP and --labels CSV (column person)")
            words = [str(faces), "--resolution", "32", "--val-fraction", "0.2"]
            words += ["--labels", str(labels), "--split-by", "person"]
        else:
            if not idx:
                raise click.UsageError(f"give --idx FOLDER with the IDX files of {name}")
            words = [name, "--source", str(idx), "--grayscale"]
        words = ["data", "prepare", *words, "--name", name, "--data-root", str(root)]
        subprocess.run([sys.executable, "-m", "pgvae", *words], check=True)
    return Store(root / name)


@click.command()
@click.option("--faces", type=click.Path(exists=True, path_type=Path))
@click.option("--labels", type=click.Path(exists=True, path_type=Path))
@click.option("--idx", type=click.Path(exists=True, path_type=Path))
@click.option("--set", "set_name", type=click.Choice(["faces", "fashion-mnist"]), default="faces")
@click.option("--data-root", type=click.Path(path_type=Path), default=Path("datasets"))
@click.option("--outdir", type=click.Path(path_type=Path), default=Path("runs/quality"))
@click.option(
    "--trial", "trials", multiple=True, help="Of TRIALS or ABLATION, or NAME/4.  [default: TRIALS]"
)
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2))
@click.option("--budget", default=BUDGET, help="CPU-seconds of a run.")
def main(
    faces: Path | None,
    labels: Path | None,
    idx: Path | None,
    set_name: str,
    data_root: Path,
    outdir: Path,
    trials: tuple[str, ...],
    seeds: tuple[int, ...],
    budget: float,
) -> None:
    """Train, measure and draw TRIALS, by default all."""
    torch.set_num_threads(1)
    store = prepare(set_name, data_root, faces, labels, idx)
    usual = [t for t in TRIALS if store.attributes or t != "introvac"]
    referee = Referee(store)
    about = {"set": store.name, "seed": 0}
    record({"trial": "reals", **about, **referee.fakes(referee.others)})
    for trial in trials or (*usual, "recipe/4"):
        for seed in seeds:
            run, seconds = train(trial, store, seed, outdir, budget)
            model = pgvae.load(run)
            about = {"trial": trial, "set": store.name, "seed": seed}
            done = {"cpu_seconds": round(seconds), "images": model.images_seen}
            record({**about, **done, **referee.judge(model)})
    write_table()
    draw(outdir, store)


if __name__ == "__main__":
    main()
