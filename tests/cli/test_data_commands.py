"""`pgvae data` as a user meets it: exit codes, one line for each error, help with examples."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from pgvae.cli import main
from pgvae.cli.data import data
from pgvae.data import Store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`pgvae data ...` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["data", *map(str, arguments)])
        out = capsys.readouterr()
        return caught.value.code, out.out, out.err

    return call


@pytest.fixture
def photos(tmp_path: Path, pictures: Path) -> Path:
    """A folder of six pictures of 32 px, to spoil."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for file in sorted(pictures.iterdir())[:6]:
        shutil.copy(file, folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "datasets"


def labels(folder: Path, rows: Sequence[str], header: str = "name,g") -> Path:
    file = folder.parent / "labels.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def assert_one_line(code: int, err: str, expected_code: int, *parts: str) -> None:
    assert code == expected_code, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err


# prepare


def test_a_folder_is_prepared_and_said(run, photos, root):
    code, out, err = run("prepare", photos, "--data-root", root, "--val-fraction", 0.34)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == (f"{root}/photos: 6 images (4 train, 2 val) at 4 to 32 px")
    assert len(Store(root / "photos")) == 6


def test_options_reach_the_set(run, photos, root):
    rows = [f"picture-{i:03d},{i},p{i % 3}" for i in range(6)]
    file = labels(photos, rows, "name,age,person")
    code, out, _ = run(
        *("prepare", photos, "--data-root", root, "--name", "mine", "--resolution", 16),
        *("--labels", file, "--attributes", "age", "--split-by", "person", "--grayscale"),
        *("--crop", "pad", "--seed", 3, "--count", 5, "--val-fraction", 0.3, "--workers", 0),
    )
    assert code == 0
    assert out.splitlines()[-1].endswith("at 4 to 16 px, labels age")
    store = Store(root / "mine")
    assert (len(store), store.channels, store.resolutions) == (5, 1, (4, 8, 16))
    assert store.labels[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert {i % 3 for i in store.split("val")}.isdisjoint({i % 3 for i in store.split("train")})
    assert (store.manifest["crop"], store.manifest["seed"]) == ("pad", 3)


def test_a_path_and_the_recipe_folder_are_the_same(run, photos, root):
    assert run("prepare", photos, "--data-root", root, "--name", "one")[0] == 0
    arguments = ("--source", photos, "--data-root", root, "--name", "two")
    assert run("prepare", "folder", *arguments)[0] == 0
    assert Store(root / "one").digest == Store(root / "two").digest


def test_avatars_are_prepared(run, root):
    pytest.importorskip("python_avatars")
    code, out, _ = run(
        *("prepare", "avatars", "--resolution", 16, "--count", 8, "--data-root", root)
    )
    assert code == 0
    assert "8 images" in out
    assert out.splitlines()[-1].endswith("labels glasses, facial_hair, hat")


def test_an_existing_name_needs_force(run, photos, root):
    assert run("prepare", photos, "--data-root", root)[0] == 0
    code, _, err = run("prepare", photos, "--data-root", root)
    assert_one_line(code, err, 2, "exists: use --force")
    assert run("prepare", photos, "--data-root", root, "--force")[0] == 0


def test_a_bad_image_is_refused_or_skipped(run, photos, root):
    whole = (photos / "picture-002.png").read_bytes()
    (photos / "picture-002.png").write_bytes(whole[: len(whole) // 2])
    code, _, err = run("prepare", photos, "--data-root", root)
    assert_one_line(code, err, 2, "'picture-002.png'", "--skip-bad")
    assert not (root / "photos").exists()
    (photos / "z.png").write_bytes(b"")
    arguments = ("prepare", photos, "--data-root", root, "--skip-bad")
    code, _, err = run(*arguments, "--max-bad", 1)
    assert_one_line(code, err, 2, "more than 1", "'z.png'")
    code, out, err = run(*arguments, "--max-bad", 2)
    assert (code, err) == (0, "")
    assert "2 images left out: see rejects.jsonl" in out
    rejects = (root / "photos/rejects.jsonl").read_text().splitlines()
    assert [json.loads(r)["name"] for r in rejects] == ["picture-002.png", "z.png"]


def test_one_image_is_prepared_with_a_warning(run, tmp_path, pictures, root):
    (tmp_path / "one").mkdir()
    shutil.copy(pictures / "picture-000.png", tmp_path / "one")
    code, out, _ = run("prepare", tmp_path / "one", "--data-root", root)
    assert code == 0
    assert "warning: one image only" in out


def missing_path(photos):
    return [photos.parent / "no" / "photos"], ["nearest that exists is", str(photos.parent)]


def empty_folder(photos):
    (photos.parent / "empty").mkdir()
    return [photos.parent / "empty"], ["holds no images"]


def a_text(photos):
    (photos / "notes.txt").write_text("text")
    return [photos / "notes.txt"], ["neither a folder nor a zip"]


def eps_named_png(photos):
    out = io.BytesIO()
    Image.new("RGB", (32, 32)).save(out, "EPS")
    (photos / "drawing.png").write_bytes(out.getvalue())
    return [photos], ["'drawing.png'", "not a PNG, JPEG, WebP or BMP"]


def newline_in_name(photos):
    (photos / "new\nline.png").write_bytes(b"")
    return [photos], ["new\\nline.png", "empty file"]


def missing_labels(photos):
    return [photos, "--labels", labels(photos, ["picture-000,1"])], [
        "labels are missing for 'picture-001.png'"
    ]


def extra_labels(photos):
    rows = [f"picture-{i:03d},1" for i in range(9)]
    return [photos, "--labels", labels(photos, rows)], ["not there: 'picture-006'"]


def nan_labels(photos):
    rows = [f"picture-{i:03d},{'nan' if i == 4 else 1}" for i in range(6)]
    return [photos, "--labels", labels(photos, rows)], ["NaN", "'picture-004.png'"]


def unknown_attribute(photos):
    rows = [f"picture-{i:03d},1" for i in range(6)]
    file = labels(photos, rows, "name,glasses")
    return [photos, "--labels", file, "--attributes", "glases"], ["did you mean 'glasses'"]


def unknown_group(photos):
    return [photos, "--split-by", "person"], ["--split-by person", "no such column"]


def root_is_a_file(photos):
    (photos.parent / "datasets").write_text("")
    return [photos], ["cannot write to"]


@pytest.mark.parametrize(
    "case",
    [
        missing_path,
        empty_folder,
        a_text,
        eps_named_png,
        newline_in_name,
        missing_labels,
        extra_labels,
        nan_labels,
        unknown_attribute,
        unknown_group,
        root_is_a_file,
        lambda p: ([p, "--labels", p.parent / "no.csv"], ["no.csv cannot be read"]),
        lambda p: ([p, "--resolution", 100], ["use 64 or 128"]),
        lambda p: ([p, "--resolution", 0], ["from 4 to 1024"]),
        lambda p: ([p, "--resolution", 64], ["below the resolution 64", "--upscale"]),
        lambda p: ([p, "--resolution", "big"], ["--resolution"]),
        lambda p: ([p, "--val-fraction", 1], ["val fraction"]),
        lambda p: ([p, "--val-fraction", "nan"], ["val fraction"]),
        lambda p: ([p, "--name", "../out"], ["cannot be the name"]),
        lambda p: ([p, "--count", 0], ["--count"]),
        lambda p: ([p, "--crop", "circle"], ["center", "celeba", "pad"]),
        lambda p: ([p, "--codec", "gif"], ["webp", "jpeg"]),
        lambda p: ([p, "--rezolution", 4], ["--rezolution", "--resolution"]),
        lambda p: (["celebahq"], ["celebahq needs its images", "--source FOLDER_OR_ZIP"]),
        lambda p: (["celeba", "--source", p], ["no list_attr_celeba.txt"]),
        lambda p: ([], ["RECIPE|PATH"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, photos, root, case):
    arguments, parts = case(photos)
    code, _, err = run("prepare", *arguments, "--data-root", root)
    assert_one_line(code, err, 2, *parts)
    if root.is_dir():
        assert [p.name for p in root.iterdir() if not p.name.endswith(".lock")] == []


# info, list, verify


@pytest.fixture
def prepared_root(data_root: Path, tmp_path: Path) -> Path:
    """A data root with `tiny`, to damage."""
    shutil.copytree(data_root / "tiny", tmp_path / "root" / "tiny")
    return tmp_path / "root"


def damage(root: Path, index: int = 3) -> None:
    store = Store(root / "tiny")
    pixels = store.get(index, 16).tobytes()
    file = root / "tiny/0016/data.mdb"
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(pixels)] ^= 1
    file.write_bytes(damaged)


def test_info_says_what_is_in_a_set(run, photos, root):
    rows = [f"picture-{i:03d},{i}" for i in range(6)]
    (photos / "wrong.png").write_bytes(b"")
    shutil.copy(photos / "picture-000.png", photos / "picture-005.png")
    (photos.parent / "labels.csv").write_text("\n".join(["name,age", *rows, "wrong,0"]))
    file = photos.parent / "labels.csv"
    run("prepare", photos, "--data-root", root, "--labels", file, "--skip-bad")
    for name in ("photos", root / "photos"):
        code, out, err = run("info", name, "--data-root", root)
        assert (code, err) == (0, "")
        lines = [line.split() for line in out.splitlines()]
        assert Store(root / "photos").digest[:16] in out
        assert ["images", "6:", "5", "train,", "1", "val"] in lines
        assert [line[0] for line in lines if line[1:2] == ["px"]] == ["4", "8", "16", "32"]
        assert ["label", "age:", "mean", "2.500"] in lines
        assert ["duplicates", "1"] in lines
        assert ["left", "out", "1"] in lines
        assert ["wrong.png:", "empty", "file"] in lines


def test_verify_says_that_a_set_is_whole(run, prepared_root):
    code, out, err = run("verify", "tiny", "--data-root", prepared_root)
    assert (code, out, err) == (0, "tiny: 24 images at 4 sizes are whole\n", "")


def test_verify_of_a_damaged_set_is_exit_code_3_with_the_key(run, prepared_root):
    damage(prepared_root)
    code, _, err = run("verify", "tiny", "--data-root", prepared_root)
    assert_one_line(code, err, 3, "image 3 (key 00000003) at 16 px", "prepare the set again")


@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize(
    ("spoil", "expected_code", "part"),
    [
        (lambda path: (path / "0008/data.mdb").write_bytes(b""), 3, "truncated or missing"),
        (lambda path: (path / "manifest.json").write_text("{"), 3, "cannot be read"),
        (lambda path: (path / "manifest.json").write_text('{"format": 7}'), 2, "data format 7"),
        (lambda path: (path / "manifest.json").unlink(), 2, "half-prepared"),
        (shutil.rmtree, 2, "no prepared set 'tiny'"),
    ],
)
def test_a_set_that_cannot_be_opened_is_one_line(
    run, prepared_root, command, spoil, expected_code, part
):
    spoil(prepared_root / "tiny")
    code, _, err = run(command, "tiny", "--data-root", prepared_root)
    assert_one_line(code, err, expected_code, part)


def test_an_unknown_set_names_those_there_are(run, prepared_root):
    code, _, err = run("info", "teeny", "--data-root", prepared_root)
    assert_one_line(code, err, 2, "'teeny'", "there is tiny")


def test_list_shows_every_set_and_which_cannot_be_used(run, prepared_root, photos):
    run("prepare", photos, "--data-root", prepared_root)
    shutil.copytree(prepared_root / "tiny", prepared_root / "broken")
    (prepared_root / "broken/labels.npy").write_bytes(b"")
    shutil.copytree(prepared_root / "tiny", prepared_root / "half.tmp")
    code, out, err = run("list", "--data-root", prepared_root)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines] == ["broken", "photos", "tiny"]
    assert lines[0][1] == "unusable:"
    assert lines[1][1:] == ["6", "images", "up", "to", "32", "px"]


def test_list_of_nothing_says_so(run, tmp_path):
    code, out, _ = run("list", "--data-root", tmp_path / "none")
    assert (code, out) == (0, f"nothing is prepared in {tmp_path / 'none'}\n")


# Help


@pytest.mark.parametrize("command", ["prepare", "info", "verify", "list"])
def test_help_has_defaults_and_an_example_that_parses(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"pgvae data {command}" in out.split("Example", 1)[1]
    assert "[default: datasets]" in " ".join(out.split())


def test_help_of_prepare_explains_every_option(run):
    _, out, _ = run("prepare", "--help")
    text = " ".join(out.split())
    for default in ("default: webp", "default: 0.05", "avatars: 10000", "one for each CPU core"):
        assert default in text
    options = [p for p in data.commands["prepare"].params if p.param_type_name == "option"]
    assert len(options) >= 19
    for option in options:
        assert option.opts[-1] in text
        assert option.help


def test_help_of_the_group_lists_its_commands(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("prepare", "info", "verify", "list"):
        assert f"\n  {command} " in out
