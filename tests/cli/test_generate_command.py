"""`pgvae generate`, as a user meets it."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pgvae.cli import main
from pgvae.data import recipes
from pgvae.data.prepare import Options, prepare
from pgvae.inference import load

BASE = (
    "--dataset tiny --latent-dim 8 --fmap-max 8 --batch 4 --resolution 8 --device cpu "
    "--kimg-per-stage 0.064 --total-kimg 0.096"
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_root) -> Path:
    """A finished run, 4 -> 8 px."""
    place = tmp_path_factory.mktemp("run")
    with pytest.raises(SystemExit) as caught:
        main([*BASE.split(), "--data-root", str(data_root), "--outdir", str(place)], "train")
    assert caught.value.code == 0
    [run] = place.iterdir()
    return run


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch, run_dir, pictures) -> Path:
    """A folder to work in, with a snapshot and some images, and the allocator left alone."""
    shutil.copy(run_dir / "snapshot-000000096.safetensors", tmp_path / "s.safetensors")
    for index in range(5):
        shutil.copy(pictures / f"picture-{index:03d}.png", tmp_path / f"{'abcde'[index]}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGVAE_CPU_TUNING", "0")
    return tmp_path


def generate(*arguments: object, snapshot: object = "s.safetensors") -> int:
    with pytest.raises(SystemExit) as caught:
        main(["--snapshot", str(snapshot), *map(str, arguments)], command="generate")
    return caught.value.code


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b""
        for p in folder.rglob("*")
    }


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture
def refused(capsys, workplace) -> Callable[..., str]:
    """Run a command that must fail: one line, the right code, and nothing touched."""

    def run(*arguments: object, code: int = 2, **options: object) -> str:
        before = contents(workplace)
        capsys.readouterr()
        assert generate(*arguments, **options) == code
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in captured.out + captured.err
        assert contents(workplace) == before
        return lines[0]

    return run


def test_a_missing_snapshot_is_refused(refused):
    assert "no such snapshot: no.safetensors" in refused(snapshot="no.safetensors")


def test_without_a_snapshot_there_is_nothing_to_use(capsys, workplace):
    with pytest.raises(SystemExit) as caught:
        main([], command="generate")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: Missing option '--snapshot'.\n"


def test_a_truncated_snapshot_is_a_corrupt_file(refused, workplace):
    raw = (workplace / "s.safetensors").read_bytes()
    (workplace / "short.safetensors").write_bytes(raw[:-100])
    assert "truncated" in refused(snapshot="short.safetensors", code=3)


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_a_pickle_is_refused_and_not_executed(refused, workplace):
    (workplace / "model.pkl").write_bytes(pickle.dumps(Trap()))
    torch.save(Trap(), workplace / "model.pt")
    assert "is a pickle" in refused(snapshot="model.pkl")
    assert "is a pickle" in refused(snapshot="model.pt")


def test_a_directory_without_snapshots_is_refused(refused, workplace):
    (workplace / "empty").mkdir()
    assert "no snapshot-*.safetensors in empty" in refused(snapshot="empty")


@pytest.mark.parametrize("verb", ["reconstruct", "interpolate"])
def test_no_images_at_all_are_refused(verb, refused, workplace):
    assert "PATHS" in refused(verb)
    (workplace / "empty").mkdir()
    assert "holds no images" in refused(verb, "empty")
    assert "no such folder or zip: nowhere" in refused(verb, "nowhere")


@pytest.mark.parametrize("verb", ["reconstruct", "interpolate"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_an_image_that_cannot_be_read_is_named(verb, content, refused, workplace):
    (workplace / "bad.png").write_bytes(content)
    assert "bad.png" in refused(verb, "a.png", "bad.png")


def test_a_truncated_image_is_named(refused, workplace):
    raw = (workplace / "a.png").read_bytes()
    (workplace / "half.png").write_bytes(raw[: len(raw) // 2])
    assert "half.png" in refused("reconstruct", "half.png")


@pytest.mark.parametrize("names", [["a.png"], ["a.png", "b.png", "c.png"]])
def test_interpolation_between_one_or_three_images_is_refused(names, refused):
    message = refused("interpolate", *names)
    assert f"2 or 4 images: got {len(names)}" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ("samples", "--count", "0"),
        ("samples", "--count", "-1"),
        ("samples", "--count", "x"),
        ("reconstruct", "a.png", "--count", "0"),
        ("interpolate", "a.png", "b.png", "--steps", "1"),
        ("--seed", "-1"),
        ("--device", "foo"),
        ("--bogus",),
        ("paint",),
    ],
    ids=" ".join,
)
def test_bad_options_are_refused(arguments, refused):
    assert arguments[-1] in refused(*arguments) or arguments[-2] in refused(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_not_here_is_refused(refused):
    assert "device cuda is not here" in refused("--device", "cuda")


@pytest.mark.parametrize("out", ["a.png", "a.png/out"])
@pytest.mark.parametrize(
    "verb", [["samples"], ["reconstruct", "b.png"], ["interpolate", "b.png", "c.png"]]
)
def test_an_output_folder_that_cannot_be_made_is_refused(out, verb, refused):
    assert f"cannot write to {out}" in refused("--out", out, *verb)


def test_a_prepared_set_of_another_size_is_refused(refused, pictures, workplace):
    recipe = recipes.folder("set", pictures, recipes.Split(fraction=0.2))
    prepare(recipe, Options(resolution=4, workers=0), workplace, say=lambda _: None)
    assert "has no 3-channel images at 8 px" in refused("reconstruct", "set")


def test_samples_are_one_file_each_and_a_grid(workplace, capsys):
    assert generate("--out", "o", "samples", "--count", "5") == 0
    names = sorted(p.name for p in (workplace / "o").iterdir())
    assert names == [*(f"sample-{i:04d}.png" for i in range(5)), "samples.png"]
    assert pixels(workplace / "o" / "sample-0000.png").shape == (8, 8, 3)
    assert "samples.png" in capsys.readouterr().out


def test_samples_are_the_default(workplace):
    assert generate() == 0
    assert len(list((workplace / "out").glob("sample-*.png"))) == 64


def test_the_seed_repeats_samples_byte_for_byte(workplace):
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        assert generate("--out", name, "--seed", seed, "samples", "--count", "4") == 0
    first, again, other = (contents(workplace / name) for name in ("first", "again", "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_a_run_directory_means_its_newest_snapshot(run_dir, workplace):
    assert len(list(run_dir.glob("snapshot-*"))) > 1
    assert generate("--out", "run", "samples", "--count", "2", snapshot=run_dir) == 0
    assert generate("--out", "file", "samples", "--count", "2") == 0
    assert contents(workplace / "run") == contents(workplace / "file")


def test_a_file_is_reconstructed_beside_its_original(workplace, capsys):
    assert generate("--out", "o", "reconstruct", "a.png") == 0
    out = capsys.readouterr().out
    assert "a.png: RMSE " in out
    assert "1 images at 8 px: RMSE " in out
    assert "against the mean training image" in out
    pair = pixels(workplace / "o" / "a-pair.png")
    assert pair.shape == (8, 16, 3)
    original = torch.from_numpy(pair[:, :8]).permute(2, 0, 1)[None] / 127.5 - 1
    again = load(workplace / "s.safetensors").reconstruct(original)[0].permute(1, 2, 0)
    assert abs((again.numpy() + 1) * 127.5 - pair[:, 8:]).max() <= 1
    error = ((pair[:, :8] - pair[:, 8:]) ** 2).mean() ** 0.5
    told = float(out.split("RMSE ")[1].split("/")[0])
    assert told == pytest.approx(error, abs=0.5)


def test_a_folder_is_reconstructed(pictures, workplace, capsys):
    assert generate("--out", "o", "reconstruct", pictures, "--count", "10") == 0
    assert "10 images at 8 px" in capsys.readouterr().out
    assert len(list((workplace / "o").glob("*-pair.png"))) == 10
    assert (workplace / "o" / "reconstructions.png").is_file()


def test_of_a_prepared_set_the_unseen_images_are_reconstructed(data_root, workplace, capsys):
    assert generate("--out", "o", "reconstruct", data_root / "tiny") == 0
    assert "4 images at 8 px" in capsys.readouterr().out
    assert len(list((workplace / "o").glob("tiny-*-pair.png"))) == 4


def test_images_of_one_name_do_not_overwrite_each_other(workplace):
    for folder, source in (("x", "a.png"), ("y", "b.png")):
        (workplace / folder).mkdir()
        shutil.copy(workplace / source, workplace / folder / "me.png")
    assert generate("--out", "o", "reconstruct", "x/me.png", "y/me.png") == 0
    found = sorted(p.name for p in (workplace / "o").glob("*-pair.png"))
    assert found == ["me-2-pair.png", "me-pair.png"]


def test_a_name_that_is_like_a_number_given_is_not_overwritten(workplace):
    for folder, name, source in (("x", "me", "a"), ("y", "me", "b"), ("z", "me-2", "c")):
        (workplace / folder).mkdir()
        shutil.copy(workplace / f"{source}.png", workplace / folder / f"{name}.png")
    assert generate("--out", "o", "reconstruct", "x/me.png", "y/me.png", "z/me-2.png") == 0
    assert len(list((workplace / "o").glob("*-pair.png"))) == 3


def test_between_two_images_there_is_a_strip(workplace, capsys):
    assert generate("--out", "o", "interpolate", "a.png", "b.png", "--steps", "5") == 0
    assert "between a.png, b.png" in capsys.readouterr().out
    assert pixels(workplace / "o" / "interpolation.png").shape == (64, 5 * 64, 3)


def test_between_four_images_there_is_a_grid_with_them_as_corners(workplace):
    names = ["a.png", "b.png", "c.png", "d.png"]
    assert generate("--out", "o", "interpolate", *names, "--steps", "3") == 0
    assert generate("--out", "o", "reconstruct", *names) == 0
    grid = pixels(workplace / "o" / "interpolation.png")
    assert grid.shape == (3 * 64, 3 * 64, 3)
    corners = [grid[y : y + 64 : 8, x : x + 64 : 8] for y in (0, 128) for x in (0, 128)]
    for name, corner in zip(names, corners, strict=True):
        again = pixels(workplace / "o" / f"{name[0]}-pair.png")[:, 8:]
        assert abs(corner - again).max() <= 1


def test_of_a_folder_the_first_four_are_the_corners(pictures, workplace, capsys):
    assert generate("--out", "o", "interpolate", pictures, "--steps", "2") == 0
    assert capsys.readouterr().out.count("picture-") == 4
    assert pixels(workplace / "o" / "interpolation.png").shape == (128, 128, 3)
