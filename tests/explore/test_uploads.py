"""Images that a browser sent."""

import io

import numpy as np
import pytest
from PIL import Image

from pgvae.data import load_images
from pgvae.errors import InputError
from pgvae.explore import uploads
from pgvae.explore.uploads import Forgotten, Uploads


def file_of(shade: int, kind: str = "PNG", size: tuple[int, int] = (12, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(file, kind)
    return file.getvalue()


def test_an_image_is_as_generate_reads_it(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    expected, _ = load_images([tmp_path / "a.png"], 16)
    kept = Uploads(16, 3)
    np.testing.assert_array_equal(kept.pixels(kept.add(png)), expected[0])


def test_the_same_pixels_have_the_same_id_whatever_their_file():
    kept = Uploads(8, 3)
    assert kept.add(file_of(9)) == kept.add(file_of(9, "BMP", (30, 30))) != kept.add(file_of(10))


def test_pixels_sent_back_as_a_picture_keep_their_id(png):
    kept = Uploads(16, 3)
    key = kept.add(png)
    file = io.BytesIO()
    Image.fromarray(kept.pixels(key).transpose(1, 2, 0)).save(file, "PNG")
    assert kept.add(file.getvalue()) == key


@pytest.mark.parametrize("data", [b"", b"GIF89a...", b"\x89PNG\r\n\x1a\n", file_of(1)[:-24]])
def test_what_is_no_image_is_refused_with_a_reason(data):
    with pytest.raises(InputError, match="this image cannot be used: "):
        Uploads(8, 3).add(data)


def test_the_oldest_are_forgotten_and_using_one_keeps_it(monkeypatch):
    monkeypatch.setattr(uploads, "MOST_KEPT", 2)
    kept = Uploads(8, 3)
    first, second = kept.add(file_of(1)), kept.add(file_of(2))
    kept.pixels(first)
    kept.add(file_of(3))
    assert kept.pixels(first).shape == (3, 8, 8)
    with pytest.raises(Forgotten, match="choose its file again"):
        kept.pixels(second)
