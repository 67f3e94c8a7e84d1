"""A set of 16x12 px from its photographs to every command, and what does not fit to it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import refusal
from PIL import Image

from pgvae.cli import main
from pgvae.data import Store
from pgvae.inference import load
from pgvae.metrics import psnr

RUN = "runs/00000-wide-rivae-16px"
TRAIN = (
    *("--dataset", "wide", "--objective", "rivae", "--set", "game_from=8", "--grow"),
    *("--latent-dim", 8, "--fmap-max", 8, "--batch", 4, "--kimg-per-stage", 0.016),
    *("--device", "cpu", "--tracker", "none"),
)


def run(*words: object, command: str | None = None) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, words)], command=command)
    return caught.value.code


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pictures) -> Path:
    """A folder with `wide` and `square` prepared of photos/, and a run on `wide` that went on."""
    place = tmp_path_factory.mktemp("wide")
    shutil.copytree(pictures, place / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("PGVAE_CPU_TUNING", "0")
        prepare = ("data", "prepare", "photos", "--val-fraction", 0.25, "--workers", 0)
        assert run(*prepare, "--name", "wide", "--size", "16x12") == 0
        assert run(*prepare, "--name", "square", "--resolution", 16) == 0
        assert run(*TRAIN, "--total-kimg", 0.04, command="train") == 0
        assert run("--resume", RUN, "--total-kimg", 0.08, command="train") == 0
    return place


@pytest.fixture
def place(trained, monkeypatch) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("PGVAE_CPU_TUNING", "0")
    return trained


def generate(*words: object, out: Path) -> int:
    return run("generate", "--snapshot", RUN, "--out", out, *words)


def test_a_run_shows_itself_in_the_ratio(place):
    grids = {path.name: size_of(path) for path in (place / RUN).glob("*-000000080.png")}
    assert grids["fakes-000000080.png"] == (8 * 64, 8 * 48)
    assert size_of(place / RUN / "reals.png")[1] % 48 == 0
    snapshot = load(place / RUN)
    assert snapshot.mean_image.shape == (3, 12, 16)
    model = json.loads((place / RUN / "config.json").read_text())["model"]
    assert (model["resolution"], model["base"]) == (16, [3, 4])


def test_samples_ways_and_reconstructions_are_in_the_ratio(place, tmp_path):
    photo = place / "photos" / "picture-000.png"
    four = [place / "photos" / f"picture-{i:03d}.png" for i in range(4)]
    assert generate("samples", "--count", 4, out=tmp_path / "s") == 0
    assert size_of(tmp_path / "s/sample-0000.png") == (16, 12)
    assert size_of(tmp_path / "s/samples.png") == (2 * 64, 2 * 48)
    assert generate("reconstruct", photo, out=tmp_path / "r") == 0
    pair = pixels_of(tmp_path / "r/picture-000-pair.png")
    assert pair.shape == (12, 32, 3)
    whole = Image.fromarray(pixels_of(photo))
    expected = whole.resize((16, 12), Image.Resampling.LANCZOS, (0, 4, 32, 28))
    np.testing.assert_array_equal(pair[:, :16], np.asarray(expected))
    assert generate("interpolate", *four, "--steps", 3, out=tmp_path / "i") == 0
    assert size_of(tmp_path / "i/interpolation.png") == (3 * 64, 3 * 48)
    assert generate("walk", *four, "--steps", 2, "--format", "gif", out=tmp_path / "w") == 0
    assert size_of(tmp_path / "w/walk.gif") == (64, 48)
    assert generate("neighbours", "--dataset", "wide", "--count", 2, out=tmp_path / "n") == 0


def test_the_library_takes_pictures_of_any_shape_and_tensors_of_its_own(place):
    model = load(place / RUN)
    picture = Image.fromarray(pixels_of(place / "photos" / "picture-000.png"))
    again = model.reconstruct(picture)
    assert again.size == (16, 12)
    with pytest.raises(ValueError, match=r"images must be \[N, 3x12x16\]: got \[1, 3, 16, 16\]"):
        model.encode(torch.zeros(1, 3, 16, 16))


def test_it_is_evaluated_on_its_unseen_images(place, tmp_path, capsys):
    out = tmp_path / "evaluation.json"
    words = ("--dataset", "wide", "--metrics", "swd,psnr,rmse", "--count", 6, "--json", out)
    assert run("evaluate", "--snapshot", RUN, *words) == 0
    assert "at 16x12 px" in capsys.readouterr().out
    found = json.loads(out.read_text())["metrics"]
    model, store = load(place / RUN), Store(place / "datasets/wide")
    pixels = store.get_many(store.split("val"), 16)
    images = torch.from_numpy(pixels).float() / 127.5 - 1
    expected = psnr(images, model.reconstruct(images)).mean().item()
    assert found["psnr"]["value"] == pytest.approx(expected, rel=1e-4)
    assert found["swd"]["value"] > 0


def test_both_networks_are_exported(place, tmp_path):
    model = load(place / RUN)
    latents = model.sample_latents(3, seed=1)
    for part in ("encoder", "generator"):
        file = tmp_path / f"{part}.pt2"
        form = ("--format", "torch-export", "--part", part)
        assert run("export", "--snapshot", RUN, *form, "--out", file) == 0
    images = torch.export.load(tmp_path / "generator.pt2").module()(latents)
    assert images.shape == (3, 3, 12, 16)
    torch.testing.assert_close(images, model.decode(latents), rtol=0, atol=1e-4)
    codes = torch.export.load(tmp_path / "encoder.pt2").module()(images)
    torch.testing.assert_close(codes, model.encode(images), rtol=1e-4, atol=1e-4)


def test_it_is_exported_to_onnx(place, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    file = tmp_path / "g.onnx"
    assert run("export", "--snapshot", RUN, "--part", "generator", "--out", file) == 0


def test_a_report_a_card_and_the_tools_of_data_say_the_size(place, tmp_path, capsys):
    pytest.importorskip("jinja2")
    assert run("report", RUN, "--dataset", "wide", "--out", tmp_path / "r.html") == 0
    assert "16 px, 4:3" in (tmp_path / "r.html").read_text()
    assert run("publish", "--snapshot", RUN, "--out", tmp_path / "card", "--dataset", "wide") == 0
    card = (tmp_path / "card/README.md").read_text()
    assert "| images | 16x12 px, 3 channels |" in card
    assert "[16, 3, 12, 16] in [-1, 1]" in card
    assert load(tmp_path / "card").config == load(place / RUN).config
    capsys.readouterr()
    assert run("data", "info", "wide") == run("data", "list") == 0
    said = capsys.readouterr().out
    assert "  8x6 px" in said
    assert "images up to 16x12 px" in said
    assert run("data", "show", "wide", "--out", tmp_path / "wide.png") == 0
    assert run("data", "verify", "wide") == run("check", RUN) == 0


def test_the_page_has_it_too(place):
    pytest.importorskip("starlette")
    from pgvae.explore.explorer import Explorer
    from pgvae.explore.points import Point

    page = Explorer(load(place / RUN), store=Store(place / "datasets/wide"))
    about = page.about()
    assert (about["size"], about["shape"]) == ("16x12", 4 / 3)
    sent = page.uploads.add((place / "photos" / "picture-000.png").read_bytes())
    seen = page.reconstruction(Point("image", sent))
    assert seen.image.shape == seen.again.shape == (1, 3, 12, 16)
    assert page.nearest(Point("seed", 1)).images.shape[1:] == (3, 12, 16)


def test_a_folder_is_trained_on_directly(place, tmp_path):
    words = [word if word != "wide" else "photos/" for word in TRAIN]
    where = ("--data-root", tmp_path / "sets", "--outdir", tmp_path / "runs")
    assert run(*words, *where, "--size", "8x16", "--total-kimg", 0.008, command="train") == 0
    [made] = (tmp_path / "runs").iterdir()
    assert load(made).config.base == (4, 2)
    again = ("--resume", "--size", "8x16", "--total-kimg", 0.008)
    assert run(*words, *where, *again, command="train") == 0
    assert len([*(tmp_path / "runs").iterdir()]) == 1


EVALUATE = ("evaluate", "--metrics", "psnr", "--snapshot")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*EVALUATE, RUN, "--dataset", "square"), "square has no 3-channel images at 16x12 px"),
        (("generate", "--snapshot", RUN, "reconstruct", "square"), "16x12 px: it has 4, 8"),
        (("train", *TRAIN, "--dataset", "square", "--init-from", RUN), "networks keep the ratio"),
        (("train", *TRAIN, "--size", "16x16"), "--size 16x16 has not the ratio of wide"),
        (("train", *TRAIN, "--size", "16x10"), "the nearest are 16x"),
        (("train", *TRAIN, "--size", "16x12", "--resolution", 8), "not the longer side of --size"),
        (("train", "--resume", RUN, "--dataset", "square"), "are not those of"),
        (("train", "--resume", RUN, "--size", "16x8"), "--size"),
    ],
)
def test_what_is_of_another_ratio_is_refused_in_one_line(place, capsys, words, told):
    line = refusal(capsys, place, words)
    assert told in line


def test_a_model_of_squares_refuses_it(place, capsys, sketch, tmp_path):
    square = sketch(tmp_path / "snapshot-0.safetensors", 16)
    line = refusal(capsys, place, (*EVALUATE, square, "--dataset", "wide"))
    assert "wide has no 3-channel images at 16 px: it has 4x3, 8x6, 16x12 px" in line


def test_a_snapshot_with_an_impossible_base_is_damaged(place, capsys, tmp_path):
    from snapshots import join, split

    source = sorted((place / RUN).glob("snapshot-*.safetensors"))[-1]
    header, data = split(source)
    about = json.loads(header["__metadata__"]["pgvae"])
    about["model"]["base"] = [3, 5]
    header["__metadata__"]["pgvae"] = json.dumps(about)
    bad = join(tmp_path / "snapshot-1.safetensors", header, data)
    line = refusal(capsys, place, (*EVALUATE, bad, "--dataset", "wide"), code=3)
    assert "declares an impossible model: base is (3, 5)" in line
