"""Which files are images, by name and first bytes: to be read, or to be refused by name."""

import posixpath
import re
from collections.abc import Callable

_READ = (
    ".png .apng .jpg .jpeg .jpe .jfif .mpo .thm .webp .bmp .dib .gif .tif .tiff "
    ".avif .avifs .heic .heics .heif .heifs .hif"
)
_REFUSED = (  # images of other kinds: named, and not passed over
    ".eps .psd .xcf .svg .svgz .ico .icns .cur .tga .icb .vda .vst .pcx .dds .qoi "
    ".jxl .jp2 .j2k .j2c .jpc .jpf .jpx .jpm .jxr .wdp "
    ".pbm .pgm .ppm .pnm .pam .pfm .xbm .xpm .sgi .ras .exr .hdr .dcm .fits .flif .bpg "
    ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .x3f .3fr .erf .kdc .mrw"
)
_OTHER = ".csv .tsv .json .jsonl .txt .md .html .pdf .db .ini .xml .labels .lock"
_CONTAINERS = (  # of many images: read by themselves, and named where they lie among others
    ".zip .tar .tgz .tbz2 .txz .gz .bz2 .xz .zst .7z .rar .parquet .arrow .h5 .hdf5 .hdf .he5 "
    ".tfrecord .tfrecords .npy .npz .mdb .mat"
)
IMAGE_SUFFIXES = frozenset(f"{_READ} {_REFUSED}".split())
_CONTAINER_SUFFIXES = frozenset(_CONTAINERS.split())
_OTHER_SUFFIXES = frozenset(_OTHER.split()) | _CONTAINER_SUFFIXES
_STARTS = (
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP|BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0|"
    rb"GIF8[79]a|II\*\0|MM\0\*|II\+\0|MM\0\+|8BPS\0|qoif|DDS |v/1\x01|gimp xcf|P[1-6]\s+[\d#]|"
    rb"....ftyp(hei|hev|mif1|msf1|avi[fs]|crx )|\0\0\0\x0c(jP  |JXL )|\xff\x0a|\xff\x4f\xff\x51"
)
MASK = "a mask, not a photograph"  # why it is left out
PACKED = "an archive or arrays, not read among images: `pgvae data prepare FILE` may read it"
HIDDEN = "hidden, by its own name or its folder's"
_START = re.compile(_STARTS, re.DOTALL)
# Of CelebAMask-HQ and what its scripts write, Oxford pets, Pascal VOC, CUB and MVTec AD.
_MASKS = (
    "celebamask-hq-mask-anno celebamask-hq-mask celebamask-hq-mask-color celebamaskhq-mask "
    "celebamaskhq-mask-color trimaps segmentationclass segmentationobject segmentations "
    "ground_truth"
)
_MASK_FOLDERS = frozenset(_MASKS.split())


def may_be_image(name: str, start: Callable[[], bytes | None]) -> bool:
    """Whether a file is an image, of a kind that is read or not: by its ending, if that is known.

    start: gives its first 16 bytes, which tell where the ending does not; None where it cannot be
    read, so that it will be refused by name.

    >>> may_be_image("a.HEIC", bytes), may_be_image("notes.txt", lambda: b"GIF89a")
    (True, False)
    >>> may_be_image("photo.of.1999", lambda: b"GIF89a")
    True
    """
    suffix = _suffix(name)
    if suffix in IMAGE_SUFFIXES | _OTHER_SUFFIXES:
        return suffix in IMAGE_SUFFIXES
    found = start()
    return found is None or _START.match(found) is not None


def is_table(name: str) -> bool:
    """Whether a file may hold labels."""
    known = name.rpartition("/")[2] in ("dataset.json", "list_attr_celeba.txt")
    return known or _suffix(name) in (".csv", ".tsv", ".jsonl")


def is_container(name: str) -> bool:
    """Whether a file may hold many images, by its ending: an archive, a table, arrays.

    >>> is_container("a.tar.gz"), is_container("cache-12.arrow"), is_container("a.png")
    (True, False, False)
    """
    if _suffix(name) not in _CONTAINER_SUFFIXES:
        return False
    return not name.rpartition("/")[2].startswith("cache-")  # of Hugging Face's computations


def is_mask(name: str) -> bool:
    """Whether an image lies in a folder of masks of a known set.

    >>> is_mask("CelebAMask-HQ/CelebAMask-HQ-mask-anno/0/00000_hair.png"), is_mask("hats/0.png")
    (True, False)
    """
    return not _MASK_FOLDERS.isdisjoint(name.lower().split("/")[:-1])


def _suffix(name: str) -> str:
    """Its ending, in small letters; a path object for each name of a large set would take long."""
    return posixpath.splitext(name)[1].lower()


def is_hidden(name: str) -> bool:
    """Such as "._photo.jpg" and __MACOSX, which macOS leaves, or lost+found: no images.

    >>> is_hidden("._photo.jpg"), is_hidden("photo.jpg")
    (True, False)
    """
    return name.startswith(".") or name in ("__MACOSX", "lost+found")


def is_hidden_away(name: str) -> bool:
    """Whether an image, by its ending, is hidden or in a hidden folder, and not what macOS leaves.

    >>> is_hidden_away(".old/a.png"), is_hidden_away("__MACOSX/._a.png"), is_hidden_away("a.png")
    (True, False, False)
    >>> is_hidden_away(".a.png"), is_hidden_away("..png"), is_hidden_away(".a")
    (True, True, False)
    """
    parts = name.split("/")
    ending = "." + parts[-1].rpartition(".")[2].lower()  # all of it of ".png" and "..png"
    image = ending in IMAGE_SUFFIXES and not parts[-1].startswith("._")
    return image and any(map(is_hidden, parts))
