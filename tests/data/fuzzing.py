"""Damaged files, seeded: `python fuzzing.py KIND COUNT FOLDER` prints what went wrong, a line each.

A process of its own, so that a decoder that crashes or hangs is seen from outside.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from making import encoded, noise, noise_files, prepared, write_files, zip_of
from PIL import Image

from pgvae.data import Store
from pgvae.data.recipes import Split, folder
from pgvae.errors import PgvaeError

IMAGES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "GIF": ".gif",
    "TIFF": ".tif",
}
SIDE, COUNT = 16, 12


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """With some bits flipped, cut off, a piece left out, a piece of noise, or joined to itself."""
    changed, kind = bytearray(data), rng.integers(5)
    at = int(rng.integers(len(data)))
    if kind == 0:
        for place in rng.integers(len(data), size=int(rng.integers(1, 9))):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        del changed[at : at + int(rng.integers(1, 64))]
    elif kind == 3:
        changed[at : at + 16] = rng.bytes(16)
    else:
        changed[at:] = data[: len(data) - at // 2]
    return bytes(changed)


def images(count: int, place: Path) -> None:
    """Every damaged image is used, or left out by name."""
    rng, given = np.random.default_rng(0), {}
    for index in range(count):
        kind = [*IMAGES][index % len(IMAGES)]
        coarse = Image.fromarray(noise(index, 5, 5)).resize((40, 32), Image.Resampling.BICUBIC)
        given[f"{index:03d}{IMAGES[kind]}"] = damaged(encoded(coarse, kind), rng)
    given["whole.png"] = encoded(noise(0, 32, 32))
    said: list[str] = []
    recipe = folder("set", write_files(place / "in", given), Split())
    store = prepared(recipe, place / "sets", resolution=SIDE, skip_bad=True, said=said)
    if len(store) + store.manifest["rejected"] != len(given):
        print(f"{len(given)} images gave {len(store)} and {store.manifest['rejected']} left out")
    if not 0.05 < len(store) / len(given) < 0.95:
        print(f"only {len(store)} of {len(given)} are used: the damage is too small or too great")


def csv_labels(place: Path) -> Path:
    rows = [f"{i:03d}.png,{i % 2},p{i % 3}" for i in range(COUNT)]
    return write_files(place, {"l.csv": ("name,hat,who\n" + "\n".join(rows)).encode()}) / "l.csv"


def json_labels(place: Path) -> Path:
    text = json.dumps({"labels": [[f"{i:03d}.png", i % 3] for i in range(COUNT)]})
    return write_files(place, {"l.json": text.encode()}) / "l.json"


def npz(place: Path) -> Path:
    np.savez(place / "a.npz", x=np.stack([noise(i, SIDE, SIDE) for i in range(COUNT)]))
    return place / "a.npz"


def zipped(place: Path) -> Path:
    return zip_of(place / "a.zip", *noise_files(COUNT, SIDE).items(), deflate=True)


def tar(place: Path) -> Path:
    from packing import CLASS_OF, files, web_dataset

    return web_dataset(place / "a.tar", files(COUNT), CLASS_OF[:COUNT])


def parquet(place: Path) -> Path:
    import pyarrow.parquet
    from packing import CLASS_OF, files, hugging_face_table

    table = hugging_face_table(files(COUNT), CLASS_OF[:COUNT])
    pyarrow.parquet.write_table(table, place / "a.parquet", row_group_size=5)
    return place / "a.parquet"


def arrow(place: Path) -> Path:
    from packing import CLASS_OF, files, hugging_face_table, write_arrow

    return write_arrow(place / "a.arrow", hugging_face_table(files(COUNT), CLASS_OF[:COUNT]))


def hdf5(place: Path) -> Path:
    import h5py

    with h5py.File(place / "a.h5", "w") as file:
        file["data16x16"] = np.stack([noise(i, SIDE, SIDE) for i in range(COUNT)]).transpose(
            0, 3, 1, 2
        )
        file["label"] = np.arange(COUNT) % 3
    return place / "a.h5"


def tfrecord(place: Path) -> Path:
    from packing import pggan_record, pictures, write_records

    return write_records(place / "a.tfrecord", [pggan_record(p) for p in pictures(COUNT)])


CONTAINERS: dict[str, Callable[[Path], Path]] = {
    made.__name__: made for made in (npz, zipped, tar, parquet, arrow, hdf5, tfrecord)
}
TABLES: dict[str, Callable[[Path], Path]] = {
    made.__name__: made for made in (csv_labels, json_labels)
}


def containers(name: str, count: int, place: Path) -> None:
    """Every damaged file gives all of its images, used or left out by name, or is refused."""
    place.mkdir(parents=True, exist_ok=True)
    rng, path = np.random.default_rng(0), CONTAINERS[name](place)
    whole = path.read_bytes()
    for index in range(count):
        path.write_bytes(damaged(whole, rng))
        try:
            recipe = folder("set", path, Split())
            store = prepared(recipe, place / "sets", resolution=8, skip_bad=True, force=True)
        except PgvaeError as error:
            if not str(error):
                print(f"{name} {index}: refused without a word")
            continue
        if len(store) + store.manifest["rejected"] < COUNT:
            print(f"{name} {index}: {len(store)} images, {store.manifest['rejected']} left out")


def tables(name: str, count: int, place: Path) -> None:
    """Every damaged file of labels gives labels to all, or is refused."""
    images = write_files(place / "in", noise_files(COUNT, 8))
    rng, path = np.random.default_rng(0), TABLES[name](place)
    whole = path.read_bytes()
    for index in range(count):
        path.write_bytes(damaged(whole, rng))
        recipe = folder("set", images, Split(), path)
        try:
            table = recipe.labels(list(recipe.source.names))
        except PgvaeError:
            continue
        if len(table.values) != COUNT or not np.isfinite(table.values).all():
            print(f"{name} {index}: labels {table.values.shape}")
        if not table.attributes and not table.notes and b"null" not in path.read_bytes():
            print(f"{name} {index}: no labels, and not a word")


def manifests(count: int, place: Path) -> None:
    """Every damaged manifest is refused, or is as it was."""
    path = write_files(place / "in", noise_files(COUNT, 8))
    store = prepared(folder("set", path, Split()), place / "sets")
    rng, file = np.random.default_rng(0), store.path / "manifest.json"
    whole = file.read_bytes()
    for index in range(count):
        file.write_bytes(damaged(whole, rng))
        try:
            found = Store(store.path)
        except PgvaeError:
            continue
        if found.manifest != store.manifest:
            print(f"manifest {index} is taken")


def main(kind: str, count: int, place: Path) -> None:
    """One kind of file, so many of them."""
    if kind in CONTAINERS:
        containers(kind, count, place)
    elif kind in TABLES:
        tables(kind, count, place)
    else:
        {"images": images, "manifests": manifests}[kind](count, place)
    shutil.rmtree(place)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
