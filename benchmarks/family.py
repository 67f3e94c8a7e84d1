"""Train every objective for a few minutes on small images, and put them side by side.

    pgvae data prepare avatars --resolution 32 --count 6000
    python benchmarks/family.py                       # every objective, one after the other
    python benchmarks/family.py --trial introvac      # one of them

Each trial is one `train.py` command at 32 px with small maps, of a few minutes on two CPU cores.
Its record in benchmarks/results/family.json has the images seen, the seconds,
PSNR of unseen images (and its gain over the mean training image), SWD of 2,000 samples against
2,000 training images, and accuracies; "reals" is the SWD of other training images against those.
docs/pictures/family.png shows unseen images, reconstructions (of pggan, which has no encoder, by
optimisation) and samples of each objective.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import pgvae
from pgvae.data import Store
from pgvae.metrics import swd
from pgvae.objectives import OBJECTIVES
from pgvae.pictures import grid_of, to_picture

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "family.json"
PICTURE = ROOT / "docs" / "pictures" / "family.png"
COUNT, SHOWN = 2000, 12
COMMON = [
    *("--resolution", "32", "--batch", "16", "--mirror", "--seed", "0"),
    *("--fmap-base", "256", "--fmap-max", "128", "--latent-dim", "64"),
]
GROWN = ["--grow", "--kimg-per-stage", "6"]
# Small runs learn faster on equalized learning rates than on IntroVAE's own networks.
PGGAN = ["--arch", "pggan"]
GAME = [*GROWN, *PGGAN, "--pretrain-kimg", "6"]
LABELS = [*GROWN, *PGGAN, "--attributes", "glasses,facial_hair"]
# Name: what is given to train.py beside COMMON.
TRIALS: dict[str, list[str]] = {
    "ae": ["--objective", "ae", *GROWN, "--lr", "2e-3", "--total-kimg", "48"],
    "vae": [
        *("--objective", "vae", *GROWN, "--lr", "2e-3", "--total-kimg", "48"),
        *("--set", "beta_kl=0.4"),
    ],
    "age": ["--objective", "age", *GROWN, "--total-kimg", "30"],
    "pioneer": ["--objective", "pioneer", *GROWN, "--total-kimg", "30"],
    "balanced_pioneer": ["--objective", "balanced_pioneer", *GROWN, "--total-kimg", "30"],
    "introvae": ["--objective", "introvae", *GAME, "--total-kimg", "32"],
    "soft_introvae": ["--objective", "soft_introvae", *GAME, "--total-kimg", "28"],
    "as_introvae": ["--objective", "as_introvae", *GAME, "--total-kimg", "28"],
    "vac": ["--objective", "vac", *LABELS, "--total-kimg", "48"],
    "introvac": ["--objective", "introvac", *LABELS, "--total-kimg", "34"],
    "rivae": ["--objective", "rivae", *GROWN, "--total-kimg", "30"],
    "pggan": ["--objective", "pggan", *GROWN, "--total-kimg", "30"],
    "ali": ["--objective", "ali", *GROWN, "--total-kimg", "30"],
}
# What spectral norm does, and (at 16 px) how much the hinge and the exponent need their weights.
SMALL = ["--resolution", "16", "--grow", "--kimg-per-stage", "6", "--total-kimg", "24"]
DUEL = [*SMALL, *PGGAN, "--pretrain-kimg", "6"]
CLAIMS: dict[str, list[str]] = {
    "pioneer without spectral norm": [*TRIALS["pioneer"], "--encoder-norm", "equalized"],
    **{
        f"introvae, margin {margin}": [
            "--objective",
            "introvae",
            *DUEL,
            "--set",
            f"margin={margin}",
        ]
        for margin in (10, 110, 1000)
    },
    **{
        f"soft_introvae, beta_neg {weight}": [
            *("--objective", "soft_introvae", *DUEL, "--set", f"beta_neg={weight}")
        ]
        for weight in (16, 256, 4096)
    },
}


def train(trial: str, data_root: Path, outdir: Path) -> tuple[Path, float]:
    """Run the trial's command; -> its run directory and the seconds it took (0 if it was done)."""
    command = [sys.executable, str(ROOT / "train.py"), "--dataset", "avatars", "--resume"]
    folder = trial.replace(" ", "-").replace(",", "")
    where = ["--data-root", str(data_root), "--outdir", str(outdir / folder)]
    start = time.perf_counter()
    subprocess.run(
        [*command, *where, *COMMON, *(TRIALS | CLAIMS)[trial]], check=True, env=os.environ
    )
    run = max((outdir / folder).glob("[0-9]*"))
    return run, time.perf_counter() - start


def images_of(store: Store, indices: np.ndarray, resolution: int = 32) -> Tensor:
    """[N, C, R, R] in [-1, 1]."""
    return torch.from_numpy(store.get_many(indices, resolution)).float() / 127.5 - 1


def mean_swd(reals: Tensor, fakes: Tensor) -> float:
    """The mean over pyramid levels."""
    return round(float(np.mean(list(swd(reals, fakes).values()))), 1)


def measure(run: Path, store: Store) -> dict[str, float]:
    """The figures of the run's newest snapshot."""
    snapshot = max(run.glob("snapshot-*.safetensors"))
    model = pgvae.load(snapshot)
    train_images = store.split("train")
    reals = images_of(store, train_images[:COUNT], model.resolution)
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    last = next((line for line in reversed(lines) if "val/psnr" in line), {})
    figures = {k.removeprefix("val/"): round(v, 4) for k, v in last.items() if "val/" in k}
    return {"images": model.images_seen, **figures, "swd": mean_swd(reals, model.sample(COUNT))}


def draw(outdir: Path, store: Store) -> None:
    """Unseen images, then two rows for each objective on record: reconstructions, samples.

    The picture stays as it is where a run of one of them is not there.
    """
    names = [name for name in OBJECTIVES if name in recorded()]
    absent = [name for name in names if not [*(outdir / name).glob("[0-9]*/snapshot-*")]]
    if absent:
        click.echo(f"{PICTURE} is left as it is: {outdir} has no run of {', '.join(absent)}")
        return
    unseen = images_of(store, store.split("val")[:SHOWN])
    rows = [_row("unseen", unseen)]
    for name in names:
        model = pgvae.load(max((outdir / name).glob("[0-9]*/snapshot-*.safetensors")))
        images = torch.cat([model.reconstruct(unseen), model.sample(SHOWN, seed=1)])
        rows.append(_row(name, images))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    sheet.quantize(256).save(PICTURE, optimize=True)


def _row(name: str, images: Tensor) -> Image.Image:
    """[N, 3, 32, 32], SHOWN a line, beside a name."""
    lines, cell = len(images) // SHOWN, 48
    cells = to_picture(grid_of(images, SHOWN)).resize(
        (SHOWN * cell, lines * cell), Image.Resampling.BOX
    )
    row = Image.new("RGB", (cells.width + 110, cells.height + 8), "white")
    row.paste(cells, (110, 0))
    ImageDraw.Draw(row).text((4, cells.height // 2 - 6), name, fill="black")
    return row


def recorded() -> dict[str, dict]:
    """What the results file has, by trial."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def record(trial: str, values: dict) -> None:
    """Put a trial's figures into the results file."""
    click.echo(f"{trial}: {json.dumps(values)}")
    RESULTS.write_text(json.dumps({**recorded(), trial: values}, indent=1) + "\n")


def write_table() -> None:
    """benchmarks/results/family.md from what is recorded."""
    rows = ["| trial | images | PSNR, unseen (over the mean image) | SWD | accuracy, unseen |"]
    rows += ["|---|---|---|---|---|"]
    found = recorded()
    for name in [*TRIALS, *CLAIMS, "reals"]:
        row = found.get(name, {})
        if not row:
            continue
        accuracy = ", ".join(
            f"{k.removeprefix('accuracy ')} {v:.1%}" for k, v in row.items() if "accuracy" in k
        )
        quality = f"{row['psnr']:.1f} dB ({row['psnr_gain']:+.1f})" if "psnr" in row else ""
        images = f"{row['images']:,}" if "images" in row else ""
        rows.append(f"| {name} | {images} | {quality} | {row['swd']} | {accuracy} |")
    RESULTS.with_suffix(".md").write_text("\n".join(rows) + "\n")


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), default=Path("datasets"))
@click.option("--outdir", type=click.Path(path_type=Path), default=Path("runs/family"))
@click.option("--trial", "trials", multiple=True, type=click.Choice([*TRIALS, *CLAIMS]))
def main(data_root: Path, outdir: Path, trials: tuple[str, ...]) -> None:
    """Train, measure and draw TRIALS, by default all."""
    store = Store(data_root / "avatars")
    if "reals" not in recorded():
        train_images = store.split("train")
        halves = (images_of(store, part) for part in (train_images[:COUNT], train_images[-COUNT:]))
        record("reals", {"swd": mean_swd(*halves)})
    for trial in trials or TRIALS:
        run, seconds = train(trial, data_root, outdir)
        before = recorded().get(trial, {}).get("seconds", 0)
        record(
            trial,
            {
                "seconds": round(seconds) if seconds > 60 else before,
                **measure(run, store),
                "command": " ".join([*COMMON, *(TRIALS | CLAIMS)[trial]]),
            },
        )
    write_table()
    draw(outdir, store)


if __name__ == "__main__":
    main()
