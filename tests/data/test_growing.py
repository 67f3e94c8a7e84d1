"""Sets that grow and are exported: the same images, labels and sides of the split."""

import json
import zipfile

import numpy as np
import pytest
from grown import labelled, sides_of, updated
from making import encoded, noise, noise_files, prepared, workers_at_once, write_files
from PIL import Image

from pgvae.data import Store, growing, images
from pgvae.data.prepare import Options
from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError

FIRST = noise_files(40)


def test_an_update_is_the_set_of_the_images_that_are_there_now(tmp_path):
    path = write_files(tmp_path / "in", FIRST)
    store = prepared(folder("set", path, Split(0.25)), tmp_path / "sets")
    before, digest = sides_of(store), store.digest
    for name in ("003.png", "007.png"):
        (path / name).unlink()
    (path / "010.png").rename(path / "renamed.png")
    write_files(path, {f"new-{n}": d for n, d in noise_files(8, seed=1).items()})
    grown = updated(store, path)
    anew = prepared(folder("anew", path, Split()), tmp_path / "sets")
    assert grown.names() == anew.names()
    for resolution in grown.resolutions:
        every = np.arange(len(grown))
        np.testing.assert_array_equal(
            grown.get_many(every, resolution), anew.get_many(every, resolution)
        )
    grown.verify()
    np.testing.assert_array_equal(grown.hashes(), anew.hashes())
    after = sides_of(grown)
    assert {name: after[name] for name in before if name in after} == {
        name: side for name, side in before.items() if name in after
    }
    assert after["renamed.png"] == before["010.png"]
    assert sum(after[name] for name in after if name.startswith("new-")) == 2
    assert grown.digest != digest
    assert grown.manifest["updates"] == [{"digest": digest, "came": 8, "gone": 2}]


def test_copies_of_one_file_are_images_of_their_own(tmp_path):
    file = encoded(noise(0, 40, 16))
    names = [f"{side}/{i}.png" for side in ("train", "val") for i in range(3)]
    path = write_files(tmp_path / "in", dict.fromkeys(names, file))
    store = prepared(folder("set", path, Split()), tmp_path / "sets", resolution=8)
    assert store.manifest["sides"] == {"16": 6}
    same = updated(store, path)
    assert (same.digest, same.manifest["sides"]) == (store.digest, {"16": 6})
    (path / "train/0.png").unlink()
    (path / "train/1.png").rename(path / "train/9.png")
    write_files(path, {"val/7.png": file, "val/8.png": file})
    grown = updated(same, path)
    changes = [(change["came"], change["gone"]) for change in grown.manifest["updates"]]
    assert changes == [(0, 0), (1, 0)]  # one file more than before
    assert [sides_of(grown)[name] for name in names if name in grown.names()] == [
        *(False, True, True, True)
    ]


def test_an_update_decodes_new_images_alone(tmp_path, monkeypatch):
    path = write_files(tmp_path / "in", FIRST)
    store = prepared(folder("set", path, Split()), tmp_path / "sets")
    (path / "zz.png").write_bytes(encoded(noise(77, 16, 16)))
    decoded, plain = [], images.decode

    def decode(data, *more):
        decoded.append(data)
        return plain(data, *more)

    monkeypatch.setattr(images, "decode", decode)
    assert len(updated(store, path)) == 41
    assert len(decoded) == 1


def test_an_update_by_workers_is_the_same(tmp_path, monkeypatch):
    path = write_files(tmp_path / "in", FIRST)
    for name in ("one", "two"):
        prepared(folder(name, path, Split()), tmp_path / "sets")
    write_files(path, {f"new-{n}": d for n, d in noise_files(8, seed=1).items()})
    alone = updated(Store(tmp_path / "sets/one"), path)
    workers_at_once(monkeypatch)
    spread = updated(Store(tmp_path / "sets/two"), path, workers=2)
    assert spread.digest == alone.digest


def test_what_changed_is_said_by_digest_over_several_updates(tmp_path):
    path = write_files(tmp_path / "in", FIRST)
    store = prepared(folder("set", path, Split()), tmp_path / "sets")
    digests = [store.digest]
    for seed in (1, 2):
        write_files(path, {f"{seed}-{n}": d for n, d in noise_files(3, seed=seed).items()})
        (path / f"00{seed}.png").unlink()
        store = updated(store, path)
        digests.append(store.digest)
    said = [store.since(digest) for digest in digests]
    assert said == [
        "6 images came and 2 went since",
        "3 images came and 1 went since",
        "",
    ]
    assert store.since("0" * 64) == ""


def test_what_changed_in_labels_and_in_order_is_said_too(tmp_path):
    store = labelled(tmp_path, "one", 1, ("hat", "age"))
    csv, digests = tmp_path / "one.csv", [store.digest]
    text = csv.read_text()
    csv.write_text(text.replace("000.png,0,1", "000.png,1,1"))
    digests.append(updated(store, tmp_path / "one", labels=csv).digest)
    store = Store(store.path)
    assert store.since(digests[0]) == "labels changed since"
    rows = [row.rpartition(",")[0] for row in csv.read_text().splitlines()]
    csv.write_text("\n".join(rows))
    store = updated(store, tmp_path / "one", labels=csv, drop_labels=True)
    way = "`pgvae data update one PATH --attributes hat,age` brings back"
    assert [store.since(digest) for digest in digests] == [f"labels were hat, age, which {way}"] * 2
    digest = store.digest
    (tmp_path / "one/000.png").rename(tmp_path / "one/zzz.png")
    csv.write_text(csv.read_text().replace("000.png", "zzz.png"))
    store = updated(store, tmp_path / "one", labels=csv)
    assert store.since(digest) == "labels, or the order of images, changed since"


def test_new_images_of_a_known_person_are_on_that_person_s_side(tmp_path):
    path, csv = write_files(tmp_path / "in", FIRST), tmp_path / "labels.csv"

    def write_labels(names):
        rows = "".join(f"{name},p{int(name[-7:-4]) % 5},1\n" for name in names)
        csv.write_text("name,person,g\n" + rows)

    write_labels(FIRST)
    split = Split(0.4, by="person")
    store = prepared(folder("set", path, split, csv), tmp_path / "sets")
    side_of_person = {int(name[-7:-4]) % 5: side for name, side in sides_of(store).items()}
    assert {*side_of_person.values()} == {True, False}
    new = {f"new-{n}": d for n, d in noise_files(10, seed=1).items()}
    write_files(path, new)
    write_labels([*FIRST, *new])
    grown = updated(store, path, Split(by="person"), csv)
    for name, side in sides_of(grown).items():
        assert side == side_of_person[int(name[-7:-4]) % 5]


def test_groups_of_both_sides_that_became_one_are_trained_on_with_a_word(tmp_path):
    path, csv = write_files(tmp_path / "in", FIRST), tmp_path / "labels.csv"

    def write_labels(persons):
        rows = "".join(f"{name},p{int(name[:3]) % persons},1\n" for name in FIRST)
        csv.write_text("name,person,g\n" + rows)

    def person_of(name, persons):
        return int(name[:3]) % persons

    write_labels(20)
    split, said = Split(0.4, by="person"), []
    store = prepared(folder("set", path, split, csv), tmp_path / "sets")
    before = sides_of(store)
    write_labels(10)
    recipe = folder("set", path, split, csv)
    after = sides_of(growing.update(store, recipe, Options(workers=0), split, say=said.append))
    sides = {k: {before[n] for n in FIRST if person_of(n, 10) == k} for k in range(10)}
    both = [k for k in sides if len(sides[k]) == 2]
    assert both
    for name, side in after.items():
        assert side == (before[name] and person_of(name, 10) not in both)
    assert f"warning: {len(both)} groups of 'person' were in train and val" in said[-1]


def sided_files(count: int, seed: int = 0) -> dict[str, bytes]:
    files = noise_files(count, seed=seed).items()
    sides = ("train", "val") * count
    return {f"{side}/{seed}-{name}": data for side, (name, data) in zip(sides, files, strict=False)}


def test_new_images_are_on_the_side_of_their_folder_unless_a_fraction_is_asked(tmp_path):
    path = write_files(tmp_path / "in", sided_files(8))
    for name in ("one", "two"):
        prepared(folder(name, path, Split()), tmp_path / "sets")
    write_files(path, sided_files(20, seed=1))
    grown = updated(Store(tmp_path / "sets/one"), path)
    assert all(held == name.startswith("val/") for name, held in sides_of(grown).items())
    assert len(updated(Store(tmp_path / "sets/two"), path, Split(0.1)).split("val")) == 4 + 2


def test_a_bad_new_image_leaves_the_set_as_it_was(tmp_path):
    path = write_files(tmp_path / "in", FIRST)
    store = prepared(folder("set", path, Split()), tmp_path / "sets")
    (path / "bad.png").write_bytes(b"bad")
    with pytest.raises(InputError, match=r"'bad\.png'"):
        updated(store, path)
    assert Store(tmp_path / "sets/set").digest == store.digest
    assert len(updated(store, path, skip_bad=True)) == 40


def test_a_set_from_before_is_to_be_prepared_again(tmp_path):
    store = prepared(folder("set", write_files(tmp_path / "in", FIRST), Split()), tmp_path / "sets")
    del store.manifest["files"]["hashes.npy"]
    with pytest.raises(InputError, match="of an older version: prepare it again"):
        updated(store, tmp_path / "in")


def test_labels_are_not_dropped_unless_that_is_asked(tmp_path):
    store = labelled(tmp_path, "one", 1, ("hat", "age"))
    with pytest.raises(InputError, match="labels that the new images lack: 'age', 'hat'"):
        updated(store, tmp_path / "one")
    assert Store(store.path).attributes == ("hat", "age")
    assert updated(store, tmp_path / "one", drop_labels=True).attributes == ()


def test_files_of_which_a_set_has_none_are_no_update_of_it(tmp_path):
    store = prepared(folder("set", write_files(tmp_path / "in", FIRST), Split()), tmp_path / "sets")
    others = write_files(tmp_path / "others", noise_files(4, seed=1))
    with pytest.raises(InputError, match="none of these files is one that set was made of"):
        updated(store, others)
    assert Store(store.path).digest == store.digest


@pytest.mark.parametrize("codec", ["raw", "png", "jpeg"])
def test_an_update_keeps_the_codec(tmp_path, codec):
    path = write_files(tmp_path / "in", noise_files(2, size=256))
    store = prepared(folder("set", path, Split()), tmp_path / "sets", codec=codec)
    write_files(path, {"new.png": encoded(noise(9, 256, 256))})
    grown = updated(store, path)
    assert grown.manifest["codecs"] == store.manifest["codecs"]
    grown.verify()


def test_labels_that_stay_are_named_where_others_would_be_lost(tmp_path):
    store = labelled(tmp_path, "one", 1, ("hat", "age", "glasses"))
    fewer = tmp_path / "fewer.csv"
    rows = (tmp_path / "one.csv").read_text().splitlines()
    fewer.write_text("\n".join(row.rpartition(",")[0].rpartition(",")[0] for row in rows))
    with pytest.raises(
        InputError, match=r"lack: 'age', 'glasses'; give .*, or --attributes hat to"
    ):
        updated(store, tmp_path / "one", labels=fewer)
    fewer.write_text("\n".join(rows).replace("age", "sage"))
    with pytest.raises(InputError, match=r"lack: 'age'; give .*, or --attributes hat,glasses to"):
        updated(store, tmp_path / "one", labels=fewer)
    with pytest.raises(InputError, match=r"'age', 'glasses', 'hat'; give --labels FILE with them$"):
        updated(store, tmp_path / "one")
    assert Store(store.path).digest == store.digest


@pytest.mark.parametrize("out", ["out", "out.zip"])
def test_an_exported_set_prepares_to_the_same(tmp_path, out):
    store = labelled(tmp_path, "one", 1, ("hat", "age"))
    said: list[str] = []
    growing.export(store, tmp_path / out, said.append)
    lost = "note: StyleGAN's dataset.json has numbers in the place of 'hat', 'age': export to a "
    assert said == [lost + "folder to keep names of labels"] * (out == "out.zip")
    csv = tmp_path / "out" / "labels.csv" if out == "out" else None
    again = prepared(folder("again", tmp_path / out, Split(), csv), tmp_path / "sets")

    def content(of: Store):
        pixels = of.get_many(np.arange(len(of)), 32)
        held = {*of.split("val").tolist()}
        rows = zip(pixels, of.labels.tolist(), strict=True)
        return {p.tobytes(): (labels, i in held) for i, (p, labels) in enumerate(rows)}

    assert content(again) == content(store)
    (tmp_path / "nowhere").symlink_to("gone")
    for there in (out, "nowhere"):
        with pytest.raises(InputError, match="exists: give another path"):
            growing.export(store, tmp_path / there)


def test_what_comes_to_be_during_an_export_is_not_replaced(tmp_path, monkeypatch):
    store = labelled(tmp_path, "one", 1, ("hat", "age"))
    png = growing._png

    def meanwhile(*which):
        (tmp_path / "out.zip").write_text("another's")
        return png(*which)

    monkeypatch.setattr(growing, "_png", meanwhile)
    with pytest.raises(InputError, match=r"out\.zip came to be meanwhile: give another path"):
        growing.export(store, tmp_path / "out.zip")
    assert (tmp_path / "out.zip").read_text() == "another's"


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        (("label0", "label1"), True),  # no classes: an image has both or none
        (("class0", "class1"), False),
        (("label1", "label0"), False),
        ((), True),
    ],
)
def test_an_export_is_silent_where_a_zip_prepares_to_the_same_names(tmp_path, columns, kept):
    store = labelled(tmp_path, "one", 1, columns or ("a",))
    store.labels[:] = store.labels[:, :1]
    store.attributes = columns
    said: list[str] = []
    growing.export(store, tmp_path / "out.zip", said.append)
    assert (said == []) is kept


def test_an_exported_zip_has_style_gan_s_classes_or_none(tmp_path):
    files = {f"{'ab'[i % 2]}/{i}.png": encoded(noise(i, 8, 8)) for i in range(10)}
    store = prepared(folder("set", write_files(tmp_path / "in", files), Split()), tmp_path / "sets")
    growing.export(store, tmp_path / "classes.zip")
    plain = prepared(
        folder("plain", write_files(tmp_path / "p", FIRST), Split()), tmp_path / "sets"
    )
    growing.export(plain, tmp_path / "plain.zip")
    with zipfile.ZipFile(tmp_path / "classes.zip") as archive:
        said = dict(json.loads(archive.read("dataset.json"))["labels"])
        assert {*said} == {*archive.namelist()} - {"dataset.json"}
        assert all(number == "ab".index(name.split("/")[1][0]) for name, number in said.items())
    with zipfile.ZipFile(tmp_path / "plain.zip") as archive:
        assert json.loads(archive.read("dataset.json")) == {"labels": None}


@pytest.mark.parametrize("out", ["out", "out.zip"])
def test_an_export_of_a_set_that_holds_nothing_out_says_how_to_prepare_it_so_again(tmp_path, out):
    path = write_files(tmp_path / "in", FIRST)
    store = prepared(folder("set", path, Split(0)), tmp_path / "sets")
    said: list[str] = []
    growing.export(store, tmp_path / out, said.append)
    assert [line.endswith(f"{out} with --val-fraction 0 for the same") for line in said] == [True]
    again = prepared(folder("again", tmp_path / out, Split(0)), tmp_path / "sets")
    assert (len(again), len(again.split("val"))) == (40, 0)


def test_names_that_would_fall_together_are_kept_apart(tmp_path):
    names = ("a/b.png", "a-2.png", "a.jpg", "a.png", "a_b.png", "b.png")
    files = {name: encoded(noise(i, 8, 8)) for i, name in enumerate(names)}
    path = write_files(tmp_path / "in", files)
    store = prepared(folder("set", path, Split(0)), tmp_path / "sets")
    growing.export(store, tmp_path / "out")
    found = {file.name: np.asarray(Image.open(file)) for file in tmp_path.glob("out/train/*")}
    assert len(found) == 6
    for name, image in (("a-2.png", 1), ("a.png", 2), ("a-3.png", 3), ("b.png", 5)):
        np.testing.assert_array_equal(found[name], noise(image, 8, 8))


def test_an_export_to_where_nothing_may_be_written_is_one_line(tmp_path, monkeypatch):
    store = prepared(folder("set", write_files(tmp_path / "in", FIRST), Split()), tmp_path / "sets")
    monkeypatch.setattr("pgvae.data.growing.os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="cannot write to"):
        growing.export(store, tmp_path / "out")
