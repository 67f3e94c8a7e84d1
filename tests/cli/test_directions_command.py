"""`pgvae directions`, and the commands that use what it finds, as a user meets them."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import contents
from PIL import Image
from safetensors import safe_open

from pgvae.data import Store, fade_images
from pgvae.files import turn_at
from pgvae.inference import load

BOTH = ("--attribute", "glasses", "--attribute", "hat")
FILE = "directions-s.safetensors"


@pytest.fixture
def directions(run_pgvae, faces) -> Callable[..., int]:
    """Run the command on the labelled images, by default for pioneer's snapshot."""

    def run(*arguments: object, snapshot: object = "s.safetensors") -> int:
        return run_pgvae("directions", "--snapshot", snapshot, "--dataset", faces, *arguments)

    return run


def latents_of(store: Store, split: str, snapshot: Path) -> torch.Tensor:
    pixels = store.get_many(store.split(split), 8).astype(np.float32)
    model = load(snapshot)
    return model.encode(fade_images(torch.from_numpy(pixels) / 127.5 - 1, model.alpha))


def said_by(store: Store, split: str, name: str) -> np.ndarray:
    """1 yes, 0 no, 0.5 unknown."""
    return store.labels[store.split(split), store.attributes.index(name)]


@pytest.mark.parametrize("method", ["probe", "difference"])
def test_the_directions_lie_beside_the_snapshot_and_are_right_as_often_as_told(
    method, directions, desk, faces, capsys
):
    before = contents(desk)
    assert directions(*BOTH, "--method", method) == 0
    *told, path = capsys.readouterr().out.splitlines()
    assert path == FILE
    assert contents(desk).keys() - before.keys() == {FILE}
    store = Store(faces)
    found = load(desk / "s.safetensors").directions
    assert found.names == ("glasses", "hat")
    assert found.weight.shape == (2, 8)
    logits = found.logits(latents_of(store, "val", desk / "s.safetensors")).numpy()
    expected = {}
    for column, name in enumerate(found.names):
        said = said_by(store, "val", name)
        known = said != 0.5
        expected[name] = ((logits[known, column] > 0) == (said[known] == 1)).mean()
    assert told == [
        f"{name}: {value:.1%} right on unseen images" for name, value in expected.items()
    ]
    assert found.about["method"] == method
    assert (found.about["dataset"], found.about["count"]) == ("faces", 20)
    assert found.about["accuracy"] == pytest.approx(expected)


def test_the_difference_points_from_the_mean_of_no_to_the_mean_of_yes(directions, desk, faces):
    assert directions(*BOTH, "--method", "difference") == 0
    found = load(desk / "s.safetensors").directions
    store = Store(faces)
    latents = latents_of(store, "train", desk / "s.safetensors")
    for name, weight in zip(found.names, found.weight, strict=True):
        said = said_by(store, "train", name)
        way = latents[said == 1].mean(dim=0) - latents[said == 0].mean(dim=0)
        cosine = torch.nn.functional.cosine_similarity(way, weight, dim=0)
        assert cosine.item() == pytest.approx(1, abs=1e-4)


def test_a_probe_fits_the_training_images_better_than_chance(directions, desk, faces):
    """Random pictures of large colours: nothing else is promised."""
    assert directions("--attribute", "glasses") == 0
    store = Store(faces)
    found = load(desk / "s.safetensors").directions
    logits = found.logits(latents_of(store, "train", desk / "s.safetensors"))[:, 0]
    said = torch.from_numpy(said_by(store, "train", "glasses"))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, said).item()
    share = said.mean()
    chance = -(share * share.log() + (1 - share) * (1 - share).log()).item()
    assert loss <= chance + 1e-6


def test_thresholds_decide_which_images_are_learned_from(directions, desk):
    files = []
    for thresholds in ("0.5,0.5", "0.6,0.6", "0.2,0.2"):  # hat 0.5: unknown, no, yes
        assert directions("--attribute", "hat", "--label-thresholds", thresholds) == 0
        files.append((desk / FILE).read_bytes())
    assert len(set(files)) == 3


def test_so_many_training_images_are_taken_and_the_same_each_time(directions, desk):
    files = []
    for count in (12, 12, 20, 10_000):
        assert directions("--attribute", "glasses", "--count", count) == 0
        files.append((desk / FILE).read_bytes())
    assert files[0] == files[1] != files[2] == files[3]
    assert load(desk / "s.safetensors").directions.about["count"] == 20


def test_all_labels_are_taken_unless_some_are_named(directions, desk, run_pgvae, pictures):
    rows = [
        f"{file.name},{i % 2},{i // 2 % 2}" for i, file in enumerate(sorted(pictures.iterdir()))
    ]
    (desk / "labels.csv").write_text("\n".join(["name,beard,smile", *rows]) + "\n")
    words = ("data", "prepare", pictures, "--name", "two", "--labels", "labels.csv")
    assert run_pgvae(*words, "--data-root", "made") == 0
    words = ("directions", "--snapshot", "s.safetensors", "--dataset", "two", "--data-root", "made")
    assert run_pgvae(*words) == 0
    assert load(desk / "s.safetensors").directions.names == ("beard", "smile")


def test_attributes_of_other_names_stay_and_those_of_the_same_are_replaced(
    directions, desk, capsys
):
    assert directions("--attribute", "glasses") == 0
    first = load(desk / "s.safetensors").directions
    capsys.readouterr()
    assert directions("--attribute", "hat") == 0
    assert "kept beside: glasses\n" in capsys.readouterr().out
    both = load(desk / "s.safetensors").directions
    assert set(both.names) == set(both.about["accuracy"]) == {"glasses", "hat"}
    assert torch.equal(both.of(["glasses"]).weight, first.weight)
    assert torch.equal(both.of(["glasses"]).bias, first.bias)
    assert directions("--attribute", "glasses", "--method", "difference") == 0
    again = load(desk / "s.safetensors").directions
    assert not torch.equal(again.of(["glasses"]).weight, first.weight)
    assert torch.equal(again.of(["hat"]).weight, both.of(["hat"]).weight)
    assert len(again.names) == 2


def waits_for_a_lock(process: subprocess.Popen) -> bool:
    lines = Path("/proc/locks").read_text().splitlines()
    return any("-> FLOCK" in line and f" {process.pid} " in line for line in lines)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs Linux's list of locks")
def test_two_at_once_both_stay(directions, desk, faces):
    assert directions("--attribute", "glasses") == 0
    (desk / FILE).rename(desk / "first")
    words = ("directions", "--snapshot", "s.safetensors", "--dataset", faces, "--attribute", "hat")
    with turn_at(desk):
        other = subprocess.Popen([sys.executable, "-m", "pgvae", *map(str, words)], cwd=desk)
        while not waits_for_a_lock(other):
            assert other.poll() is None
            time.sleep(0.01)
        (desk / "first").rename(desk / FILE)
    assert other.wait() == 0
    assert sorted(load(desk / "s.safetensors").directions.names) == ["glasses", "hat"]


def test_a_damaged_file_is_written_anew_with_a_word(directions, desk, capsys):
    (desk / FILE).write_bytes(b"noise")
    assert directions("--attribute", "hat") == 0
    assert f"warning: {FILE} is damaged" in capsys.readouterr().out
    assert load(desk / "s.safetensors").directions.names == ("hat",)


def test_a_run_directory_means_its_newest_snapshot(directions, desk, finished, capsys):
    run = shutil.copytree(finished, desk / "run")
    for _ in range(2):  # the file that is made is not taken for a snapshot
        assert directions("--attribute", "glasses", snapshot="run") == 0
        path = run / "directions-snapshot-000000096.safetensors"
        assert str(path.relative_to(desk)) in capsys.readouterr().out
    assert load(run).directions.names == ("glasses",)


# What they are good for


def test_what_is_estimated_can_be_edited_and_asked_for(directions, run_pgvae, desk, capsys):
    generate = ("generate", "--snapshot", "s.safetensors", "--out", "o")
    assert directions("--attribute", "glasses") == 0
    assert run_pgvae(*generate, "edit", "a.png", "--attribute", "glasses", "--delta", "9") == 0
    triplet = np.asarray(Image.open(desk / "o" / "a-edit.png")).astype(int)
    assert triplet.shape == (8, 24, 3)
    assert abs(triplet[:, 8:16] - triplet[:, 16:]).max() > 2
    capsys.readouterr()
    wanted = ("--with", "glasses=0", "--count", "3", "--method", "rejection", "--sure", "0.01")
    assert run_pgvae(*generate, "conditional", *wanted) == 0
    assert len(list((desk / "o").glob("conditional-*.png"))) == 3
    assert "rejection: " in capsys.readouterr().out


def test_a_classifier_needs_no_directions_and_goes_before_them(
    directions, run_pgvae, desk, sketch, capsys
):
    """vac's own attribute is its classifier's; others come from the file."""
    settings = {"head": "gaussian", "classes": 1, "attributes": ("glasses",)}
    path = sketch(desk / "own.safetensors", objective="vac", **settings)
    edit = ("generate", "--snapshot", "own.safetensors", "edit", "a.png", "--attribute")
    assert run_pgvae(*edit, "glasses") == 0
    assert run_pgvae(*edit, "hat") == 2
    assert "no attribute 'hat'" in capsys.readouterr().err
    own = load(path).directions
    capsys.readouterr()
    assert directions(*BOTH, snapshot="own.safetensors") == 2
    assert "the model's own classifier knows glasses" in capsys.readouterr().err
    assert directions("--attribute", "hat", snapshot="own.safetensors") == 0
    joined = load(path).directions
    assert joined.names == ("glasses", "hat")
    assert torch.equal(joined.weight[:1], own.weight)
    assert joined.bias[0] == 0
    assert run_pgvae(*edit, "hat") == 0


def test_a_run_of_vac_knows_its_attributes(run_pgvae, classified, desk):
    words = ("generate", "--snapshot", classified, "edit", "a.png", "--attribute", "hat")
    assert run_pgvae(*words) == 0
    assert load(classified).directions.names == ("glasses", "hat")


EDIT = ("generate", "--snapshot", "s.safetensors", "edit", "a.png", "--attribute", "glasses")


def test_directions_of_another_snapshot_are_refused(directions, rejected, desk, sketch):
    assert directions("--attribute", "glasses") == 0
    sketch(desk / "s.safetensors", head="sphere")
    message = rejected(*EDIT)
    assert f"{FILE} was made for another snapshot than s.safetensors" in message
    assert "run `pgvae directions` again" in message


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_damaged_directions_are_a_corrupt_file(keep, directions, rejected, desk):
    assert directions("--attribute", "glasses") == 0
    raw = (desk / FILE).read_bytes()
    (desk / FILE).write_bytes(raw[:keep])
    assert f"{FILE} is damaged" in rejected(*EDIT, code=3)


def test_the_file_says_how_it_was_made(directions, desk):
    assert directions("--attribute", "glasses") == 0
    with safe_open(desk / FILE, "pt") as file:
        about = json.loads(file.metadata()["pgvae"])
    assert about["names"] == ["glasses"]
    assert set(about["about"]) == {"method", "dataset", "count", "accuracy"}
