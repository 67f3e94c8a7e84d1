"""No image is passed over: those that are not read are known too."""

import pytest
from making import encoded, noise
from PIL import Image, features

from pgvae.data.kinds import is_hidden, is_mask, is_table, may_be_image

PILLOW = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"]
PILLOW += ["JPEG2000"] * features.check("jpg_2000") + ["AVIF"] * features.check("avif")


@pytest.mark.parametrize("kind", PILLOW)
@pytest.mark.parametrize("name", ["photo", "photo.of.1999", "PHOTO.DAT"])
def test_an_image_is_known_by_its_first_bytes(kind, name):
    data = encoded(noise(0, 8, 8), kind)
    assert may_be_image(name, lambda: data[:16])
    assert not may_be_image(f"{name}.txt", lambda: data[:16])


@pytest.mark.parametrize(
    "start",
    [
        b"\0\0\0\x18ftypheic\0\0\0\0", b"\0\0\0\x18ftypmif1\0\0\0\0", b"\0\0\0\x0cJXL \r\n\x87\n",
        b"\xff\x0a\xfa\x1f", b"8BPS\0\1", b"P5\n# made by hand\n", b"P6 64 64 255\n",
    ],
)  # fmt: skip
def test_kinds_that_are_not_read_are_known_by_their_first_bytes(start):
    assert may_be_image("photo", lambda: start)


@pytest.mark.parametrize(
    "start",
    [b"", b"text", b"BMW and others", b"P5 is a paper", b"PK\3\4", b"\0\0\0\x18ftypmp42",
     b"%PDF-1.7", b"RIFF\0\0\0\0WAVEfmt ", b"MZ\x90\0", b"\x7fELF"],
)  # fmt: skip
def test_other_files_are_no_images(start):
    assert not may_be_image("file", lambda: start)


ENDINGS = (
    "png JPG jpeg webp bmp gif tif heic HEIF avif jxl jp2 ppm pgm tga ico psd svg exr dng cr2 nef"
)


@pytest.mark.parametrize("ending", ENDINGS.split())
def test_an_image_is_known_by_its_ending_and_then_not_opened(ending):
    def start():
        raise AssertionError("opened")

    assert may_be_image(f"a/b.{ending}", start)


def test_endings_that_pillow_writes_as_pictures_are_known():
    Image.init()
    pictures = ("PPM", "TGA", "JPEG2000", "ICO", "DDS", "PCX", "SGI", "XBM", "AVIF", "TIFF", "GIF")
    of_pictures = [e for e, kind in Image.registered_extensions().items() if kind in pictures]
    assert len(of_pictures) > 15
    unknown = [e for e in of_pictures if not may_be_image(f"x{e}", bytes)]
    assert set(unknown) <= {".bw", ".rgb", ".rgba"}  # of SGI; too common as names of other files


@pytest.mark.parametrize(
    "name", ["dataset.json", "a/dataset.json", "labels.CSV", "x/y.tsv", "metadata.jsonl"]
)
def test_what_may_hold_labels_is_a_table(name):
    assert is_table(name)
    assert not is_table(f"{name}.png")


def test_masks_are_known_by_their_folder_alone():
    assert is_mask("SegmentationClass/2007_000032.png")
    assert not is_mask("JPEGImages/2007_000032.jpg")
    assert not is_mask("trimaps")
    assert not is_mask("carnival/masks/0.png")


@pytest.mark.parametrize("name", [".hidden", "._a.png", "__MACOSX", "lost+found"])
def test_what_systems_leave_is_hidden(name):
    assert is_hidden(name)
    assert not is_hidden(f"x{name}")
