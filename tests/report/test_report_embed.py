"""Pictures as data: URIs."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import picture

from pgvae.errors import InputError
from pgvae.report.embed import Embedded, embed


def pixels(embedded: Embedded) -> np.ndarray:
    """What a browser sees."""
    head, data = embedded.uri.split(",")
    assert head == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    assert image.size == (embedded.width, embedded.height)
    return np.asarray(image)


@pytest.mark.parametrize("side", [4, 8, 16, 32, 64])
def test_a_grid_goes_in_without_its_repetition_and_without_loss(tmp_path, side):
    path = picture(tmp_path / "grid.png", side)
    found = embed(path, "grid.png")
    assert (found.width, found.height, found.exact) == (8 * side, 8 * side, True)
    factor = 64 // side
    whole = pixels(found).repeat(factor, axis=0).repeat(factor, axis=1)
    assert np.array_equal(whole, np.asarray(Image.open(path)))


def test_bytes_serve_as_well_as_a_file(tmp_path):
    path = picture(tmp_path / "grid.png")
    assert embed(path.read_bytes(), "bytes") == embed(path, "file")


def test_grey_pictures_stay_grey(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "g.png")
    found = pixels(embed(tmp_path / "g.png", "g.png"))
    assert np.array_equal(found, np.arange(64).reshape(8, 8, 1).repeat(3, axis=2))


def test_a_large_picture_is_shrunk_and_compressed(tmp_path):
    x = np.linspace(0, 255, 2048)
    smooth = np.stack([np.add.outer(x, x) / 2, *[np.tile(x, (2048, 1))] * 2], axis=-1)
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "large.png")
    found = embed(tmp_path / "large.png", "large.png")
    assert (found.width, found.height, found.exact) == (1024, 1024, False)
    wanted = smooth.reshape(1024, 2, 1024, 2, 3).mean(axis=(1, 3))
    assert np.abs(pixels(found) - wanted).mean() < 3
    assert len(found.uri) < 100_000


def test_a_picture_of_one_colour_is_small_and_right(tmp_path):
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "flat.png")
    found = embed(tmp_path / "flat.png", "flat.png")
    assert pixels(found).tolist() == [[[1, 2, 3]] * 4] * 4


@pytest.mark.parametrize("content", [b"", b"nope", b"\x89PNG\r\n\x1a\n", b"<svg></svg>"])
def test_what_is_not_a_picture_is_an_error_with_its_name(content):
    with pytest.raises(InputError, match=r"x\.png could not be read"):
        embed(content, "x.png")


def test_a_picture_cut_short_is_an_error(tmp_path):
    path = picture(tmp_path / "grid.png", 32)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"grid\.png could not be read"):
        embed(path, "grid.png")


def test_a_missing_file_is_an_error():
    with pytest.raises(InputError, match="could not be read"):
        embed(Path("nowhere.png"), "nowhere.png")


def test_a_picture_of_too_many_pixels_is_not_unpacked(tmp_path):
    Image.new("1", (16384, 8192)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="it has 16384 x 8192 pixels"):
        embed(tmp_path / "bomb.png", "bomb.png")
