"""`pgvae data` as a user meets it: exit codes, one line for each error, help with examples."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from commands import refusal
from PIL import Image

from pgvae.cli.data import data
from pgvae.data import Store
from pgvae.data.recipes import RECIPES

# prepare


def test_a_path_and_the_recipe_folder_are_the_same(run, place):
    code, out, err = run("prepare", "photos", "--val-fraction", 0.34)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "datasets/photos: 6 images (4 train, 2 val) at 4 to 32 px"
    words = ("--source", "photos", "--name", "two", "--val-fraction", 0.34)
    assert run("prepare", "folder", *words)[0] == 0
    one, two = (Store(place / "datasets" / name) for name in ("photos", "two"))
    assert one.digest == two.digest
    about = {"recipe": "folder", "asked": {"val_fraction": 0.34}}
    assert one.manifest["about"] == two.manifest["about"] == about


def test_options_reach_the_set(run, place):
    code, out, _ = run(
        *("prepare", "photos", "--name", "mine", "--resolution", 16, "--labels", "labels.csv"),
        *("--attributes", "glasses", "--split-by", "person", "--grayscale", "--crop", "pad"),
        *("--seed", 3, "--count", 5, "--val-fraction", 0.3, "--workers", 0),
    )
    assert code == 0
    assert out.splitlines()[-1].endswith("at 4 to 16 px, labels glasses")
    store = Store(place / "datasets/mine")
    assert (len(store), store.channels, store.resolutions) == (5, 1, (4, 8, 16))
    assert store.labels[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert {i % 3 for i in store.split("val")}.isdisjoint({i % 3 for i in store.split("train")})
    assert (store.manifest["crop"], store.manifest["seed"]) == ("pad", 3)


def test_what_is_no_label_is_said_before_the_set(run, place):
    rows = [f"{i};picture-{i:03d}.png;{'yes' if i % 2 else 'no'};p{i}" for i in range(6)]
    (place / "excel.csv").write_text("\n".join([";file;glasses;person", *rows]) + "\n;;;\n")
    code, out, _ = run("prepare", "photos", "--labels", "excel.csv")
    assert code == 0
    *said, last = out.splitlines()
    assert last.endswith("labels glasses")
    assert [line.partition(":")[0] for line in said] == ["warning", "warning"]
    assert "'person'" in said[0]
    assert "without a name" in said[1]


def test_avatars_are_prepared_at_their_own_size(run, place):
    pytest.importorskip("python_avatars")
    code, out, _ = run("prepare", "avatars", "--count", 8)
    assert code == 0
    assert "8 images" in out
    assert out.splitlines()[-1].endswith("at 4 to 64 px, labels glasses, facial_hair, hat")
    assert Store(place / "datasets/avatars").manifest["about"] == {"recipe": "avatars"}


def test_an_existing_name_needs_force(run, place, capsys):
    assert run("prepare", "photos")[0] == 0
    assert "exists: use --force" in refusal(capsys, place, ["data", "prepare", "photos"])
    assert run("prepare", "photos", "--force")[0] == 0


def test_bad_images_are_refused_or_skipped(run, place, capsys):
    whole = (place / "photos/picture-002.png").read_bytes()
    (place / "photos/picture-002.png").write_bytes(whole[: len(whole) // 2])
    (place / "photos/z.png").write_bytes(b"")
    words = ["data", "prepare", "photos"]
    message = refusal(capsys, place, words)
    assert "'picture-002.png'" in message
    assert "--skip-bad" in message
    message = refusal(capsys, place, [*words, "--skip-bad", "--max-bad", 1])
    assert "more than 1" in message
    assert "'z.png'" in message
    code, out, err = run("prepare", "photos", "--skip-bad", "--max-bad", 2)
    assert (code, err) == (0, "")
    assert "2 images left out: see rejects.jsonl" in out
    rejects = (place / "datasets/photos/rejects.jsonl").read_text().splitlines()
    assert [json.loads(r)["name"] for r in rejects] == ["picture-002.png", "z.png"]


REFUSED = [
    ("prepare", ["RECIPE|PATH"]),
    ("prepare no/photos", ["nearest that exists is"]),
    ("prepare empty", ["holds no images"]),
    ("prepare notes.txt", ["neither a folder nor a zip"]),
    ("prepare odd", ["new\\nline.png", "empty file"]),
    ("prepare photos --labels no.csv", ["no.csv cannot be read"]),
    ("prepare photos --labels few.csv", ["labels are missing for 'picture-001.png'"]),
    ("prepare photos --labels labels.csv --attributes glases", ["did you mean 'glasses'"]),
    ("prepare photos --attributes ,", ["--attributes", "','"]),
    ("prepare photos --attributes glasses", ["--attributes glasses: no labels are given"]),
    ("prepare photos --source empty", ["'photos' is no recipe", "no --source"]),
    ("prepare photos --labels gaps.csv", ["label 'glasses' is empty for 'picture-001.png'"]),
    ("prepare photos --split-by person", ["--split-by person", "no such column"]),
    ("prepare photos --data-root notes.txt", ["cannot write to"]),
    ("prepare photos --resolution 100", ["use 64 or 128"]),
    ("prepare photos --resolution 0", ["from 4 to 1024"]),
    ("prepare photos --resolution 64", ["below the resolution 64", "--upscale"]),
    ("prepare photos --resolution big", ["--resolution"]),
    ("prepare photos --val-fraction 1", ["val fraction"]),
    ("prepare photos --val-fraction nan", ["val fraction"]),
    ("prepare photos --name ../out", ["cannot be the name"]),
    ("prepare photos --count 0", ["--count"]),
    ("prepare photos --crop circle", ["center", "celeba", "pad"]),
    ("prepare photos --codec gif", ["webp", "jpeg"]),
    ("prepare photos --rezolution 4", ["--rezolution", "--resolution"]),
    ("prepare folder", ["recipe folder needs its images", "--source FOLDER_OR_ZIP --name NAME"]),
    ("prepare celebahq", ["celebahq needs its images", "--source FOLDER_OR_ZIP"]),
    ("prepare celeba --source photos", ["no list_attr_celeba.txt"]),
    ("prepare celeba --source photos --split-by person", ["celeba takes no --split-by: leave it"]),
    ("prepare celebahq --source photos --attributes a", ["celebahq takes no --attributes"]),
    ("prepare avatars --labels labels.csv", ["recipe avatars takes no --labels: leave it out"]),
    ("prepare photos --split-protocol introvae", ["recipe photos takes no --split-protocol"]),
    ("prepare mnist --source photos --val-fraction 0", ["mnist takes no --val-fraction"]),
    ("prepare photos --max-bad 0", ["--max-bad 0 is of --skip-bad: give both, or leave it out"]),
    ("update tiny photos --max-bad 3", ["--max-bad 3 is of --skip-bad"]),
    ("info teeny", ["no prepared set 'teeny'", "there is tiny"]),
    ("verify teeny", ["no prepared set 'teeny'"]),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=[a for a, _ in REFUSED])
def test_bad_input_is_one_line_and_exit_code_2(place, capsys, arguments, words):
    message = refusal(capsys, place, ["data", *arguments.split()])
    for word in words:
        assert word in message


def test_an_empty_path_is_not_the_working_folder(place, capsys):
    message = refusal(capsys, place, ["data", "prepare", "", "--name", "x"])
    assert "RECIPE|PATH is empty: give a recipe or a path" in message


def test_where_no_more_threads_may_be_started_it_is_said(run, place, monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    code, _, err = run("prepare", "photos", "--workers", 0)
    assert code == 4, err
    assert err.splitlines()[-1].startswith("error: no more threads may be started: raise the limit")


# info, list, verify


def test_info_says_what_is_in_a_set(run, place):
    (place / "photos/wrong.png").write_bytes(b"")
    shutil.copy(place / "photos/picture-000.png", place / "photos/picture-005.png")
    with (place / "labels.csv").open("a") as file:
        file.write("wrong,0,p1\n")
    run("prepare", "photos", "--labels", "labels.csv", "--skip-bad")
    for name in ("photos", place / "datasets/photos"):
        code, out, err = run("info", name)
        assert (code, err) == (0, "")
        lines = [line.split() for line in out.splitlines()]
        assert Store(place / "datasets/photos").digest[:16] in out
        assert ["images", "6:", "5", "train,", "1", "val"] in lines
        assert [line[0] for line in lines if line[1:2] == ["px"]] == ["4", "8", "16", "32"]
        counts = "mean 2.500; train 4 yes, 1 no, val 1 yes, 0 no"
        assert ["label", "glasses:", *counts.split()] in lines
        assert "1 of val nearly the same as one of train: picture-000.png ~ picture-005.png" in out
        assert ["duplicates", "1"] in lines
        assert ["left", "out", "1"] in lines
        assert ["wrong.png:", "empty", "file"] in lines


def test_show_draws_a_picture_and_names_what_is_similar(run, place):
    code, out, err = run("show", "tiny")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("tiny.png: 24 images, 0 of val nearly the same")
    with Image.open(place / "tiny.png") as picture:
        assert picture.format == "PNG"
    for i in range(1, 6):
        shutil.copy(place / "photos/picture-000.png", place / f"photos/picture-00{i}.png")
    said = run("prepare", "photos", "--val-fraction", 0.34)[1]
    assert "nearly the same as one of train" in said
    out = run("show", "photos", "--out", "two.png")[1]
    assert "nearly the same: picture-00" in out
    assert (place / "two.png").is_file()
    assert run("show", "photos", "--out", "no/where.png")[0] == 2
    code, _, err = run("show", "photos", "--out", "two.jpg")
    assert (code, err) == (2, "error: --out two.jpg: it is a PNG; end it in .png\n")


def test_a_label_that_divides_the_set_and_a_split_of_nothing_are_told(run, place):
    rows = [f"picture-{i:03d},{i % 2},1,{i / 2}" for i in range(6)]
    (place / "two.csv").write_text("\n".join(["name,glasses,all,age", *rows]))
    labels = ("prepare", "photos", "--labels", "two.csv", "--workers", 0)
    nothing = "no image is held out, so there are no figures"
    said = run(*labels, "--split-by", "glasses")[1]
    assert "no label: 'glasses'; or name it in --attributes" in said
    assert said.rstrip().endswith("labels all, age")
    assert nothing not in said
    said = run(*labels, "--split-by", "all", "--force", "--attributes", "all,age")[1]
    assert f"warning: 'all' divides nothing; {nothing}" in said
    assert "is no label" not in said
    assert nothing not in run(*labels, "--val-fraction", 0, "--force")[1]


def test_an_update_takes_the_labels_of_before_again(run, place):
    labelled = ("--labels", "labels.csv", "--attributes", "glasses", "--workers", 0)
    assert run("prepare", "photos", *labelled)[0] == 0
    (place / "photos/picture-000.png").unlink()
    labels = (place / "labels.csv").read_text()
    (place / "labels.csv").write_text(labels.replace("picture-000,0,p0\n", ""))
    for _ in range(2):
        code, _, err = run("update", "photos", "photos", "--workers", 0)
        assert (code, err) == (0, "")
        store = Store("datasets/photos")
        assert (store.attributes, store.labels[:, 0].tolist()) == (("glasses",), [1, 2, 3, 4, 5])


def test_an_update_drops_labels_only_where_those_that_stay_are_named(run, place):
    rows = [f"picture-{i:03d},{i % 2},{i / 2}" for i in range(6)]
    (place / "two.csv").write_text("\n".join(["name,glasses,age", *rows]))
    assert run("prepare", "photos", "--labels", "two.csv")[0] == 0
    code, _, err = run("update", "photos", "photos", "--labels", "labels.csv")
    assert code == 2
    assert "photos has labels that the new images lack: 'age'; give --labels FILE with them" in err
    assert "--attributes glasses" in err
    assert Store("datasets/photos").attributes == ("glasses", "age")
    chosen = ("--labels", "labels.csv", "--attributes", "glasses")
    assert run("update", "photos", "photos", *chosen)[0] == 0
    assert Store("datasets/photos").attributes == ("glasses",)


def test_an_export_to_a_zip_says_that_names_of_labels_are_lost(run, place):
    assert run("prepare", "photos", "--labels", "labels.csv")[0] == 0
    code, out, _ = run("export", "photos", "out.zip")
    assert code == 0
    assert out.startswith("note: StyleGAN's dataset.json has numbers in the place of 'glasses'")
    assert run("export", "photos", "out")[1].startswith("out: 6 images")


def test_verify_says_that_a_set_is_whole(run, place):
    assert run("verify", "tiny") == (0, "tiny: 24 images at 4 sizes are whole\n", "")


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda path: halve(path / "0008/data.mdb"), 3, "0008/data.mdb is truncated or missing"),
        (lambda path: (path / "manifest.json").write_text("{"), 3, "cannot be read"),
        (lambda path: (path / "manifest.json").write_text('{"format": 7}'), 2, "data format 7"),
        (lambda path: (path / "manifest.json").unlink(), 3, "manifest.json is gone"),
        (shutil.rmtree, 2, "no prepared set 'tiny' in datasets: there is nothing"),
    ],
)
def test_a_set_that_cannot_be_opened_is_one_line(place, capsys, command, spoil, code, words):
    spoil(place / "datasets/tiny")
    assert words in refusal(capsys, place, ["data", command, "tiny"], code)


def test_verify_of_a_damaged_set_is_exit_code_3_with_the_key(place, capsys):
    file = place / "datasets/tiny/0016/data.mdb"
    pixels = Store(place / "datasets/tiny").get(3, 16).tobytes()
    file.write_bytes(file.read_bytes().replace(pixels, bytes([pixels[0] ^ 1]) + pixels[1:]))
    message = refusal(capsys, place, ["data", "verify", "tiny"], code=3)
    assert "image 3 (key 00000003) at 16 px" in message
    assert "prepare the set again" in message


def test_list_shows_every_set_and_which_cannot_be_used(run, place):
    assert run("list", "--data-root", "none") == (0, "nothing is prepared in none\n", "")
    run("prepare", "photos")
    for name in ("broken", "half.tmp"):
        shutil.copytree(place / "datasets/tiny", place / "datasets" / name)
    (place / "datasets/broken/labels.npy").write_bytes(b"")
    code, out, err = run("list")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines] == ["broken", "photos", "tiny"]
    assert lines[0][1] == "unusable:"
    assert lines[1][1:] == ["6", "images", "up", "to", "32", "px"]


# Help


@pytest.mark.parametrize("command", ["prepare", "info", "verify", "list"])
def test_help_has_defaults_and_an_example_that_parses(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"pgvae data {command}" in out.split("Example", 1)[1]
    assert "[default: datasets]" in " ".join(out.split())
    assert f"\n  {command} " in run("--help")[1]


def test_help_of_prepare_explains_every_option_and_recipe(run):
    text = " ".join(run("prepare", "--help")[1].split())
    for default in (
        "default: webp",
        "what the set says, else 0.05",
        "10000 at 64 px",
        "one for each CPU core",
    ):
        assert default in text
    options = [p for p in data.commands["prepare"].params if p.param_type_name == "option"]
    assert len(options) >= 19
    for option in options:
        assert option.opts[-1] in text
        assert option.help
    for name, entry in RECIPES.items():
        assert f"{name} ({entry.about})" in text.replace("CelebA- HQ", "CelebA-HQ")


def test_a_labels_file_that_is_a_pipe_is_not_waited_for(rejected, desk):
    os.mkfifo(desk / "pipe")
    (desk / "photos").mkdir()
    shutil.copy(desk / "a.png", desk / "photos")
    words = ("data", "prepare", "photos", "--labels", "pipe")
    assert "labels file pipe cannot be read: it is no file; give --labels FILE" in rejected(*words)
