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
from pgvae.errors import InputError, PgvaeError
from pgvae.inference import load
from pgvae.pictures import to_bytes
from pgvae.report.page import plain

OPTIONS = (
    "--dataset tiny --objective vae --resolution 8 --kimg-per-stage 0.064 --total-kimg 0.128 "
    "--batch 4 --latent-dim 8 --fmap-max 8 --device cpu"
)
SNAPSHOT = "run/snapshot-000000128.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_root) -> tuple[Path, str]:
    """A finished run, and the words that made it."""
    place = tmp_path_factory.mktemp("trained")
    words = f"{OPTIONS} --data-root {data_root} --outdir {place}"
    train.main(words.split(), standalone_mode=False)
    [run] = place.iterdir()
    return run, words


@pytest.fixture(autouse=True)
def _workplace(trained, tmp_path, monkeypatch) -> None:
    """A folder to work in, with that run in it."""
    shutil.copytree(trained[0], tmp_path / "run")
    monkeypatch.chdir(tmp_path)


def report(*arguments: object) -> None:
    report_command.main([*map(str, arguments)], standalone_mode=False)


def page_of(*arguments: object) -> tuple[Page, str, np.ndarray]:
    """The page about the run, and text and pixels of its interpolation at 8 px."""
    report("run", "--device", "cpu", "--out", "page.html", *arguments)
    page = Page(Path("page.html").read_text(encoding="utf-8"))
    [(text, uri)] = [x for x in page.pictures.items() if x[0].startswith("Interpolation")]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    return page, text, pixels[::8, ::8].astype(int)


def test_a_run_of_train_has_a_page_with_all_that_it_logged_and_made(trained, capsys):
    page, text, pixels = page_of("--seed", 5)
    size = Path("page.html").stat().st_size / 2**20
    assert capsys.readouterr().out.splitlines()[-1] == f"page.html: {size:.1f} MiB"
    assert page.all("p[@class='state done']") == ["Finished"]
    assert page.all("p[@class='note']") == []
    assert page.all("pre") == [f"python train.py {trained[1]}"]
    lines = map(json.loads, Path("run/stats.jsonl").read_text().splitlines())
    last = {name: plain(value) for line in lines for name, value in line.items()}
    assert page.legend.items() <= last.items()
    assert {"both/rec", "both/kl", "val/psnr", "lr", "img_per_s"} <= page.legend.keys()
    wanted = ["Samples: 0.128 kimg, 8 px", "Real images: of the training data"]
    assert list(page.pictures)[:2] == wanted
    assert "between four samples, as no images were given" in text
    model = load(SNAPSHOT)
    corners = to_bytes(model.reconstruct(model.sample(4, seed=5)))
    found = [pixels[y : y + 8, x : x + 8] for y in (0, 56) for x in (0, 56)]
    assert np.abs(np.stack(found) - corners).max() <= 1
    grids = [text for text in page.pictures if "amples" in text]
    assert len(grids) > len([x for x in page_of("--snapshots", 2)[0].pictures if "amples" in x])


def test_with_images_the_corners_are_those_and_a_picture_of_the_run_is_left_out(
    data_root, store, pictures
):
    picture(Path("run/interpolation.png"))
    assert page_of()[1] == "Interpolation: interpolation.png"
    _, text, pixels = page_of("--dataset", "tiny", "--data-root", data_root)
    assert "between four unseen images of tiny" in text
    unseen = torch.from_numpy(store.get_many(store.split("val")[:4], 8)).float() / 127.5 - 1
    corner = to_bytes(load(SNAPSHOT).reconstruct(unseen))[3].astype(int)
    assert np.abs(pixels[56:, 56:] - corner).max() <= 1
    assert "between four images of pictures;" in page_of("--dataset", pictures)[1]


def test_a_damaged_snapshot_costs_only_an_interpolation_that_none_asked_for(data_root, capsys):
    Path(SNAPSHOT).write_bytes(b"nope")
    report("run", "--no-interpolation")
    assert capsys.readouterr().err == ""
    report("run")
    assert capsys.readouterr().err.startswith("no interpolation: ")
    assert Path("run/report.html").is_file()
    with pytest.raises(PgvaeError, match="truncated or not a snapshot"):
        report("run", "--dataset", "tiny", "--data-root", data_root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere", "nowhere is not a run directory"),
        ("run --no-interpolation --dataset tiny", "give one of them"),
        ("run --dataset nothing", "--dataset nothing: not in datasets, and no such path"),
        ("run --dataset run/reals.png", "has 1 such images, 4 are needed"),
        (". --dataset run", "there is no snapshot in . yet"),
        ("run --out a/b/c.html", "cannot write a/b/c.html: No such file or directory"),
        ("run --device tpu", "unknown device 'tpu'"),
        ("run --snapshots 1", "1 is not in the range"),
    ],
)
def test_what_cannot_be_is_an_error_of_one_line_and_writes_nothing(arguments, message):
    before = sorted(Path().rglob("*"))
    with pytest.raises((InputError, click.BadParameter)) as caught:
        report(*arguments.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_only_a_page_needs_the_packages_that_make_one(monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("pgvae.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    report("--help")
    said = rf"^a report needs the package {package}: pip install 'pgvae\[report\]'$"
    with pytest.raises(InputError, match=said):
        report("run")
