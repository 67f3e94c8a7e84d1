"""Train an objective on points in the plane, and score its samples.

    python benchmarks/toy2d.py --objective soft_introvae --seeds 3
    python benchmarks/toy2d.py --objective introvae --set margin=2 --data rings

The objectives, the training step and the averages are the engine's own; the networks are small
multilayer perceptrons, and a point is an image of one pixel with two channels. Each run appends a
record to benchmarks/results/toy2d.json (a run of the same objective, preset, data and seed
replaces the one before), and a picture of its samples over the data's density is kept beside it.

Squared errors of Soft-IntroVAE's family are stated for images in [0, 1], half of the networks'
[-1, 1]; so that weights mean what they do in the papers' toys, networks see points times two.
"""

import copy
import itertools
import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

from pgvae import tuning

tuning.shorten_spinning()

import click  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from pgvae.config import from_dict  # noqa: E402
from pgvae.metrics import toy2d as metric  # noqa: E402
from pgvae.nn.encoder import Judged  # noqa: E402
from pgvae.nn.growing import seeded  # noqa: E402
from pgvae.objectives import OBJECTIVES, Objective, terms  # noqa: E402
from pgvae.schedule import Schedule, Stage  # noqa: E402
from pgvae.sizes import SQUARE  # noqa: E402
from pgvae.training.plan import parse_settings  # noqa: E402
from pgvae.training.state import Dials, Skips, TrainState, derive_seed  # noqa: E402
from pgvae.training.step import train_step  # noqa: E402
from pgvae.types import Batch, Nets, Posterior  # noqa: E402

RESULTS = Path(__file__).parent / "results"
POINTS = 5000
SCALE = 2.0  # of what networks see, over the plane's units

RING = 2 / 1.414
SIGMA = 0.02 / 1.414
_ANGLES = np.arange(8) * np.pi / 4
CENTRES = RING * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def draw_points(data: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points [count, 2] of a distribution within [-2, 2]^2."""
    if data == "8gaussians":
        return CENTRES[rng.integers(0, 8, count)] + SIGMA * rng.normal(size=(count, 2))
    if data == "checkerboard":
        x = rng.uniform(-2, 2, count)
        y = rng.uniform(0, 1, count) - 2 * rng.integers(0, 2, count) + np.floor(x) % 2
        return np.stack([x, y], axis=1)
    if data == "rings":
        radius = 0.45 * rng.integers(1, 5, count) + 0.03 * rng.normal(size=count)
        angle = rng.uniform(0, 2 * np.pi, count)
        return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    turn = 3 * np.pi * np.sqrt(rng.uniform(size=count))  # spirals: one and a half turns each
    arm = rng.choice([-1.0, 1.0], count)[:, None]
    curve = np.stack([-np.cos(turn), np.sin(turn)], axis=1) * turn[:, None] * (1.8 / (3 * np.pi))
    return arm * curve + 0.04 * rng.normal(size=(count, 2))


DATA = ("8gaussians", "checkerboard", "rings", "spirals")


@dataclass(frozen=True)
class Preset:
    """How one objective is trained on points.

    steps: iterations, the first `pretrain` of them as a VAE. milestones: steps after which the
    rate is multiplied by `factor`. average: half-life of the generator's average, in steps.
    """

    settings: dict[str, float | str] = field(default_factory=dict)
    latent_dim: int = 2
    width: int = 128
    batch: int = 128
    steps: int = 12_000
    pretrain: int = 0
    lr: float = 2e-4
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    average: float = 0.0


_SOFT = {"beta_rec": 0.2, "beta_kl": 0.3, "beta_neg": 0.9}
_PLAIN = Preset(steps=6000, lr=3e-4, average=300)
_GAME = Preset(latent_dim=4, lr=3e-4, pretrain=500, average=300)

# The first of each objective is the one of the table. Search on 8 Gaussians, seed 0 (KL / JSD),
# 9,000 steps, rate 1e-3 times 0.2 at 4,500 and 7,000 steps, latents of 2 dimensions unless said:
#   introvae margin / alpha / beta: 5/.25/30 17.5/21.3, 5/1/30 14.8/39.4, 10/.25/100 67.7/58.3,
#     5/.25/100 10.4/21.0, 3/.25/10 7.9/15.7, 8/1/100 28.9/49.7, 20/.25/300 16.6/40.6,
#     5/.5/10 4.7/3.7, 5/.5/1 7.6/4.7; of 12,000 steps 5/.5/3 4.6/2.5, 5/.5/5 4.6/2.6,
#     8/.5/10 4.6/5.3, 3/.5/10 7.3/11.3, 5/1/5 4.2/3.6
#   5/.5/3 with no averages 12.8/5.3, and with a constant rate too 54/22.9; with a constant rate of
#     3e-4 2.2/3.1 (but 12,000 steps, seeds 1 and 2: 6.3/3.4, 6.9/3.8); 256 wide (seed 1) 17.9/6.0;
#     latents of 4 dimensions 1.7/2.9 (seeds 1 and 2: 7.5/5.4, 33.8/24.1), and with a constant rate
#     of 3e-4 1.8/2.8 (1.4/2.5, 1.5/2.5): "tuned"; the same with 8/.5/5 (seed 1) 1.2/2.4
#   soft_introvae beta_rec / beta_kl / beta_neg: 1/.05/1 10.5/14.5, 2/.05/2 19.5/25.9, 1/.1/2
#     20.2/22.6, 1/.02/.5 65/65, 5/.1/1 7.6/19.2
#   as_introvae beta_rec / beta_kl = beta_gen / beta_neg = beta_as, 12,000 steps at 3e-4: .2/.3/.9
#     9.2/5.1, .5/.1/.5 8.3/8.4: "tuned"; latents of 4 dimensions .2/.3/.9 109/31 (4 modes),
#     1/.3/2 (beta_as 1) 6.5/23.1; at 1e-3, falling, 4 dimensions .2/.3/.9 42.3/24.3 (4 modes); with
#     soft_introvae's "small" schedule .2/.3/.9 29.7/47.9 (4 modes)
#   pggan penalty / rate, 6,000 steps, 4 dimensions: 10/3e-4 220.2/107.7, 10/1e-3 121.5/70.6 (1
#     mode), .1/3e-4 220.2/109.3, .1/1e-3 38.2/21.9, 1/3e-4 7.4/24.8, 1/1e-3 5.7/4.0: "tuned";
#     10/3e-4 without drift, 12,000 steps 220.2/107.4
PRESETS: dict[str, dict[str, Preset]] = {
    "introvae": {
        "tuned": replace(_GAME, settings={"margin": 5.0, "alpha": 0.5, "beta": 3.0}),
    },
    "soft_introvae": {
        "small": Preset(_SOFT, pretrain=800, milestones=(4000, 6000)),
        "paper": Preset(
            _SOFT, width=256, batch=512, steps=30_000, pretrain=2000, milestones=(10_000, 15_000)
        ),
    },
    "as_introvae": {
        "tuned": Preset(
            {"beta_rec": 0.5, "beta_kl": 0.1, "beta_neg": 0.5, "beta_as": 0.5, "beta_gen": 0.1},
            lr=3e-4,
            pretrain=800,
            average=300,
        ),
    },
    "vae": {"sharp": replace(_PLAIN, settings={"beta_kl": 0.02})},
    "ae": {"plain": _PLAIN},
    "pggan": {"tuned": replace(_PLAIN, latent_dim=4, lr=1e-3, settings={"penalty": 1.0})},
    "ali": {"plain": replace(_PLAIN, latent_dim=4)},
}


class Perceptron(nn.Sequential):
    """Three hidden layers of `width` with ReLU."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        sizes = [inputs, width, width, width]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU(True)]
        super().__init__(*layers, nn.Linear(width, outputs))

    def power_iteration(self) -> None:
        """There is no spectral normalisation."""


class PointEncoder(Perceptron):
    """Points [N, 2, 1, 1] to a `Posterior`, as `pgvae.nn.Encoder`."""

    def __init__(self, config: SimpleNamespace, width: int) -> None:
        outputs = config.latent_dim * (1 if config.head == "sphere" else 2)
        super().__init__(config.channels, outputs, width)
        self.config = config
        self.classifier = nn.Linear(config.latent_dim, max(1, config.classes), bias=False)
        self.critic = nn.Linear(width, 1, bias=False)

    def forward(
        self, images: Tensor, alpha: float = 1.0, *, judge: bool = False
    ) -> Posterior | Judged:
        features = images.flatten(1) / SCALE
        *layers, last = list(self)[:-2]
        for layer in layers:
            features = layer(features)
        codes = last(features)
        if self.config.head == "sphere":
            return Posterior(F.normalize(codes, dim=1))
        posterior = Posterior(*codes.chunk(2, dim=1))
        return Judged(posterior, self.critic(features)[:, 0]) if judge else posterior

    def classify(self, latents: Tensor) -> Tensor:
        """Logits [N, K]."""
        return self.classifier(latents)


class PointDiscriminator(Perceptron):
    """Points, and for a joint one latents, to scores [N], as `pgvae.nn.Discriminator`."""

    def __init__(self, config: SimpleNamespace, width: int) -> None:
        joint = config.discriminator == "joint"
        super().__init__(config.channels + (config.latent_dim if joint else 0), 1, width)

    def forward(self, images: Tensor, alpha: float = 1.0, latents: Tensor | None = None) -> Tensor:
        points = images.flatten(1) / SCALE
        pairs = points if latents is None else torch.cat([points, latents], dim=1)
        return super().forward(pairs)[:, 0]


class PointGenerator(Perceptron):
    """Latents [N, d] to points [N, 2, 1, 1], as `pgvae.nn.Generator`."""

    def __init__(self, config: SimpleNamespace, width: int) -> None:
        super().__init__(config.latent_dim, config.channels, width)
        self.config = config

    def forward(self, latents: Tensor, alpha: float = 1.0) -> Tensor:
        return SCALE * super().forward(latents)[:, :, None, None]


def build(objective: Objective, preset: Preset, schedule: Schedule, seed: int) -> TrainState:
    """Networks and optimisers for points."""
    usual = {"classes": 0, "encoder": True, "discriminator": "none"}
    needed = {**usual, **objective.model_settings(2)}
    config = SimpleNamespace(
        resolution=1,
        base=SQUARE,
        channels=2,
        latent_dim=preset.latent_dim,
        head=needed["head"],
        classes=needed["classes"] if objective.needs_labels else 0,
        discriminator=needed["discriminator"],
        images_together=1,
    )
    with seeded(derive_seed(seed, "networks")):
        encoder = PointEncoder(config, preset.width) if needed["encoder"] else None
        generator = PointGenerator(config, preset.width)
        judge = None
        if config.discriminator != "none":
            judge = PointDiscriminator(config, preset.width)
    averages = (net and copy.deepcopy(net).requires_grad_(False) for net in (generator, encoder))
    nets = Nets(encoder, generator, *averages, discriminator=judge)
    device = torch.device("cpu")
    dials = Dials(device)
    optimizers = {
        name: torch.optim.Adam(net.parameters(), lr=dials.lr, betas=objective.betas, fused=True)
        for name, net in nets.trained().items()
    }
    run = SimpleNamespace(
        model=config,
        seed=seed,
        schedule=schedule,
        ema_kimg=preset.average * preset.batch / 1000,
        ema_rampup=0.0,
        init_from=None,
    )
    return TrainState(run, nets, optimizers, dials, torch.Generator(), Skips(device))


def train(objective: Objective, preset: Preset, data: str, seed: int) -> np.ndarray:
    """Points [5000, 2] of the averaged generator after training."""
    kimg = preset.batch / 1000
    schedule = Schedule(
        (Stage(4, preset.batch, preset.lr),),  # the resolution has no meaning here
        total_kimg=preset.steps * kimg,
        pretrain_kimg=preset.pretrain * kimg if objective.pretraining else 0,
        milestones_kimg=tuple(step * kimg for step in preset.milestones),
        milestone_factor=preset.factor,
    )
    state = build(objective, preset, schedule, seed)
    draws = np.random.default_rng([seed, 1])
    while state.images_seen < schedule.total_images:
        points = draw_points(data, preset.batch, draws)
        images = torch.from_numpy(SCALE * points).float()[:, :, None, None]
        labels = torch.from_numpy(points > 0).float()
        moment = schedule.at(state.images_seen)
        train_step(state, objective, moment, Batch(images, labels), "fp32")
    rng = torch.Generator().manual_seed(derive_seed(seed, "samples"))
    config = state.nets.ema.config
    noise = torch.randn(POINTS, config.latent_dim, generator=rng)
    with torch.no_grad():
        return state.nets.ema(terms.on_prior(config.head, noise)).flatten(1).numpy() / SCALE


def score(points: np.ndarray, data: str, seed: int) -> dict[str, float | int | None]:
    """The scores of generated points, against fresh real ones."""
    real = draw_points(data, POINTS, np.random.default_rng([seed, 2]))
    kl, jsd, jsd_true = metric.scores(real, points)
    covered, inside = metric.modes(points, CENTRES, SIGMA)
    on_modes = data == "8gaussians"
    return {
        "kl": round(kl, 2),
        "jsd": round(jsd, 2),
        "jsd_true": round(jsd_true, 4),
        "modes": covered if on_modes else None,
        "in_mode": round(inside, 3) if on_modes else None,
    }


def picture(points: np.ndarray, data: str, size: int = 256) -> Image.Image:
    """Samples in orange over the data's density in blue, [-2, 2]^2."""
    real = draw_points(data, 200_000, np.random.default_rng(0))
    layers = []
    for cloud in (real, points):
        counts, _, _ = np.histogram2d(cloud[:, 0], cloud[:, 1], bins=size, range=[[-2, 2]] * 2)
        layers.append(np.flipud(counts.T))
    density = np.sqrt(layers[0] / max(layers[0].max(), 1))[..., None]
    image = 255 - density * np.array([200.0, 120.0, 40.0])
    image[layers[1] > 0] = (230, 90, 20)
    return Image.fromarray(image.astype(np.uint8))


def keep(records: list[dict], path: Path) -> None:
    """Add records to a file; a run that was there already is replaced."""

    def run_of(record: dict) -> tuple:
        return tuple(record[key] for key in ("objective", "preset", "data", "seed"))

    before = json.loads(path.read_text()) if path.exists() else []
    new = {run_of(record) for record in records}
    rows = sorted([r for r in before if run_of(r) not in new] + records, key=run_of)
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def write_table(path: Path) -> None:
    """Medians over seeds, as Markdown beside the records."""
    groups: dict[tuple, list[dict]] = {}
    for row in json.loads(path.read_text()):
        groups.setdefault((row["objective"], row["preset"], row["data"]), []).append(row)
    lines = ["| objective | preset | data | seeds | KL | JSD | true JSD | modes | in mode |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for group, rows in groups.items():
        figures = [
            "" if any(r[key] is None for r in rows) else f"{np.median([r[key] for r in rows]):.4g}"
            for key in ("kl", "jsd", "jsd_true", "modes", "in_mode")
        ]
        lines.append("| " + " | ".join([*group, str(len(rows)), *figures]) + " |")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


@click.command()
@click.option("--objective", required=True, type=click.Choice([*OBJECTIVES]))
@click.option("--preset", default=None, help="One of the objective's.  [default: the first]")
@click.option("--data", default="8gaussians", type=click.Choice(DATA))
@click.option("--seeds", default=3, type=click.IntRange(min=1), help="Seeds 0, 1, ...")
@click.option("--set", "texts", multiple=True, metavar="NAME=VALUE")
@click.option("--change", multiple=True, metavar="NAME=VALUE", help="Of the preset: steps=1000.")
@click.option("--json", "path", type=click.Path(path_type=Path), default=RESULTS / "toy2d.json")
def main(
    objective: str,
    preset: str | None,
    data: str,
    seeds: int,
    texts: tuple[str, ...],
    change: tuple[str, ...],
    path: Path,
) -> None:
    """Train OBJECTIVE on points and score it, once a seed."""
    known = PRESETS.get(objective, {"default": Preset()})
    name = preset or next(iter(known))
    if name not in known:
        raise click.BadParameter(f"{objective} has {', '.join(known)}", param_hint="--preset")
    chosen = known[name]
    if change:
        changes = dict(text.split("=", 1) for text in change)
        chosen = replace(chosen, **{k: json.loads(v) for k, v in changes.items()})
    everywhere, _ = parse_settings(OBJECTIVES[objective], texts)
    settings = {**chosen.settings, **everywhere}
    label = ",".join([name, *texts, *change])
    torch.set_num_threads(1)
    records, pictures = [], []
    for seed in range(seeds):
        start = time.perf_counter()
        goal = from_dict(OBJECTIVES[objective], settings, objective)
        points = train(goal, chosen, data, seed)
        record = {
            "objective": objective,
            "preset": label,
            "data": data,
            "seed": seed,
            **score(points, data, seed),
            "seconds": round(time.perf_counter() - start, 1),
        }
        click.echo(json.dumps(record))
        records.append(record)
        pictures.append(picture(points, data))
    keep(records, path)
    write_table(path)
    sheet = Image.new("RGB", (256 * seeds, 256))
    for column, image in enumerate(pictures):
        sheet.paste(image, (256 * column, 0))
    sheet.save(path.with_name(f"{path.stem}-{objective}-{name}-{data}.png"))
    finite = [record["kl"] for record in records if math.isfinite(record["kl"])]
    click.echo(f"median KL {np.median(finite):.2f}")


if __name__ == "__main__":
    main()
