"""How soon a slider's move shows on the page of `pgvae explore`, measured in a browser.

python benchmarks/explore.py --resolution 64 --width 128 --threads 2
python benchmarks/explore.py --snapshot runs/00000-faces-pioneer-64px

Without --snapshot the networks have random weights and at most --width maps in a layer (512: as
PIONEER's). Needs `pip install playwright` and Chromium.
"""

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from pgvae.config import ModelConfig
from pgvae.inference import fit_gaussian
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot, save_snapshot

# From the event of a slider to the frame in which its picture is painted, in ms, of each move.
MOVES = """async (count) => {
  const slider = document.querySelector('[aria-label="Component 1"]');
  const picture = document.getElementById("picture"), times = [];
  for (let i = 0; i < count; i++) {
    const shown = new Promise((done) => picture.addEventListener("load", done, {once: true}));
    const start = performance.now();
    slider.value = (i % 2 ? 3 : -3) * (i + 1) / count;
    slider.dispatchEvent(new Event("input"));
    await shown;
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - start);
  }
  return times;
}"""


def random_snapshot(folder: Path, resolution: int, width: int) -> Path:
    """Networks that nobody has trained."""
    config = ModelConfig(resolution=resolution, fmap_max=width, fmap_base=16 * width)
    nets, mean = build_nets(config, resolution), torch.zeros(3, resolution, resolution)
    prior = fit_gaussian(torch.eye(config.latent_dim))  # so that components come at once
    path = folder / "random.safetensors"
    about = (1.0, 0, {"name": "pioneer"}, (), "none", mean, prior)
    save_snapshot(path, Snapshot(nets, config, *about))
    return path


def measure(snapshot: Path, threads: int, count: int) -> list[float]:
    """Milliseconds of each of `count` moves, after a few to warm up."""
    words = [sys.executable, "-m", "pgvae", "explore", "--snapshot", str(snapshot)]
    own = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    server = subprocess.Popen([*words, "--port", "0"], env=own, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        with sync_playwright() as playwright:
            browser = shutil.which("chromium") or shutil.which("google-chrome")
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = chromium.new_page()
            page.goto(address)
            page.locator("#sliders .ends img").first.wait_for(timeout=600_000)
            page.evaluate(MOVES, 5)
            times = page.evaluate(MOVES, count)
            chromium.close()
    finally:
        server.terminate()
        server.wait()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--snapshot", type=Path)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--count", type=int, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        snapshot = asked.snapshot or random_snapshot(Path(folder), asked.resolution, asked.width)
        times = sorted(measure(snapshot, asked.threads, asked.count))
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{asked.threads} threads; load of the machine {os.getloadavg()[0]:.1f}")
    ninth = times[int(0.9 * (len(times) - 1))]
    said = (f"least {times[0]:.0f}", f"median {statistics.median(times):.0f}", f"90 % {ninth:.0f}")
    print(f"slider to picture, ms: {', '.join(said)}, most {times[-1]:.0f} ({len(times)} moves)")


if __name__ == "__main__":
    main()
