"""`pgvae report`, as a user meets it."""

import base64
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import snapshots
import torch
from PIL import Image
from report_runs import Page, make_run, picture, tick

from pgvae.cli.report import report_command
from pgvae.cli.train import train
from pgvae.errors import InputError, PgvaeError
from pgvae.inference import load
from pgvae.pictures import to_bytes
from pgvae.report.page import figure


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run with a snapshot at 8 px, in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = make_run(tmp_path / "run", [tick(4000)], snapshots=(2000, 3000, 4000))
    snapshots.written(made / "snapshot-000004000.safetensors")
    return made


@pytest.fixture
def report(capsys) -> Callable[..., Page]:
    """Run the command, which must succeed; -> the page."""

    def run(*arguments: object, out: Path = Path("page.html")) -> Page:
        words = ["--device", "cpu", "--out", str(out), *map(str, arguments)]
        report_command.main(words, standalone_mode=False)
        size = f"{out.stat().st_size / 2**20:.1f} MiB"
        assert capsys.readouterr().out.splitlines()[-1] == f"{out}: {size}"
        return Page(out.read_text(encoding="utf-8"))

    return run


def interpolation(page: Page) -> tuple[str, np.ndarray]:
    """Text and pixels of the grid between images of 8 px."""
    [(text, uri)] = [x for x in page.pictures.items() if x[0].startswith("Interpolation")]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    return text, pixels[::8, ::8].astype(int)


def test_without_images_the_corners_are_samples_and_the_page_says_so(run, report):
    text, pixels = interpolation(report(run, "--seed", 5))
    assert "between four samples, as no images were given" in text
    model = load(run / "snapshot-000004000.safetensors")
    corners = to_bytes(model.reconstruct(model.sample(4, seed=5)))
    found = [pixels[y : y + 8, x : x + 8] for y in (0, 56) for x in (0, 56)]
    assert np.abs(np.stack(found) - corners).max() <= 1
    picture(run / "interpolation.png")  # one of the run is shown as it is
    assert interpolation(report(run))[0] == "Interpolation: interpolation.png"


def test_with_images_the_corners_are_those_and_unseen_ones_are_called_so(
    run, report, data_root, store, pictures
):
    text, pixels = interpolation(report(run, "--dataset", "tiny", "--data-root", data_root))
    assert "between four unseen images of tiny" in text
    model = load(run / "snapshot-000004000.safetensors")
    unseen = torch.from_numpy(store.get_many(store.split("val")[:4], 8)).float() / 127.5 - 1
    corner = to_bytes(model.reconstruct(unseen))[3].astype(int)
    assert np.abs(pixels[56:, 56:] - corner).max() <= 1
    text, _ = interpolation(report(run, "--dataset", pictures))
    assert "between four images of pictures;" in text


def test_a_damaged_snapshot_costs_only_an_interpolation_that_none_asked_for(run, data_root, capsys):
    (run / "snapshot-000004000.safetensors").write_bytes(b"nope")
    report_command.main([str(run), "--no-interpolation"], standalone_mode=False)
    assert capsys.readouterr().err == ""
    report_command.main([str(run)], standalone_mode=False)
    assert capsys.readouterr().err.startswith("no interpolation: ")
    assert (run / "report.html").is_file()
    words = [str(run), "--dataset", "tiny", "--data-root", str(data_root)]
    with pytest.raises(PgvaeError, match="truncated or not a snapshot"):
        report_command.main(words, standalone_mode=False)


def test_snapshots_says_how_many_grids_there_are(run, report):
    found = report(run, "--snapshots", 2, "--no-interpolation").pictures
    assert [text[:24] for text in found if "amples" in text] == [
        *("Samples: 4 kimg, 8 px", "Earlier samples: 2 kimg")
    ]
    with pytest.raises(click.BadParameter):
        report_command.main([str(run), "--snapshots", "1"], standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a run directory"),
        (["run", "--no-interpolation", "--dataset", "tiny"], "give one of them"),
        (["run", "--dataset", "nothing"], "--dataset nothing: not in datasets, and no such path"),
        (["run", "--dataset", "two"], "has 2 such images, 4 are needed"),
        (["empty", "--dataset", "run"], "there is no snapshot in empty yet"),
        (["empty"], "empty has nothing to report yet"),
        (["run", "--out", "a/b/c.html"], "cannot write a/b/c.html: No such file or directory"),
        (["run", "--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_what_cannot_be_is_an_error_of_one_line_and_writes_nothing(
    tmp_path, run, pictures, arguments, message
):
    make_run(tmp_path / "empty")
    (tmp_path / "two").mkdir()
    for name in ("picture-000.png", "picture-001.png"):
        shutil.copy(pictures / name, tmp_path / "two")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        report_command.main(arguments, standalone_mode=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_only_a_page_needs_the_packages_that_make_one(run, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("pgvae.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    report_command.main(["--help"], standalone_mode=False)
    said = rf"^a report needs the package {package}: pip install 'pgvae\[report\]'$"
    with pytest.raises(InputError, match=said):
        report_command.main([str(run)], standalone_mode=False)


def test_a_run_of_train_has_a_page_with_all_that_it_logged(tmp_path, report, data_root):
    words = (
        "--dataset tiny --objective vae --resolution 8 --kimg-per-stage 0.064 --total-kimg 0.096 "
        f"--batch 4 --latent-dim 8 --fmap-max 8 --device cpu --data-root {data_root} "
        f"--outdir {tmp_path / 'runs'}"
    )
    train.main(words.split(), standalone_mode=False)
    [run] = (tmp_path / "runs").iterdir()
    page = report(run, out=tmp_path / "page.html")
    assert page.all("p[@class='state done']") == ["Finished"]
    assert page.all("p[@class='note']") == []
    assert page.all("pre") == [f"python train.py {words}"]
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    for name, (points, _) in page.curves.items():
        assert points == [[x["images"], figure(x[name])] for x in lines if name in x]
    assert {"both/rec", "both/kl", "val/psnr", "lr", "img_per_s"} <= page.curves.keys()
    assert list(page.pictures)[:2] == [
        *("Samples: 0.096 kimg, 8 px, alpha 0.88", "Real images: of the training data")
    ]
