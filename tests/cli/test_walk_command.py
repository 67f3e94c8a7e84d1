"""`pgvae generate walk`, as a user meets it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from generated import as_images, as_pixels, names_in, near, pixels
from PIL import Image

from pgvae.inference import Model, load


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
    told = "samples from the fitted prior\no/walk.gif: 18 frames\n"  # through 6 of them
    assert capsys.readouterr().out == told
    with Image.open(desk / "o" / "walk.gif") as gif:
        assert gif.format == "GIF"
        assert (gif.n_frames, gif.size) == (18, (64, 64))
        assert gif.info["duration"] == pytest.approx(1000 / 16, abs=10)
        assert gif.info["loop"] == 0
    model = load(desk / "v.safetensors")
    expected = as_pixels(model.sample(6, seed=5))
    found = frames_of(desk / "o" / "walk.gif")[::3, ::8, ::8]
    assert abs(found - expected).mean() < 4  # 256 colours


@pytest.mark.parametrize(("fps", "duration"), [(1, 1000), (100, 10)])
def test_frames_are_shown_as_long_as_asked(fps, duration, desk, generate):
    assert generate("walk", "--steps", "1", "--fps", fps) == 0
    with Image.open(desk / "o" / "walk.gif") as gif:
        assert gif.info["duration"] == pytest.approx(duration)


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


@pytest.mark.parametrize("paths", [[], ["a.png", "b.png"], ["no.png"]], ids=" ".join)
def test_without_its_package_a_film_is_refused_before_any_work(paths, rejected, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    for name in ("encode", "decode"):
        monkeypatch.setattr(Model, name, lambda *_: pytest.fail("the networks were run"))
    message = rejected("generate", "--snapshot", "v.safetensors", "walk", *paths, "--format", "mp4")
    assert "mp4 needs the package imageio-ffmpeg" in message
    assert "pip install 'pgvae[video]'" in message


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("walk a.png b.png --steps 9000000", "18,000,000"),
        ("walk --count 3 --steps 9000000", "27,000,000"),
        ("interpolate a.png b.png c.png d.png --steps 5000", "25,000,000"),
    ],
)
def test_more_frames_than_memory_has_are_refused_before_any_work(
    words, count, rejected, monkeypatch
):
    for name in ("encode", "decode"):
        monkeypatch.setattr(Model, name, lambda *_: pytest.fail("the networks were run"))
    message = rejected("generate", "--snapshot", "v.safetensors", *words.split())
    assert f"{count} images of 8 px at once, and 16,777,216 are the most: use fewer" in message
