"""How fast images come, and how much of a training step waits for them.

    python benchmarks/loader.py --workers 2

Random smooth pictures are prepared once for each codec; `Loader.batch` is timed by itself, image
after image of an epoch, at each resolution. Raw pixels up to 128 px are the same whatever the
codec. Then iterations of PIONEER load meanwhile: the share of their time in which they wait.
"""

import json
import os
import platform
import tempfile
import time
from pathlib import Path

from pgvae import tuning

tuning.shorten_spinning()

import click  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from scaling import config_of, step  # noqa: E402

from pgvae.data import Loader, Store  # noqa: E402
from pgvae.data.prepare import Options, prepare  # noqa: E402
from pgvae.data.recipes import Split, folder  # noqa: E402
from pgvae.objectives import schedule_called  # noqa: E402
from pgvae.training.state import TrainState  # noqa: E402


def prepared(root: Path, codec: str, count: int, px: int) -> Store:
    """A set of `count` smooth random pictures."""
    rng = np.random.default_rng(0)
    pictures = root / "pictures"
    if not pictures.exists():
        pictures.mkdir()
        for index in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            image = coarse.resize((px, px), Image.Resampling.BICUBIC)
            image.save(pictures / f"{index:04d}.bmp")
    recipe = folder(codec, pictures, Split(fraction=0.0))
    prepare(recipe, Options(workers=0, codec=codec), root, say=lambda _: None)
    return Store(root / codec)


def images_per_second(loader: Loader, px: int, batch: int, seconds: float) -> float:
    """Of `Loader.batch`, which reads the next one meanwhile, with mirroring, for some seconds."""
    loader.batch(0, batch, px)
    seen, start = batch, time.perf_counter()
    while time.perf_counter() - start < seconds:
        loader.batch(seen, batch, px)
        seen += batch
    return (seen - batch) / (time.perf_counter() - start)


def waiting(loader: Loader, px: int, batch: int, maps: int, device: torch.device) -> float:
    """The share of a step's time that is spent in `Loader.batch`, over ten iterations."""
    state = TrainState.create(config_of(px, maps, maps, batch), device, px)
    spent = [0.0, 0.0]
    for index in range(11):
        start = time.perf_counter()
        images = loader.batch(index * batch, batch, px).images
        loaded = time.perf_counter()
        step(state, images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if index:
            spent[0] += loaded - start
            spent[1] += time.perf_counter() - start
    return spent[0] / spent[1]


@click.command(context_settings={"show_default": True})
@click.option("--stages", default="4,8,16,32,64,128,256", help="Pixels per side.")
@click.option("--codecs", default="png,webp", help="Of what is larger than 128 px.")
@click.option("--count", default=64, help="Pictures.")
@click.option("--workers", default=2, help="Threads that decode.")
@click.option("--seconds", default=1.0, help="Of each figure.")
@click.option("--maps", default=64, help="Of the step that loads meanwhile; 0: none.")
@click.option("--device", default="cpu")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a record there.")
def main(stages, codecs, count, workers, seconds, maps, device, json_file) -> None:
    """Time loading, and its share of a step."""
    resolutions, device = [int(px) for px in stages.split(",")], torch.device(device)
    batches, rows = schedule_called("pioneer").batch_sizes, []
    machine = f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} CPUs, {device}"
    click.echo(machine)
    click.echo(f"{'px':>5} {'codec':>6} {'batch':>6} {'img/s':>9} {'waits':>6}")
    with tempfile.TemporaryDirectory() as root:
        for index, codec in enumerate(codecs.split(",")):
            store = prepared(Path(root), codec, count, max(resolutions))
            loader = Loader(store, mirror=True, workers=workers, device=device)
            for px in resolutions:
                if index and px <= 128:
                    continue
                speed = images_per_second(loader, px, batches[px], seconds)
                share = waiting(loader, px, batches[px], maps, device) if maps else None
                name = codec if px > 128 else "raw"
                rows.append([px, name, batches[px], speed, share])
                shown = "" if share is None else f"{share:.1%}"
                click.echo(f"{px:>5} {name:>6} {batches[px]:>6} {speed:>9.0f} {shown:>6}")
            loader.close()
            store.close()
    if json_file is not None:
        record = {"about": machine, "rows": rows}
        json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
