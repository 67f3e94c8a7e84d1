"""How fast `pgvae data prepare` makes sets, and in how much memory, beside a plain loop of Pillow.

    python benchmarks/prepare.py                                    # JPEG of 128, 512, 1024 px, PNG
    python benchmarks/prepare.py --images faces/ --count 10000      # one's own images
    python benchmarks/prepare.py --cases jpeg-128 --count 100000    # memory over many images
    python benchmarks/prepare.py --read                             # an epoch from a cold cache

Each row is a fresh process from start to end. The plain loop decodes an image, crops the central
square, scales it to each resolution and appends its pixels to a file for each. CPU-seconds are of
all processes together; memory is the peak of their PSS, in which a shared page counts once.
"""

import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import PIL
from PIL import Image

from pgvae.data import Store

CASES = ("jpeg-128", "jpeg-512", "jpeg-1024", "png-128")
COUNTS = {128: 2000, 512: 600, 1024: 200}
_LOOK = 0.1  # seconds between two looks at memory
PLAIN = """
import sys
from pathlib import Path
from PIL import Image
source, out, resolution = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
sizes = [resolution >> k for k in range(resolution.bit_length() - 2)]
out.mkdir()
files = {size: (out / str(size)).open("wb") for size in sizes}
for path in sorted(source.iterdir()):
    with Image.open(path) as image:
        image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if side != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
    for size in sizes:
        files[size].write(image.resize((size, size), Image.Resampling.BOX).tobytes())
"""


def write_images(folder: Path, kind: str, side: int, count: int) -> None:
    """Pictures with large structures and a little noise, as photographs have."""
    rng = np.random.default_rng(side)
    folder.mkdir(parents=True)
    grain = rng.normal(0, 6, (side, side, 3)).astype(np.float32)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        pixels = (smooth + np.roll(grain, index, (0, 1))).clip(0, 255).astype(np.uint8)
        path = folder / f"{index:06d}.{'jpg' if kind == 'jpeg' else kind}"
        Image.fromarray(pixels).save(path, quality=92)


def descendants(pid: int) -> list[int]:
    """A process and all that come from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(d for child in children for d in descendants(int(child)))]


def pss_of(pid: int) -> int:
    """Bytes of memory of a process, its share of what it shares; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * int(text.split("\nPss:")[1].split()[0])


def run(line: list[str], out: Path) -> tuple[float, float, float]:
    """(seconds, CPU-seconds, peak MiB of PSS) of a command and all its processes."""
    shutil.rmtree(out, ignore_errors=True)
    peak, done = 0, threading.Event()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)

    def look() -> None:
        nonlocal peak
        while not done.wait(_LOOK):
            peak = max(peak, sum(map(pss_of, descendants(process.pid))))

    looking = threading.Thread(target=look)
    looking.start()
    code = process.wait()
    seconds = time.perf_counter() - begun
    done.set()
    looking.join()
    if code:
        raise SystemExit(f"{' '.join(line)} ended with {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, peak / 2**20


def prepare_line(source: Path, out: Path, resolution: int, workers: int) -> list[str]:
    """The command of a user."""
    words = [sys.executable, "-m", "pgvae", "data", "prepare", str(source), "--name", "set"]
    words += ["--data-root", str(out), "--resolution", str(resolution)]
    return [*words, "--workers", str(workers)]


def compare(name: str, source: Path, resolution: int, workers: list[int], times: int) -> None:
    """Print a row for the plain loop and each number of workers, the best of `times` in turns."""
    count, out = len(list(source.iterdir())), source.parent / "out"
    plain = [sys.executable, "-c", PLAIN, str(source), str(out), str(resolution)]
    lines = {"plain loop": plain}
    lines |= {f"{w} workers": prepare_line(source, out, resolution, w) for w in workers}
    found: dict[str, list] = {what: [] for what in lines}
    for _ in range(times):
        for what, line in lines.items():
            found[what].append(run(line, out))
    best = {what: min(runs) for what, runs in found.items()}
    for what, (seconds, used, memory) in best.items():
        ratio = best["plain loop"][0] / seconds
        click.echo(
            f"{name:<10} {resolution:>5} {count:>7,} {what:<11} {seconds:>7.2f} {used:>7.2f} "
            f"{count / seconds:>8.0f} {ratio:>6.2f} {memory:>7.0f}"
        )
    shutil.rmtree(out)


def drop_cache(folder: Path) -> None:
    """Have the system forget the pages of files."""
    for path in folder.rglob("*.mdb"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_epoch(folder: Path, order: Callable[[int], np.ndarray]) -> float:
    """Images per second of an epoch at the highest resolution, from a cold cache, 32 at a time."""
    drop_cache(folder)
    store = Store(folder)
    indices = order(len(store))
    begun = time.perf_counter()
    for start in range(0, len(store), 32):
        store.get_many(indices[start : start + 32], store.resolutions[-1])
    seconds = time.perf_counter() - begun
    store.close()
    return len(store) / seconds


def compare_reading(name: str, source: Path, resolution: int, times: int) -> None:
    """Print the rates of epochs in order and in random order, the best of `times` in turns."""
    out = source.parent / "out"
    run(prepare_line(source, out, resolution, 2), out)
    orders = {"in order": np.arange, "at random": np.random.default_rng(0).permutation}
    rates = [
        {k: read_epoch(out / "set", order) for k, order in orders.items()} for _ in range(times)
    ]
    best = {k: max(rate[k] for rate in rates) for k in orders}
    shown = ", ".join(f"{k} {rate:,.0f} img/s" for k, rate in best.items())
    click.echo(
        f"{name:<10} {resolution:>5} read {shown}: {best['at random'] / best['in order']:.2f}"
    )
    shutil.rmtree(out)


@click.command()
@click.option("--cases", default=",".join(CASES), show_default=True, help="KIND-SIDE,...")
@click.option("--images", type=click.Path(path_type=Path), help="A folder instead of the cases.")
@click.option("--resolution", default=128, show_default=True, help="Of the set.")
@click.option("--count", type=int, help="Images of a case.")
@click.option("--workers", default="1,2", show_default=True)
@click.option(
    "--times", default=3, show_default=True, help="Runs of each, of which the best counts."
)
@click.option("--read", is_flag=True, help="Reading: random order beside sequential.")
def main(cases, images, resolution, count, workers, times, read) -> None:
    """Print a table: seconds, CPU-seconds, images a second, against the plain loop, MiB of PSS."""
    click.echo(
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, Pillow {PIL.__version__}"
    )
    click.echo("images        px   count what         seconds   CPU-s    img/s   plain     MiB")
    numbers = [int(w) for w in workers.split(",")]
    with tempfile.TemporaryDirectory() as place:
        if images is not None:
            chosen = Path(place) / "in"
            chosen.mkdir()
            for path in sorted(images.iterdir())[:count]:
                os.link(path, chosen / path.name)
            compare(images.name[:10], chosen, resolution, numbers, times)
            return
        for case in cases.split(","):
            kind, side = case.split("-")
            source = Path(place) / "in"
            write_images(source, kind, int(side), count or COUNTS.get(int(side), 500))
            if read:
                compare_reading(case, source, min(resolution, int(side)), times)
            else:
                compare(case, source, min(resolution, int(side)), numbers, times)
            shutil.rmtree(source)


if __name__ == "__main__":
    main()
