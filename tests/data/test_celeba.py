"""CelebA and CelebA-HQ: labels, partitions, the order of images."""

from pathlib import Path

import numpy as np
import pytest
from making import encoded, noise, noise_files, prepared, unread, write_files
from PIL import Image

from pgvae.data.celeba import celeba, celebahq
from pgvae.data.labels import Table
from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError

NO_TABLE = Table((), np.zeros((0, 0), np.float32))


def celebahq_folder(path: Path, mapping: str = "") -> Path:
    files = noise_files(30, size=8)
    if mapping:
        files |= {"CelebA-HQ-to-CelebA-mapping.txt": mapping.encode()}
    return write_files(path, files)


@pytest.mark.parametrize(("protocol", "train"), [("pioneer", 27), ("introvae", 29)])
def test_celebahq_holds_out_the_last_of_its_order(tmp_path, protocol, train):
    path = celebahq_folder(tmp_path / "in")
    store = prepared(celebahq("c", path, protocol), tmp_path)
    assert store.split("train").tolist() == list(range(train))
    assert store.attributes == ()


def test_celebahq_goes_by_number_and_not_by_the_order_of_names(tmp_path):
    path = write_files(tmp_path, {f"{i}.png": encoded(noise(i, 8, 8)) for i in range(20)})
    recipe = celebahq("c", path, "pioneer")
    split = recipe.split(list(range(20)), NO_TABLE)
    held = {recipe.source.names[i] for i in np.flatnonzero(split)}
    assert held == {"18.png", "19.png"}


def test_celebahq_goes_by_celebas_index_where_its_mapping_lies_there(tmp_path):
    order = np.random.default_rng(0).permutation(30)
    rows = "\n".join(f"{i} {1000 + index} {index:06d}.jpg" for i, index in enumerate(order))
    path = celebahq_folder(tmp_path, "idx orig_idx orig_file\n" + rows + "\n")
    split = celebahq("c", path, "pioneer").split(list(range(30)), NO_TABLE)
    assert set(order[split == 1]) == {27, 28, 29}


def test_celebahq_keeps_its_split_when_a_bad_image_is_left_out(tmp_path):
    path = celebahq_folder(tmp_path / "in")
    (path / "003.png").write_bytes(b"")
    store = prepared(celebahq("c", path, "pioneer"), tmp_path, skip_bad=True)
    assert [store.names()[i] for i in store.split("val")] == ["027.png", "028.png", "029.png"]


def test_an_incomplete_mapping_and_an_unknown_protocol_are_refused(tmp_path):
    path = celebahq_folder(tmp_path, "idx orig_idx\n0 5\n1 7\n")
    with pytest.raises(InputError, match=r"no row for '002\.png', .* and 23 more"):
        celebahq("c", path, "pioneer")
    with pytest.raises(InputError, match="pioneer, introvae"):
        celebahq("c", path, "other")


# celeba

ATTRIBUTE_FILE = "6\nBald Smiling\n" + "".join(
    f"{i:06d}.jpg {1 if i % 2 else -1:>2} {1 if i > 3 else -1:>2}\n" for i in range(1, 7)
)
PARTITION = "".join(f"{i:06d}.jpg {part}\n" for i, part in enumerate([0, 0, 1, 2, 2, 0], start=1))


def celeba_folder(path: Path, inner: str = "", **texts: str) -> Path:
    files = {
        f"{inner}{i:06d}.jpg": encoded(noise(i, 218, 178)) for i in range(1, 7)
    }  # PNG data: exact, and sniffed
    texts = {"list_attr_celeba": ATTRIBUTE_FILE, "list_eval_partition": PARTITION} | texts
    return write_files(path, files | {f"{k}.txt": v.encode() for k, v in texts.items() if v})


@pytest.mark.parametrize("inner", ["", "img_align_celeba/"])
def test_celeba_has_its_attributes_partition_and_crop(tmp_path, inner):
    path = celeba_folder(tmp_path / "in", inner)
    recipe = celeba("c", path)
    store = prepared(recipe, tmp_path)
    assert store.manifest["crop"] == "celeba"
    assert store.resolutions[-1] == 128
    assert store.attributes == ("Bald", "Smiling")
    assert store.labels.tolist() == [[1, 0], [0, 0], [1, 0], [0, 1], [1, 1], [0, 1]]
    assert store.split("val").tolist() == [3, 4]  # 2: test; 1, CelebA's own validation, trains
    chosen = celeba("c", path, ("Smiling",)).labels(list(recipe.source.names))
    assert chosen.attributes == ("Smiling",)
    image = Image.fromarray(noise(1, 218, 178))
    box = (0, 20, 178, 198)
    top = np.asarray(image.resize((128, 128), Image.Resampling.LANCZOS, box=box))
    np.testing.assert_array_equal(store.get(0, 128), top.transpose(2, 0, 1))


def test_celeba_as_png_has_the_labels_of_its_jpegs(tmp_path):
    path = celeba_folder(tmp_path / "in")
    for file in path.glob("*.jpg"):
        file.rename(file.with_suffix(".png"))
    store = prepared(celeba("c", path), tmp_path)
    assert store.labels.tolist() == [[1, 0], [0, 0], [1, 0], [0, 1], [1, 1], [0, 1]]
    assert store.split("val").tolist() == [3, 4]


@pytest.mark.parametrize("name", ["list_attr_celeba", "list_eval_partition"])
def test_celeba_without_one_of_its_files_is_refused_by_its_name(tmp_path, name):
    with pytest.raises(InputError, match=rf"has no {name}\.txt"):
        celeba("c", celeba_folder(tmp_path, **{name: ""}))


def test_celeba_with_an_image_of_no_partition_is_refused(tmp_path):
    text = PARTITION.replace("000004.jpg 2\n", "")
    recipe = celeba("c", celeba_folder(tmp_path, list_eval_partition=text))
    with pytest.raises(InputError, match=r"no row for '000004\.jpg'"):
        recipe.split(list(range(6)), NO_TABLE)
    with pytest.raises(InputError, match=r"no row for '000004\.jpg'"):
        prepared(unread(recipe), tmp_path / "root")


def test_masks_of_celebahq_are_no_images_of_it(tmp_path):
    names = {f"CelebA-HQ-img/{i}.jpg": encoded(noise(i, 8, 8)) for i in range(10)}
    masks = {
        f"CelebAMask-HQ-mask-anno/0/{i:05d}_hair.png": noise_files(1)["000.png"] for i in range(9)
    }
    path, said = write_files(tmp_path / "in", names | masks), []
    store = prepared(celebahq("c", path, "pioneer"), tmp_path / "root", said=said)
    assert store.names() == list(names)
    assert "warning: 9 images left out: a mask, not a photograph" in said
    assert len(prepared(folder("m", path / "CelebAMask-HQ-mask-anno", Split()), tmp_path)) == 9
