"""`pgvae report`, as a user meets it."""

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import snapshots
import torch
from PIL import Image
from report_runs import Page, finished, make_run, picture, same, tick, ticks

from pgvae.cli.report import report_command
from pgvae.cli.train import train
from pgvae.errors import InputError, PgvaeError
from pgvae.inference import load
from pgvae.pictures import to_bytes


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with a snapshot at 8 px."""
    made = make_run(tmp_path / "run", ticks(), snapshots=(4000,))
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


def interpolations(page: Page) -> list[tuple[str, np.ndarray]]:
    """Text and pixels of the interpolation, if there is one."""
    found = [a for a, _ in page.all("img") if a["alt"].startswith("Interpolation")]
    files = [io.BytesIO(base64.b64decode(a["src"].split(",")[1])) for a in found]
    pixels = [np.asarray(Image.open(file)) for file in files]
    return [(a["alt"], image) for a, image in zip(found, pixels, strict=True)]


def test_the_page_is_written_into_the_run(run, capsys):
    report_command.main([str(run), "--no-interpolation"], standalone_mode=False)
    assert (run / "report.html").is_file()
    assert capsys.readouterr().out.startswith(f"{run}/report.html: 0.")


def test_without_images_the_corners_are_samples_and_the_page_says_so(run, report):
    [(text, pixels)] = interpolations(report(run, "--seed", 5))
    assert "between four samples, as no images were given" in text
    model = load(run / "snapshot-000004000.safetensors")
    corners = to_bytes(model.reconstruct(model.sample(4, seed=5)))
    found = [pixels[y : y + 8, x : x + 8].astype(int) for y in (0, 56) for x in (0, 56)]
    assert np.abs(np.stack(found) - corners).max() <= 1


def test_with_a_prepared_set_the_corners_are_unseen_images(run, report, data_root, store):
    page = report(run, "--dataset", "tiny", "--data-root", data_root)
    [(text, pixels)] = interpolations(page)
    assert "between four unseen images of tiny" in text
    model = load(run / "snapshot-000004000.safetensors")
    unseen = torch.from_numpy(store.get_many(store.split("val")[:4], 8)).float() / 127.5 - 1
    corner = to_bytes(model.reconstruct(unseen))[3].astype(int)
    assert np.abs(pixels[56:, 56:] - corner).max() <= 1
    again = report(run, "--dataset", data_root / "tiny")
    assert np.array_equal(interpolations(again)[0][1], pixels)


def test_other_images_are_not_called_unseen(run, report, pictures):
    [(text, _)] = interpolations(report(run, "--dataset", pictures))
    assert "between four images of pictures;" in text


def test_an_interpolation_of_the_run_is_shown_as_it_is(run, report):
    picture(run / "interpolation.png", 8)
    [(text, _)] = interpolations(report(run))
    assert text == "Interpolation: interpolation.png"


def test_no_interpolation_loads_no_network(run, report):
    (run / "snapshot-000004000.safetensors").write_bytes(b"nope")
    assert interpolations(report(run, "--no-interpolation")) == []


def test_a_damaged_snapshot_costs_only_the_interpolation(run, capsys):
    (run / "snapshot-000004000.safetensors").write_bytes(b"nope")
    report_command.main([str(run)], standalone_mode=False)
    assert capsys.readouterr().err.startswith("no interpolation: ")
    assert (run / "report.html").is_file()


def test_a_run_without_a_snapshot_has_a_page_without_interpolation(tmp_path, report):
    assert interpolations(report(make_run(tmp_path / "early", [tick(100)]))) == []


def test_snapshots_says_how_many_grids_there_are(tmp_path, report):
    page = report(finished(tmp_path / "many"), "--snapshots", 2)
    assert [a["alt"] for a, _ in page.all("img") if "amples" in a["alt"]] == [
        *("Samples: 8 kimg, 16 px", "Earlier samples: 2 kimg, 4 px")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a run directory"),
        (["run", "--no-interpolation", "--dataset", "tiny"], "give one of them"),
        (["run", "--dataset", "nothing"], "--dataset nothing: not in datasets, and no such path"),
        (["empty", "--dataset", "run"], "there is no snapshot in empty yet"),
        (["empty"], "empty has nothing to report yet"),
        (["run", "--out", "a/b/c.html"], "cannot write a/b/c.html: No such file or directory"),
        (["run", "--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_what_cannot_be_is_an_error_of_one_line_and_writes_nothing(
    tmp_path, run, arguments, message
):
    make_run(tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        report_command.main(arguments, standalone_mode=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_fewer_images_than_corners_are_refused(run, tmp_path, pictures):
    (tmp_path / "two").mkdir()
    for name in ("picture-000.png", "picture-001.png"):
        shutil.copy(pictures / name, tmp_path / "two")
    with pytest.raises(InputError, match="has 2 such images, 4 are needed"):
        report_command.main([str(run), "--dataset", "two"], standalone_mode=False)


def test_a_snapshot_that_was_asked_for_and_is_damaged_is_an_error(run, data_root):
    (run / "snapshot-000004000.safetensors").write_bytes(b"nope")
    words = [str(run), "--dataset", "tiny", "--data-root", str(data_root)]
    with pytest.raises(PgvaeError, match="truncated or not a snapshot"):
        report_command.main(words, standalone_mode=False)


@pytest.mark.parametrize("count", ["1", "0", "-3", "x"])
def test_a_page_has_at_least_two_snapshots(run, count):
    with pytest.raises(click.BadParameter):
        report_command.main([str(run), "--snapshots", count], standalone_mode=False)


def test_a_run_of_train_has_a_page_with_all_that_it_logged(tmp_path, report, data_root):
    words = (
        "--dataset tiny --latent-dim 8 --fmap-max 8 --batch 4 --resolution 8 --device cpu "
        "--kimg-per-stage 0.064 --total-kimg 0.096 --objective vae"
    )
    place = ["--data-root", str(data_root), "--outdir", str(tmp_path / "runs")]
    train.main([*words.split(), *place], standalone_mode=False)
    [run] = (tmp_path / "runs").iterdir()
    page = report(run)
    assert page.all("p", "state")[0][1] == "Finished"
    assert "Images seen0.096 kimgof 0.096 kimg planned" in page.text
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    for name, (last, points) in page.curves().items():
        wanted = [(line["images"], line[name]) for line in lines if name in line]
        assert [images for images, _ in points] == [images for images, _ in wanted]
        assert all(same(t, v) for (_, t), (_, v) in zip(points, wanted, strict=True))
        assert same(last, wanted[-1][1])
    assert {"both/rec", "both/kl", "val/psnr", "lr", "img_per_s"} <= page.curves().keys()
    alts = [a["alt"] for a, _ in page.all("img")]
    assert alts[:2] == [
        "Samples: 0.096 kimg, 8 px, alpha 0.88",
        "Real images: of the training data",
    ]
    assert page.all("div", "notes") == []
    said = page.all("pre")[0][1].removeprefix("python train.py ").split()
    assert sorted(said) == sorted(words.replace("--device cpu ", "").split())
