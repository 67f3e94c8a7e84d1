"""Does editing change what it should? An independent classifier says.

python benchmarks/editing.py --snapshot RUN --dataset avatars [--data-root datasets]

A small CNN (the judge) learns the attributes from the set's training images. Then, for each
attribute: unseen images without it are edited to have it, and it is counted on how many the judge
sees it, and on how many it sees the other attributes as it saw them before, in the reconstruction
and in the original. Likewise the other way round, and for conditional samples. Prints a table in
Markdown; --pictures FOLDER also writes grids.
"""

import argparse
import itertools
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pgvae
from pgvae.config import LabelConfig
from pgvae.data import Store, open_dataset, read_images
from pgvae.inference import Model
from pgvae.pictures import interleave, save_grid

EPOCHS, BATCH, RATE = 6, 64, 4e-3


class Judge(nn.Module):
    """[N, 3, R, R] -> logits [N, K]."""

    def __init__(self, resolution: int, attributes: int) -> None:
        super().__init__()
        widths = (3, 24, 48, 96)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        features = widths[-1] * (resolution // 8) ** 2
        head = [nn.Linear(features, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, attributes)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), *head)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    @torch.no_grad()
    def says(self, images: Tensor) -> Tensor:
        """Yes or no: [N, K] bool."""
        return torch.cat([self(part) > 0 for part in images.split(256)])


def train_judge(images: Tensor, labels: Tensor, seed: int = 0) -> Judge:
    """A judge that has learned labels [N, K] (1, 0) of images [N, 3, R, R], with random flips."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        judge = Judge(images.shape[-1], labels.shape[1])
        optimizer = torch.optim.Adam(judge.parameters())
        steps = EPOCHS * -(-len(images) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(images)).split(BATCH):
                flipped = torch.rand(len(chosen), 1, 1, 1) < 0.5
                batch = torch.where(flipped, images[chosen].flip(3), images[chosen])
                loss = F.binary_cross_entropy_with_logits(judge(batch), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return judge.eval()


def edits(
    model: Model, judge: Judge, images: Tensor, labels: Tensor, delta: float, to: float | None
) -> dict[str, float]:
    """Of each attribute, added and removed: share that the judge sees changed, others kept."""
    names, result = model.attributes, {}
    again = judge.says(model.reconstruct(images))
    for k, name in enumerate(names):
        others = [i for i in range(len(names)) if i != k]
        for verb, there, sign in (("add", 0, 1), ("remove", 1, -1)):
            chosen = labels[:, k] == there
            certainty = None if to is None else (to if sign > 0 else 1 - to)
            edited = model.edit(images[chosen], name, sign * delta, to=certainty)
            seen = judge.says(edited)
            result[f"{verb} {name}: has changed"] = (seen[:, k] != there).float().mean().item()
            for other in others:
                same = seen[:, other] == again[chosen][:, other]
                as_real = seen[:, other] == labels[chosen][:, other].bool()
                kept = f"{verb} {name}: {names[other]} as in the"
                result[f"{kept} reconstruction"] = same.float().mean().item()
                result[f"{kept} original"] = as_real.float().mean().item()
    return result


def samples(model: Model, judge: Judge, count: int, sure: float | None) -> dict[str, float]:
    """Of conditional samples: the share with all that was asked for, by either method."""
    names, result = model.attributes, {}
    for wanted in ({names[0]: 1}, {names[0]: 0}, {names[-1]: 1}, {names[0]: 1, names[-1]: 0}):
        for method in ("langevin", "rejection"):
            images = model.sample_conditional(count, wanted, method=method, sure=sure)
            seen = judge.says(images)
            right = [seen[:, names.index(n)] == bool(v) for n, v in wanted.items()]
            what = ", ".join(f"{n}={v}" for n, v in wanted.items())
            result[f"{method} {what}"] = torch.stack(right).all(dim=0).float().mean().item()
    return result


def draw(model: Model, images: Tensor, labels: Tensor, delta: float, folder: Path) -> None:
    """Triplets and strips of unseen images without the first attribute, conditional samples."""
    folder.mkdir(parents=True, exist_ok=True)
    first = images[(labels == 0).all(dim=1)][:16]
    rows = [first, model.reconstruct(first)]
    rows += [model.edit(first, name, delta) for name in model.attributes]
    rows.append(model.edit(first, model.attributes, delta))
    save_grid(folder / "edits.png", interleave(*(r[:8] for r in rows), columns=8), 8)
    steps = torch.linspace(-1, 1, 9).tolist()
    strip = [first[:6], *(model.edit(first[:6], model.attributes[0], s * delta) for s in steps)]
    save_grid(folder / "strip.png", torch.stack(strip, dim=1).flatten(0, 1), 10)
    rows = [
        model.sample_conditional(8, dict.fromkeys(model.attributes, 0) | {name: 1}, seed=1)
        for name in model.attributes
    ]
    save_grid(folder / "conditional.png", torch.cat(rows), 8)


def images_and_labels(store: Store, split: str, model: Model) -> tuple[Tensor, Tensor]:
    """All images of a split at the model's resolution, and what their labels say."""
    indices = store.split(split)
    said = torch.from_numpy(store.said(LabelConfig(model.attributes))[indices])
    return read_images(store, indices, model.resolution), said


def table(heads: list[str], columns: list[dict[str, float]]) -> None:
    """Print shares as a table in Markdown."""
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(f'{c[name]:.1%}' for c in columns)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snapshot", required=True, type=Path)
    parser.add_argument("--dataset", default="avatars")
    parser.add_argument("--data-root", default="datasets", type=Path)
    parser.add_argument("--delta", type=float, nargs="+", default=[3.0])
    parser.add_argument("--to", type=float, nargs="*", default=[])
    parser.add_argument("--sure", type=float, nargs="*", default=[0.5])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    model = pgvae.load(args.snapshot)
    store = open_dataset(args.dataset, args.data_root)
    unseen, labels = images_and_labels(store, "val", model)
    start = time.monotonic()
    judge = train_judge(*images_and_labels(store, "train", model))
    right = (judge.says(unseen) == labels.bool()).float().mean(dim=0)
    print(f"{model.path}: {model.images_seen / 1000:g} kimg, {model.resolution} px")
    print(f"the judge, {time.monotonic() - start:.0f} s: ", end="")
    print(", ".join(f"{n} {r:.1%}" for n, r in zip(model.attributes, right, strict=True)))
    ways = [(d, None) for d in args.delta] + [(0.0, p) for p in args.to]
    heads = [f"delta {d:g}" if p is None else f"to {p:g}" for d, p in ways]
    edited = [edits(model, judge, unseen, labels, *way) for way in ways]
    table([f"of {len(unseen)} unseen images", *heads], edited)
    heads = ["latents alone", *(f"images, sure {sure:g}" for sure in args.sure)]
    drawn = [samples(model, judge, args.count, sure) for sure in (None, *args.sure)]
    table([f"of {args.count} conditional samples", *heads], drawn)
    if args.pictures:
        draw(model, unseen, labels, args.delta[-1], args.pictures)


if __name__ == "__main__":
    main()
