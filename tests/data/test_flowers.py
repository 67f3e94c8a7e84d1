"""Oxford's flowers: classes and the set that is held out are the authors'."""

import io

import numpy as np
import pytest
from making import encoded, noise, prepared, write_files
from packing import write_lmdb

from pgvae.data.recipes import Ingredients, recipe_of
from pgvae.errors import InputError

scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")

COUNT = 100


def matlab(**arrays) -> bytes:
    out = io.BytesIO()
    scipy_io.savemat(out, {name: np.array([row], np.uint16) for name, row in arrays.items()})
    return out.getvalue()


def flowers(path, bad: dict[str, bytes] | None = None, classes=None):
    files = {
        f"jpg/image_{i:05d}.jpg": encoded(noise(i, 16, 16), "JPEG") for i in range(1, COUNT + 1)
    }
    files["imagelabels.mat"] = matlab(labels=classes or [1 + i % 5 for i in range(COUNT)])
    files["setid.mat"] = matlab(trnid=[1, 2], valid=[3, 50, 99], tstid=[4])
    write_files(path, files | (bad or {}))
    return recipe_of("flowers", Ingredients(source=path))


def test_classes_and_the_held_out_set_are_the_authors(tmp_path):
    store = prepared(flowers(tmp_path / "in"), tmp_path / "sets")
    assert store.attributes == ("flower1", "flower2", "flower3", "flower4", "flower5")
    assert store.labels.argmax(1).tolist() == [i % 5 for i in range(COUNT)]
    assert store.split("val").tolist() == [2, 49, 98]


def test_one_bad_flower_is_refused_by_name(tmp_path):
    recipe = flowers(tmp_path / "in", {"jpg/image_00042.jpg": b"\xff\xd8\xff and no more"})
    with pytest.raises(InputError, match=r"'jpg/image_00042\.jpg'"):
        prepared(recipe, tmp_path / "sets")


def test_files_that_are_missing_or_of_another_kind_are_named(tmp_path):
    write_files(tmp_path / "in", {"jpg/image_00001.jpg": encoded(noise(1, 8, 8), "JPEG")})
    with pytest.raises(InputError, match=r"has no imagelabels\.mat"):
        recipe_of("flowers", Ingredients(source=tmp_path / "in"))
    with pytest.raises(InputError, match=r"imagelabels\.mat is no readable MATLAB file"):
        flowers(tmp_path / "bad", {"imagelabels.mat": b"no matrix"})
    with pytest.raises(InputError, match=r"no class for 'jpg/image_00003\.jpg'"):
        flowers(tmp_path / "few", classes=[1, 2])


def test_the_recipe_lsun_reads_its_folders(tmp_path):
    for name in ("church_train_lmdb", "church_val_lmdb"):
        entries = {f"{name}{i}".encode(): encoded(noise(i, 16, 16), "WEBP") for i in range(4)}
        write_lmdb(tmp_path / "in" / name, entries)
    store = prepared(recipe_of("lsun", Ingredients(source=tmp_path / "in")), tmp_path / "sets")
    assert (store.name, len(store), store.split("val").tolist()) == ("lsun", 8, [4, 5, 6, 7])
