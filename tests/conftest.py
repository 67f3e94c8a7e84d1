"""Fixtures: small sets of real-looking images, and the commands as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pgvae.data import Store
from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import Split, folder

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"

torch.set_num_threads(1)  # tests run side by side, on tensors too small to share


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED.name} folder beside the checkout")
    return SHARED


def smooth_image(rng: np.random.Generator, size: int) -> Image.Image:
    """A random picture with large structures: a few colours, blown up."""
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize((size, size), Image.Resampling.BICUBIC)


def write_images(path: Path, count: int, size: int, seed: int = 0) -> Path:
    """A folder of `count` random pictures."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        smooth_image(rng, size).save(path / f"picture-{index:03d}.png")
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 random pictures at 32 px."""
    return write_images(tmp_path_factory.mktemp("pictures") / "pictures", 24, 32)


@pytest.fixture(scope="session")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 80 random pictures at 8 px: enough for worker processes to be started."""
    return write_images(tmp_path_factory.mktemp("many") / "photos", 80, 8)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A data root with the pictures prepared as `tiny`, 20 train and 4 val, 4 to 32 px."""
    root = tmp_path_factory.mktemp("datasets")
    recipe = folder("tiny", pictures, Split(fraction=4 / 24))
    prepare(recipe, Options(workers=0), root, say=lambda _: None)
    return root


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The pictures prepared as `faces`, 20 train and 4 val, with labels of three kinds.

    glasses: yes or no. hat: a third each no, unknown, yes. always: yes, of every picture.
    """
    root = tmp_path_factory.mktemp("labelled")
    rows = [
        f"{file.name},{i % 2},{i % 3 / 2},1" for i, file in enumerate(sorted(pictures.iterdir()))
    ]
    (root / "labels.csv").write_text("\n".join(["name,glasses,hat,always", *rows]) + "\n")
    recipe = folder("faces", pictures, Split(fraction=4 / 24), root / "labels.csv")
    prepare(recipe, Options(workers=0), root / "datasets", say=lambda _: None)
    return root / "datasets" / "faces"


@pytest.fixture
def store(data_root: Path):
    """The prepared pictures."""
    store = Store(data_root / "tiny")
    yield store
    store.close()


@pytest.fixture(scope="session")
def command_line() -> Callable[..., list[str]]:
    """The words of a command: "train.py", "generate.py" or "data", and its arguments."""

    def words(script: str, *arguments: object) -> list[str]:
        start = ["-m", "pgvae", "data"] if script == "data" else [str(ROOT / script)]
        return [sys.executable, *start, *map(str, arguments)]

    return words


@pytest.fixture
def command(tmp_path: Path, command_line) -> Callable[..., subprocess.CompletedProcess]:
    """Run train.py, generate.py or `pgvae data` in a process of its own, in a fresh folder."""

    def run(script: str, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess:
        return subprocess.run(
            command_line(script, *arguments),
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
