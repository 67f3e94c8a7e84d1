"""Frames to animations, read back."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pgvae.errors import InputError
from pgvae.pictures import ANIMATIONS, check_animation, grid_of, save_animation

FORMATS = {".gif": "GIF", ".png": "PNG"}


def frames_of(count: int, channels: int = 3, side: int = 8) -> torch.Tensor:
    """Frames that all differ, of few colours."""
    images = torch.full((count, channels, side, side), -1.0)
    for index in range(count):
        images[index, :, :, index % side] = 1 - index / count
        images[index, 0, index % side] = 0.5
    return images


def written(path: Path, images: torch.Tensor, fps: int = 10) -> Path:
    save_animation(path, images, fps)
    return path


def read(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Frames as RGB, and how long each is shown, in ms."""
    frames, durations = [], []
    with Image.open(path) as picture:
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
            durations.append(picture.info["duration"])
    return frames, durations


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [2, 3, 17])
def test_frames_come_back_in_their_order(suffix, channels, count, tmp_path):
    images = frames_of(count, channels)
    path = written(tmp_path / f"a{suffix}", images)
    with Image.open(path) as picture:
        assert picture.format == FORMATS[suffix]
        assert picture.is_animated
        assert picture.n_frames == count
        assert picture.size == (64, 64)
    found, _ = read(path)
    expected = [np.broadcast_to(grid_of(image[None]), (64, 64, 3)) for image in images]
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("suffix", FORMATS)
def test_many_colours_are_kept_as_well_as_the_format_can(suffix, tmp_path):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found, _ = read(written(tmp_path / f"a{suffix}", images))
    errors = [abs(a - grid_of(b[None])) for a, b in zip(found, images, strict=True)]
    if suffix == ".png":
        assert not np.any(errors)
    else:
        assert np.mean(errors) < 20  # of 1,024 random colours it has 256


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("fps", "duration"), [(1, 1000), (10, 100), (20, 50), (25, 40), (100, 10)])
def test_each_frame_is_shown_for_its_time(suffix, fps, duration, tmp_path):
    _, durations = read(written(tmp_path / f"a{suffix}", frames_of(5), fps))
    assert durations == pytest.approx([duration] * 5)


@pytest.mark.parametrize("fps", [1, 3, 16, 30, 60, 70, 99])
def test_an_animation_lasts_as_long_as_its_frames_in_whole_hundredths_for_gif_alone(fps, tmp_path):
    for suffix, most in ((".gif", 10), (".png", 1)):
        _, durations = read(written(tmp_path / f"a{suffix}", frames_of(8), fps))
        assert sum(durations) == pytest.approx(8000 / fps, abs=most)
        assert durations == pytest.approx([1000 / fps] * 8, abs=most)


def test_png_has_times_that_are_no_hundredths_of_a_second(tmp_path):
    _, durations = read(written(tmp_path / "a.png", frames_of(3), 16))
    assert durations == pytest.approx([62.5] * 3, abs=1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_it_repeats_for_ever(suffix, tmp_path):
    with Image.open(written(tmp_path / f"a{suffix}", frames_of(3))) as picture:
        assert picture.info["loop"] == 0


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("side", "shown"), [(4, 64), (64, 64), (128, 128)])
def test_small_images_are_enlarged_and_large_ones_keep_their_size(suffix, side, shown, tmp_path):
    with Image.open(written(tmp_path / f"a{suffix}", frames_of(2, side=side))) as picture:
        assert picture.size == (shown, shown)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_frame_that_stays_is_shown_for_longer(suffix, tmp_path):
    """Equal frames may be kept as one; the time is theirs together."""
    images = frames_of(2)[[0, 0, 0, 1]]
    frames, durations = read(written(tmp_path / f"a{suffix}", images))
    assert sum(durations) == pytest.approx(400)
    assert np.array_equal(frames[0], grid_of(images[:1]))
    assert np.array_equal(frames[-1], grid_of(images[3:]))


@pytest.mark.parametrize("suffix", FORMATS)
def test_one_frame_is_a_picture(suffix, tmp_path):
    images = frames_of(1)
    with Image.open(written(tmp_path / f"a{suffix}", images)) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), grid_of(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_has_every_frame(channels, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    images = frames_of(7, channels)
    path = written(tmp_path / "a.mp4", images, 5)
    assert imageio_ffmpeg.count_frames_and_secs(str(path)) == (7, pytest.approx(7 / 5))
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24"]
    raw = subprocess.run([*decode, "-"], capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(7, 64, 64, 3).astype(int)
    for found, image in zip(frames, images, strict=True):
        errors = abs(found - np.broadcast_to(grid_of(image[None]), (64, 64, 3)))
        assert errors.mean() < 16  # lossy
        if channels == 1:
            assert (found.max(axis=2) - found.min(axis=2)).mean() < 4


def test_a_film_without_its_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match=r"imageio-ffmpeg: pip install 'pgvae\[video\]', or take"):
        save_animation(tmp_path / "a.mp4", frames_of(2), 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "ending"), [("a.avi", "avi"), ("a", ""), ("a.jpg", "jpg"), ("a.GIF", "GIF")]
)
def test_another_ending_is_refused(name, ending, tmp_path):
    for save in (
        lambda: check_animation(ending),
        lambda: save_animation(tmp_path / name, frames_of(2), 10),
    ):
        with pytest.raises(InputError, match=f"^animations are gif, png, mp4: got '{ending}'$"):
            save()
    assert list(tmp_path.iterdir()) == []


def test_only_films_need_a_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert ANIMATIONS == ("gif", "png", "mp4")
    for ending in ("gif", "png"):
        check_animation(ending)
    with pytest.raises(InputError, match=r"^mp4 needs the package imageio-ffmpeg: pip install"):
        check_animation("mp4")
