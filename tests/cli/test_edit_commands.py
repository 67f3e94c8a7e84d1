"""`pgvae generate edit | conditional | walk | neighbours`, as a user meets them."""

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import contents
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pgvae.data import Store
from pgvae.inference import load

GLASSES = ("--attribute", "glasses")
BOTH = (*GLASSES, "--attribute", "hat")


@pytest.fixture
def generate(run_pgvae) -> Callable[..., int]:
    """Run `pgvae generate` with a snapshot of the desk, by default vac's, to the folder o."""

    def run(*arguments: object, snapshot: object = "v.safetensors", out: str = "o") -> int:
        return run_pgvae("generate", "--snapshot", snapshot, "--out", out, *arguments)

    return run


@pytest.fixture
def refused(rejected) -> Callable[..., str]:
    """The same, for what must fail."""

    def run(*arguments: object, snapshot: object = "v.safetensors", code: int = 2) -> str:
        return rejected("generate", "--snapshot", snapshot, *arguments, code=code)

    return run


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def as_pixels(images: torch.Tensor) -> np.ndarray:
    """[N, C, R, R] in [-1, 1] -> levels [N, R, R, C]."""
    return ((images.permute(0, 2, 3, 1).double().numpy() + 1) * 127.5).round().astype(int)


def as_images(levels: np.ndarray) -> torch.Tensor:
    """Levels [N, R, R, C] -> [N, C, R, R] in [-1, 1]."""
    return torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 127.5 - 1


def cells(grid: np.ndarray) -> np.ndarray:
    """A grid of images at 8 px: [rows, columns, 8, 8, C]."""
    rows, columns = (side // 64 for side in grid.shape[:2])
    small = grid.reshape(rows, 8, 8, columns, 8, 8, -1)
    assert (small == small[:, :, :1, :, :, :1]).all()  # enlarged pixel by pixel
    return small[:, :, 0, :, :, 0].transpose(0, 2, 1, 3, 4)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for the rounding of a level."""
    return a.shape == b.shape and abs(a - b).max() <= 1


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Edit


def test_an_edit_is_three_pictures_side_by_side(desk, generate, capsys):
    assert generate("edit", "a.png", *GLASSES, "--delta", "20") == 0
    assert names_in(desk / "o") == ["a-edit.png", "edits.png"]
    triplet = pixels(desk / "o" / "a-edit.png")
    assert triplet.shape == (8, 3 * 8, 3)
    original, again, edited = (triplet[None, :, i : i + 8] for i in (0, 8, 16))
    model = load(desk / "v.safetensors")
    image = as_images(original)
    assert near(again, as_pixels(model.reconstruct(image)))
    assert near(edited, as_pixels(model.edit(image, "glasses", 20.0)))
    assert abs(edited - again).max() > 5
    grid = cells(pixels(desk / "o" / "edits.png"))
    assert np.array_equal(grid[:, 0], np.concatenate([original, again, edited]))

    logits = [model.classify(image)[0, 0], model.directions.logits(
        model.move(model.encode(image), "glasses", 20.0))[0, 0]]  # fmt: skip
    was, now = (1 / (1 + math.exp(-logit)) for logit in logits)
    assert capsys.readouterr().out.splitlines() == [
        f"a.png: glasses {was:.0%} -> {now:.0%}",
        str(Path("o") / "edits.png"),
    ]


def test_edits_of_many_are_rows_of_originals_reconstructions_and_edits(
    desk, generate, pictures, capsys
):
    assert generate("edit", pictures, *GLASSES, "--count", "19") == 0
    assert capsys.readouterr().out == "o/edits.png\n"  # no line each above 16
    assert len(list((desk / "o").glob("picture-*-edit.png"))) == 19
    grid = cells(pixels(desk / "o" / "edits.png"))
    assert grid.shape[:2] == (9, 8)
    triplets = [pixels(desk / "o" / f"picture-{i:03d}-edit.png") for i in range(19)]
    for place, triplet in enumerate(triplets):
        row, column = 3 * (place // 8), place % 8
        for part in range(3):
            assert np.array_equal(grid[row + part, column], triplet[:, 8 * part : 8 * part + 8])
    assert (grid[6:, 3:] == 255).all()


def test_sixteen_images_are_each_told_of(generate, pictures, capsys):
    assert generate("edit", pictures, *BOTH, "--count", "16") == 0
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert len(lines) == 16
    assert all(line.startswith("picture-") and ": glasses " in line for line in lines)
    assert all(", hat " in line and line.count(" -> ") == 2 for line in lines)


def test_taking_away_is_adding_a_negative_amount(desk, generate):
    assert generate("edit", "a.png", "b.png", *GLASSES, "--delta", "4", "--remove", out="r") == 0
    assert generate("edit", "a.png", "b.png", *GLASSES, "--delta", "-4", out="n") == 0
    assert generate("edit", "a.png", "b.png", *GLASSES, "--delta", "4", out="p") == 0
    assert contents(desk / "r") == contents(desk / "n")
    assert contents(desk / "r") != contents(desk / "p")


def test_the_usual_amount_is_three(desk, generate):
    assert generate("edit", "a.png", *GLASSES, out="usual") == 0
    assert generate("edit", "a.png", *GLASSES, "--delta", "3", out="three") == 0
    assert contents(desk / "usual") == contents(desk / "three")


def test_one_amount_is_for_all_attributes_or_there_is_one_for_each(desk, generate):
    for name, deltas in (("one", [5]), ("each", [5, 5]), ("other", [5, -5])):
        words = [word for delta in deltas for word in ("--delta", delta)]
        assert generate("edit", "a.png", *BOTH, *words, out=name) == 0
    assert contents(desk / "one") == contents(desk / "each")
    assert contents(desk / "one") != contents(desk / "other")
    triplet = pixels(desk / "other" / "a-edit.png")[None]
    model, image = load(desk / "v.safetensors"), as_images(triplet[:, :, :8])
    expected = model.edit(image, ["glasses", "hat"], [5.0, -5.0])
    assert near(triplet[:, :, 16:], as_pixels(expected))


@pytest.mark.parametrize(("more", "told"), [([], "90%"), (["--remove"], "10%")])
def test_images_are_moved_until_the_classifier_is_so_sure(more, told, generate, capsys):
    assert generate("edit", "a.png", "b.png", *GLASSES, "--to", "0.9", *more) == 0
    lines = capsys.readouterr().out.splitlines()[:2]
    assert all(line.endswith(f" -> {told}") for line in lines)


def test_a_strip_goes_from_without_to_with(desk, generate, capsys):
    words = ("edit", "a.png", "b.png", *GLASSES, "--delta")
    assert generate(*words, "6", "--strip", "5") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["o/edits.png", "o/strip.png"]
    assert generate(*words, "-6", out="without") == 0
    strip = cells(pixels(desk / "o" / "strip.png"))
    assert strip.shape[:2] == (2, 6)  # the original, then 5 steps
    for row, name in zip(strip, ("a-edit.png", "b-edit.png"), strict=True):
        triplet, opposite = (pixels(desk / out / name) for out in ("o", "without"))
        original, again, edited = (triplet[:, i : i + 8] for i in (0, 8, 16))
        assert np.array_equal(row[0], original)
        assert near(row[1], opposite[:, 16:])
        assert near(row[3], again)
        assert near(row[5], edited)


def test_of_a_prepared_set_the_unseen_images_are_edited(desk, generate, faces):
    assert generate("edit", faces, *GLASSES) == 0
    unseen = Store(faces).split("val")
    assert names_in(desk / "o") == sorted(
        [*(f"faces-{index}-edit.png" for index in unseen), "edits.png"]
    )


def test_edited_images_of_one_name_do_not_overwrite_each_other(desk, generate):
    for place, source in (("x", "a.png"), ("y", "b.png")):
        (desk / place).mkdir()
        shutil.copy(desk / source, desk / place / "me.png")
    assert generate("edit", "x/me.png", "y/me.png", *GLASSES) == 0
    assert names_in(desk / "o") == ["edits.png", "me-2-edit.png", "me-edit.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("a.png", ["Missing option '--attribute'"]),
        ("--attribute glasses", ["PATHS"]),
        ("a.png --attribute glases", ["no attribute 'glases'", "did you mean 'glasses'?"]),
        ("a.png --attribute zzz", ["no attribute 'zzz'", "known: glasses, hat"]),
        ("a.png --attribute glasses --attribute zzz", ["no attribute 'zzz'"]),
        (
            "a.png --attribute glasses --delta 1 --delta 2",
            ["--delta is given 2 times for 1 attributes", "one for each"],
        ),
        (
            "a.png --attribute glasses --attribute hat --attribute glasses --delta 1 --delta 2",
            ["--delta is given 2 times for 3 attributes"],
        ),
        ("a.png --attribute glasses --delta x", ["--delta", "'x'"]),
        ("a.png --attribute glasses --to 1.0", ["--to", "1.0 is not in the range 0.5<=x<1"]),
        ("a.png --attribute glasses --to 0.4", ["--to", "0.4 is not in the range"]),
        ("a.png --attribute glasses --to nan", ["nan"]),
        ("a.png --attribute glasses --strip 1", ["--strip", "1 is not in the range"]),
        ("a.png --attribute glasses --count 0", ["--count", "0 is not in the range"]),
        ("no.png --attribute glasses", ["no such folder or zip: no.png"]),
        ("s.safetensors --attribute glasses", ["s.safetensors"]),
    ],
)
def test_an_edit_that_cannot_be_is_refused(arguments, words, refused):
    message = refused("edit", *arguments.split())
    for word in words:
        assert word in message


@pytest.mark.parametrize("objective", ["vae", "age"])
def test_a_model_that_knows_no_attributes_says_how_to_find_them(objective, refused, desk, sketch):
    head = "gaussian" if objective == "vae" else "sphere"
    sketch(desk / "plain.safetensors", objective=objective, head=head)
    for words in (("edit", "a.png", *GLASSES), RIGHT):
        message = refused(*words, snapshot="plain.safetensors")
        assert f"objective {objective} knows no attributes" in message
        assert "`pgvae directions --snapshot plain.safetensors --dataset NAME`" in message


# Conditional

# The classifier is hardly trained, and sure of nothing that it sees: let it be.
RIGHT = ("conditional", "--with", "glasses=1,hat=0", "--method", "rejection", "--sure", "0.1")


def test_conditional_samples_are_one_file_each_and_a_grid(desk, generate, capsys):
    assert generate("--seed", "4", *RIGHT, "--count", "5") == 0
    names = [*(f"conditional-{i:04d}.png" for i in range(5)), "conditional.png"]
    assert names_in(desk / "o") == sorted(names)
    model = load(desk / "v.safetensors")
    wanted = {"glasses": 1, "hat": 0}
    found = model.conditional_latents(5, wanted, method="rejection", sure=0.1, seed=4)
    logits = model.directions.logits(found.latents)
    assert (logits[:, 0] > 0).all()
    assert (logits[:, 1] < 0).all()
    written = np.stack([pixels(desk / "o" / name) for name in names[:-1]])
    assert near(written, as_pixels(model.decode(found.latents)))
    grid = cells(pixels(desk / "o" / "conditional.png"))
    assert np.array_equal(grid.reshape(6, 8, 8, 3)[:5], written)
    share, path = capsys.readouterr().out.splitlines()
    assert share == f"rejection: kept {found.accepted:.1%} of the draws from the prior"
    assert path == "o/conditional.png"


def test_langevin_samples_take_their_steps(desk, generate, capsys):
    words = ("conditional", "--with", " hat = 1 ", "--count", "3", "--step-size", "0.01")
    words = (*words, "--sure", "0.1", "--steps")
    assert generate(*words, "7") == 0
    model = load(desk / "v.safetensors")
    found = model.conditional_latents(3, {"hat": 1}, 7, step_size=0.01, sure=0.1, seed=0)
    written = np.stack([pixels(desk / "o" / f"conditional-{i:04d}.png") for i in range(3)])
    assert near(written, as_pixels(model.decode(found.latents)))
    told = f"langevin: kept {found.accepted:.1%} of the chains"
    assert told in capsys.readouterr().out.splitlines()
    assert generate(*words, "8", out="more") == 0
    assert contents(desk / "more") != contents(desk / "o")


def test_images_that_do_not_look_as_asked_are_left_out(desk, generate):
    """What is kept is, encoded again, as sure as asked."""
    model = load(desk / "v.safetensors")
    logits = model.classify(model.sample(512, seed=1))[:, 0]
    high = torch.sigmoid(logits.quantile(0.8)).item()  # a fifth of all images are so sure
    words = ("conditional", "--with", "glasses=1", "--count", "6", "--method", "rejection")
    sure = {}
    for out, level in (("picky", high), ("any", 0.01)):
        assert generate(*words, "--sure", level, out=out) == 0
        written = np.stack([pixels(path) for path in sorted((desk / out).glob("conditional-*"))])
        sure[out] = torch.sigmoid(model.classify(as_images(written))[:, 0])
    assert (sure["picky"] > high - 0.002).all()  # as their pixels are rounded
    assert (sure["any"] < high - 0.002).any()


@pytest.mark.parametrize(
    "words",
    [
        RIGHT,
        ("conditional", "--with", "glasses=1", "--steps", "3", "--sure", "0.1"),
        ("walk", "--count", "3", "--steps", "2"),
        ("walk", "--count", "3", "--steps", "2", "--format", "png"),
        ("neighbours",),
    ],
    ids=lambda words: " ".join(words),
)
def test_the_seed_repeats_pictures_byte_for_byte(words, desk, generate, data_root):
    more = {
        "conditional": ["--count", "4"],
        "walk": [],
        "neighbours": ["--dataset", data_root / "tiny"],
    }[words[0]]
    for out, seed in (("first", 7), ("again", 7), ("other", 8)):
        assert generate("--seed", seed, *words, *more, out=out) == 0
    first, again, other = (contents(desk / out) for out in ("first", "again", "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ["Missing option '--with'"]),
        ("--with glasses", ["--with", "'glasses' is not NAME=1 or NAME=0"]),
        ("--with glasses=2", ["'glasses=2' is not NAME=1 or NAME=0"]),
        ("--with glasses=", ["'glasses=' is not"]),
        ("--with =1", ["'=1' is not"]),
        ("--with glasses=1,", ["'' is not NAME=1"]),
        ("--with glasses=1,hat", ["'hat' is not"]),
        ("--with glasses=1,hatt=0", ["no attribute 'hatt'", "did you mean 'hat'?"]),
        ("--with glasses=1 --count 0", ["--count", "0 is not in the range"]),
        ("--with glasses=1 --method gibbs", ["--method", "'gibbs'", "langevin", "rejection"]),
        ("--with glasses=1 --steps 0", ["--steps", "0 is not in the range"]),
        ("--with glasses=1 --step-size 0", ["--step-size", "0.0 is not in the range"]),
        ("--with glasses=1 --sure 0", ["--sure", "0.0 is not in the range 0<x<1"]),
        ("--with glasses=1 --sure 1", ["--sure", "1.0 is not in the range"]),
    ],
)
def test_a_condition_that_cannot_be_is_refused(arguments, words, refused):
    message = refused("conditional", *arguments.split())
    for word in words:
        assert word in message


@pytest.mark.parametrize("method", ["rejection", "langevin"])
def test_what_hardly_occurs_is_refused(method, refused, desk):
    """Yes to the one attribute is no to the other."""
    path = desk / "v.safetensors"
    tensors = load_file(path)
    rows = tensors["encoder/classifier.weight"]
    tensors["encoder/classifier.weight"] = torch.stack([rows[0], -rows[0]])
    with safe_open(path, "pt") as file:
        about = file.metadata()
    save_file(tensors, path, metadata=about)
    words = ("--with", "glasses=1,hat=1", "--method", method, "--steps", "2", "--count", "3")
    assert "only 0 of " in refused("conditional", *words)


# Walk


def frames_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        frames = []
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
    return np.stack(frames)


@pytest.mark.parametrize(("more", "count"), [([], 12), (["--no-loop"], 9)])
def test_a_walk_is_an_animation_through_the_images(more, count, desk, generate, capsys):
    """Frame 4 n is the reconstruction of image n; a loop ends just before its begin."""
    names = ("a.png", "b.png", "c.png")
    words = ("walk", *names, "--steps", "4", "--fps", "20", *more)
    assert generate(*words, "--format", "png") == 0
    assert capsys.readouterr().out.splitlines() == [
        "through a.png, b.png, c.png",
        f"o/walk.png: {count} frames",
    ]
    assert names_in(desk / "o") == ["walk.png"]
    assert generate("reconstruct", *names, out="r") == 0
    frames = frames_of(desk / "o" / "walk.png")
    assert frames.shape == (count, 64, 64, 3)
    for index, name in enumerate(("a", "b", "c")):
        again = pixels(desk / "r" / f"{name}-pair.png")[:, 8:]
        assert near(frames[4 * index, ::8, ::8], again)
    model = load(desk / "v.safetensors")
    images = np.stack([pixels(desk / "r" / f"{name}-pair.png")[:, :8] for name in "abc"])
    latents = model.encode(as_images(images))
    assert near(frames[:, ::8, ::8], as_pixels(model.walk(latents, 4, closed=not more)))


def test_a_walk_is_a_gif_from_sample_to_sample_unless_told(desk, generate, capsys):
    assert generate("--seed", "5", "walk", "--steps", "3") == 0
    assert capsys.readouterr().out == "o/walk.gif: 18 frames\n"  # through 6 samples
    with Image.open(desk / "o" / "walk.gif") as gif:
        assert gif.format == "GIF"
        assert (gif.n_frames, gif.size) == (18, (64, 64))
        assert gif.info["duration"] == pytest.approx(1000 / 16, abs=10)
        assert gif.info["loop"] == 0
    model = load(desk / "v.safetensors")
    expected = as_pixels(model.sample(6, seed=5))
    found = frames_of(desk / "o" / "walk.gif")[::3, ::8, ::8]
    assert abs(found - expected).mean() < 4  # 256 colours


def test_of_a_folder_so_many_images_are_walked_through(generate, pictures, capsys):
    assert generate("walk", pictures, "--count", "4", "--steps", "1") == 0
    out = capsys.readouterr().out
    assert out.count("picture-") == 4
    assert "o/walk.gif: 4 frames" in out


def test_a_walk_can_be_a_film(desk, generate, capsys):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    words = ("walk", "a.png", "b.png", "--steps", "5", "--fps", "10", "--format", "mp4")
    assert generate(*words) == 0
    assert "o/walk.mp4: 10 frames" in capsys.readouterr().out
    path = str(desk / "o" / "walk.mp4")
    assert imageio_ffmpeg.count_frames_and_secs(path) == (10, pytest.approx(1.0))
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24"]
    raw = subprocess.run([*decode, "-"], capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(10, 64, 64, 3).astype(int)
    assert generate("reconstruct", "a.png", "b.png", out="r") == 0
    for frame, name in ((frames[0], "a"), (frames[5], "b")):
        again = pixels(desk / "r" / f"{name}-pair.png")[:, 8:].repeat(8, 0).repeat(8, 1)
        assert abs(frame - again).mean() < 12  # lossy


def test_without_its_package_a_film_is_refused(refused, desk, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (desk / "out").mkdir()
    message = refused("walk", "--count", "2", "--steps", "1", "--format", "mp4")
    assert "mp4 needs the package imageio-ffmpeg" in message
    assert "pip install 'pgvae[video]'" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("a.png", ["walk needs 2 or more images: got a.png"]),
        ("no.png", ["no such folder or zip: no.png"]),
        ("--count 1", ["--count", "1 is not in the range"]),
        ("--steps 0", ["--steps", "0 is not in the range"]),
        ("--fps 0", ["--fps", "0.0 is not in the range"]),
        ("--fps -1", ["--fps", "-1.0 is not in the range"]),
        ("--format avi", ["--format", "'avi'", "gif", "png", "mp4"]),
    ],
)
def test_a_walk_that_cannot_be_is_refused(arguments, words, refused):
    message = refused("walk", *arguments.split())
    for word in words:
        assert word in message


# Neighbours


@pytest.fixture
def tiny(data_root) -> tuple[str, ...]:
    """The options for the prepared pictures."""
    return ("--dataset", "tiny", "--data-root", str(data_root))


def test_in_each_row_is_a_sample_and_the_training_images_nearest_to_it(
    desk, generate, tiny, store, capsys
):
    words = ("--seed", "2", "neighbours", *tiny, "--count", "5", "--nearest", "2")
    assert generate(*words, "--by", "l1", "--by", "ssim") == 0
    assert names_in(desk / "o") == ["neighbours-l1.png", "neighbours-ssim.png"]
    samples = load(desk / "v.safetensors").sample(5, seed=2)
    training = store.get_many(store.split("train"), 8).transpose(0, 2, 3, 1).astype(float)
    levels = (samples.permute(0, 2, 3, 1).double().numpy() + 1) * 127.5
    distances = abs(levels[:, None] - training).mean(axis=(2, 3, 4))
    order = distances.argsort(axis=1)[:, :2]
    grid = cells(pixels(desk / "o" / "neighbours-l1.png"))
    assert grid.shape[:2] == (5, 3)
    assert near(grid[:, 0], as_pixels(samples))
    assert np.array_equal(grid[:, 1:], training[order].astype(int))
    lines = capsys.readouterr().out.splitlines()
    best = ", ".join(f"{distance:.3g}" for distance in distances.min(axis=1))
    assert lines[0] == f"l1, nearest of 20 training images: {best}"
    assert lines[1] == "o/neighbours-l1.png"
    assert lines[2].startswith("ssim, nearest of 20 training images: ")
    assert lines[3] == "o/neighbours-ssim.png"
    other = cells(pixels(desk / "o" / "neighbours-ssim.png"))
    assert np.array_equal(other[:, 0], grid[:, 0])


def test_the_most_similar_by_features_are_said_to_be_of_their_network(desk, generate, tiny, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    assert generate("neighbours", *tiny, "--count", "2", "--by", "features") == 0
    assert names_in(desk / "o") == ["neighbours-features.png"]
    assert pixels(desk / "o" / "neighbours-features.png").shape == (2 * 64, 4 * 64, 3)
    assert capsys.readouterr().out.startswith("EfficientNet-Lite0, nearest of 20 training")


def test_a_folder_of_images_is_prepared_to_look_for_neighbours(desk, generate, pictures, capsys):
    words = ("neighbours", "--dataset", pictures, "--data-root", "made", "--count", "1")
    assert generate(*words) == 0
    assert "preparing " in capsys.readouterr().out
    assert len(list((desk / "made").glob("pictures-*"))) == 1
    assert generate(*words) == 0
    assert "preparing " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ["Missing option '--dataset'"]),
        ("--dataset tinny", ["no data set 'tinny'", "did you mean 'tiny'?"]),
        ("--dataset tiny --count 0", ["--count", "0 is not in the range"]),
        ("--dataset tiny --nearest 0", ["--nearest", "0 is not in the range"]),
        ("--dataset tiny --by l2", ["--by", "'l2'", "l1", "ssim", "features"]),
        (
            "--dataset tiny --by features --inception-weights no.pth",
            ["no.pth", "no such file", "pt_inception-2015-12-05-6726825d.pth"],
        ),
    ],
)
def test_neighbours_that_cannot_be_found_are_refused(arguments, words, refused, data_root):
    message = refused("neighbours", "--data-root", data_root, *arguments.split())
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": 8, "channels": 1}, "tiny has no 1-channel images at 8 px"),
        ({"resolution": 16}, "tiny has no 3-channel images at 16 px: it has 4, 8 px, 3 channels"),
    ],
)
def test_a_set_of_other_images_has_no_neighbours(settings, words, refused, desk, sketch, small):
    sketch(desk / "other.safetensors", **settings)
    assert words in refused("neighbours", "--dataset", small, snapshot="other.safetensors")


# All of them


@pytest.mark.parametrize("out", ["a.png", "a.png/out"])
@pytest.mark.parametrize(
    "words",
    [
        ("edit", "b.png", *GLASSES),
        (*RIGHT, "--count", "2"),
        ("walk", "b.png", "c.png", "--steps", "1"),
        ("neighbours",),
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_cannot_be_made_is_refused(out, words, rejected, data_root):
    more = ["--dataset", data_root / "tiny"] if words == ("neighbours",) else []
    message = rejected("generate", "--snapshot", "v.safetensors", "--out", out, *words, *more)
    assert f"cannot write to {out}" in message
    assert "use another --out" in message
