"""The benchmark on points in the plane runs every objective and keeps its records."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pgvae.objectives import OBJECTIVES

PATH = Path(__file__).parent.parent / "benchmarks" / "toy2d.py"
KEYS = {"objective", "preset", "data", "seed", "kl", "jsd", "jsd_true", "modes", "in_mode"}


@pytest.fixture(scope="module")
def toy2d():
    spec = importlib.util.spec_from_file_location("toy2d_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(toy2d, path: Path, *words: str) -> list[dict]:
    short = ["--change", "steps=3", "--change", "batch=8", "--change", "pretrain=1"]
    result = CliRunner().invoke(toy2d.main, [*words, *short, "--json", str(path)])
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_runs_and_is_recorded(toy2d, tmp_path, objective):
    [record] = run(toy2d, tmp_path / "toy.json", "--objective", objective, "--seeds", "1")
    assert KEYS | {"seconds"} == set(record)
    assert record["objective"] == objective
    assert all(np.isfinite(record[key]) for key in ("kl", "jsd", "jsd_true"))
    [picture] = tmp_path.glob(f"toy-{objective}-*-8gaussians.png")
    with Image.open(picture) as image:
        assert image.size == (256, 256)


def test_a_run_replaces_its_own_record_and_no_other(toy2d, tmp_path):
    path = tmp_path / "toy.json"
    first = run(toy2d, path, "--objective", "vae", "--seeds", "2")
    again = run(toy2d, path, "--objective", "vae", "--seeds", "1")
    assert [r["seed"] for r in again] == [0, 1]
    scores = [[{k: r[k] for k in KEYS} for r in rows] for rows in (first, again)]
    assert scores[0] == scores[1]  # the same seeds, the same points
    assert len(run(toy2d, path, "--objective", "vae", "--data", "rings", "--seeds", "1")) == 3
    assert path.with_suffix(".md").read_text().count("| vae |") == 2


@pytest.mark.parametrize("data", ["8gaussians", "checkerboard", "rings", "spirals"])
def test_points_lie_within_the_histograms_range(toy2d, data):
    points = toy2d.draw_points(data, 5000, np.random.default_rng(0))
    assert points.shape == (5000, 2)
    assert np.abs(points).max() <= 2
    assert np.abs(points.mean(axis=0)).max() < 0.1


def test_the_8_gaussians_are_those_of_the_paper(toy2d):
    points = toy2d.draw_points("8gaussians", 80_000, np.random.default_rng(0))
    distances = np.linalg.norm(points[:, None] - toy2d.CENTRES[None], axis=2)
    nearest = distances.argmin(axis=1)
    assert np.bincount(nearest).tolist() == pytest.approx([10_000] * 8, rel=0.05)
    offsets = points - toy2d.CENTRES[nearest]
    assert offsets.std() == pytest.approx(0.02 / 1.414, rel=0.01)
    assert np.linalg.norm(toy2d.CENTRES, axis=1) == pytest.approx([2 / 1.414] * 8)
