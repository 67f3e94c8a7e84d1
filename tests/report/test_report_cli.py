"""`pgvae report`, as a user meets it."""

import base64
import io
import json
import shutil
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from PIL import Image
from report_runs import Page, picture

from pgvae.cli.report import report_command
from pgvae.cli.train import train
from pgvae.data import Store, read_images
from pgvae.errors import InputError, PgvaeError
from pgvae.inference import load
from pgvae.pictures import grid_of
from pgvae.report.page import plain
from pgvae.snapshot import snapshots_in

OPTIONS = (
    "--dataset tiny --objective vae --resolution 8 --kimg-per-stage 0.064 --total-kimg 0.128 "
    "--batch 4 --latent-dim 8 --fmap-max 8 --device cpu --data-root {} --outdir runs"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_root) -> Path:
    """A finished run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        train.main(OPTIONS.format(data_root).split(), standalone_mode=False)
        [run] = Path("runs").absolute().iterdir()
    return run


@pytest.fixture(autouse=True)
def _workplace(trained, tmp_path, monkeypatch) -> None:
    """A folder to work in, with that run in it."""
    shutil.copytree(trained, tmp_path / "run")
    monkeypatch.chdir(tmp_path)


def report(*arguments: object) -> Page:
    """The page about the run."""
    words = ["run", "--device", "cpu", "--out", "page.html", *map(str, arguments)]
    report_command.main(words, standalone_mode=False)
    return Page(Path("page.html").read_text(encoding="utf-8"))


def test_a_run_of_train_has_a_page_with_all_that_it_logged_and_made(data_root, capsys):
    page = report("--snapshots", 2)
    assert capsys.readouterr().out == f"page.html: {len(page.source.encode()) / 2**20:.1f} MiB\n"
    assert page.all("header/p") == ["Finished", "run"]
    assert page.all("pre") == [f"python train.py {OPTIONS.format(data_root)}"]
    lines = map(json.loads, Path("run/stats.jsonl").read_text().splitlines())
    last = {name: plain(value) for line in lines for name, value in line.items()}
    assert page.legend.items() <= last.items()
    assert {"both/rec", "both/kl", "val/psnr", "lr", "img_per_s"} <= page.legend.keys()
    newest, reals, *others = page.pictures
    assert (newest, reals) == ("Samples: 0.128 kimg, 8 px", "Real images: of the training data")
    assert len([text for text in others if text.startswith("Earlier samples")]) == 1
    between = "Interpolation: between four samples from the fitted prior; corners are their "
    uris = [report("--seed", seed).pictures[f"{between}reconstructions"] for seed in (5, 5, 6)]
    assert uris[0] == uris[1] != uris[2]


def test_the_same_latents_are_rows_and_samples_stand_beside_their_like(data_root, capsys):
    def look(title: str, *arguments: object) -> tuple[str, np.ndarray]:
        shown = report(*arguments).pictures
        [name] = [name for name in shown if name.startswith(title)]
        file = io.BytesIO(base64.b64decode(shown[name].partition(",")[2]))
        return name, np.asarray(Image.open(file))

    found = snapshots_in(Path("run"))
    assert len(found) > 2
    name, rows = look("The same latents over growth")
    assert "kimg from the top: 0." in name
    assert name.count("px)") == len(found)
    assert rows.shape == (64 * len(found), 8 * 64, 3)
    newest = load(found[-1])
    expected = grid_of(newest.sample(8, seed=0), 8)
    np.testing.assert_array_equal(rows[-64:], expected)
    assert look("The same latents", "--snapshots", 2)[1].shape == (128, 512, 3)
    data = ("--dataset", "tiny", "--data-root", data_root)
    name, cells = look("Samples and their like", *data)
    assert "nearest of 20 training images by pixels" in name
    store = Store(data_root / "tiny")
    training = read_images(store, store.split("train"), 8)
    for row, sample in enumerate(newest.sample(6, seed=0)):
        order = (training - sample).abs().mean(dim=(1, 2, 3)).argsort()[:5]
        expected = grid_of(torch.cat([sample[None], training[order]]), 6)
        np.testing.assert_array_equal(cells[64 * row : 64 * row + 64], expected)
    assert not any(name.startswith("The same") for name in report("--no-interpolation").pictures)
    found[0].write_bytes(b"damaged")
    capsys.readouterr()
    assert look("The same latents")[1].shape == (64 * (len(found) - 1), 512, 3)
    assert "not in the rows of growth: " in capsys.readouterr().err


def test_images_go_before_an_interpolation_of_the_run(data_root, pictures):
    picture(Path("run/interpolation.png"))
    assert [*report().pictures][3] == "Interpolation: interpolation.png"
    tiny = report("--dataset", "tiny", "--data-root", data_root)
    assert "between four unseen images of tiny;" in [*tiny.pictures][3]
    assert "between four images of pictures;" in [*report("--dataset", pictures).pictures][3]


def test_a_damaged_snapshot_costs_only_an_interpolation_that_none_asked_for(data_root, capsys):
    Path("run/snapshot-000000128.safetensors").write_bytes(b"nope")
    report("--no-interpolation")
    assert capsys.readouterr().err == ""
    report()
    assert capsys.readouterr().err.startswith("no interpolation: ")
    with pytest.raises(PgvaeError, match="truncated or not a snapshot"):
        report("--dataset", "tiny", "--data-root", data_root)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere", "nowhere is not a run directory"),
        ("run --no-interpolation --dataset tiny", "give one of them"),
        ("run --dataset nothing", "--dataset nothing: not in datasets, and no such path"),
        ("run --dataset run/reals.png", "has 1 such images, 4 are needed"),
        (". --dataset run", "there is no snapshot in . yet"),
        ("run --out a/b/c.html", "no such folder: a/b; make it, or give another file"),
        ("run --device tpu", "unknown device 'tpu'"),
        ("run --snapshots 1", "1 is not in the range"),
    ],
)
def test_what_cannot_be_is_an_error_of_one_line_and_writes_nothing(words, message):
    before = sorted(Path().rglob("*"))
    with pytest.raises((InputError, click.BadParameter), match=f"^[^\n]*{message}[^\n]*$"):
        report_command.main(words.split(), standalone_mode=False)
    assert sorted(Path().rglob("*")) == before


def test_only_a_page_needs_the_packages_that_make_one(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pgvae.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    report_command.main(["--help"], standalone_mode=False)
    with pytest.raises(InputError, match=r"the package jinja2: pip install 'pgvae\[report\]'$"):
        report()
