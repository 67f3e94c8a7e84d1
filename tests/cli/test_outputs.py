"""Where the commands write what they are asked for, and what they leave alone there."""

import os
import shutil

import pytest

WRITES = {  # what each writes, in the place of OUT
    "page": "report run --no-interpolation --out OUT",
    "figures": "evaluate --snapshot s.safetensors --dataset tiny --metrics mse --json OUT",
    "picture": "data show tiny --out OUT",
}
EVERY = pytest.mark.parametrize("words", WRITES.values(), ids=WRITES)


@pytest.fixture
def run(desk, finished):
    """The finished run, on the desk."""
    (desk / "run").mkdir()
    for file in finished.iterdir():
        if file.is_file():
            (desk / "run" / file.name).write_bytes(file.read_bytes())
    return desk / "run"


@EVERY
@pytest.mark.parametrize(
    "own",
    [
        *("run/config.json", "run/request.json", "run/stats.jsonl", "run/reals.png"),
        *("run/snapshot-000000096.safetensors", "s.safetensors", "a.png"),
        *("datasets/tiny/manifest.json", "datasets/tiny/0004/data.mdb"),
    ],
)
def test_a_file_that_the_command_did_not_write_is_not_replaced(words, own, run, rejected):
    said = rejected(*words.replace("OUT", own).split())
    assert said == (
        f"error: {own} is there already and was not written by this command: give another file"
    )


@EVERY
def test_what_the_command_wrote_before_is_replaced(words, run, desk, run_pgvae):
    out = desk / "o"
    out.touch()  # as mktemp makes it
    assert run_pgvae(*words.replace("OUT", "o").split()) == 0
    first = out.stat().st_ino
    assert run_pgvae(*words.replace("OUT", "o").split()) == 0
    assert out.stat().st_ino != first


@EVERY
@pytest.mark.parametrize(
    ("out", "said"),
    [
        (".", ". is a folder: give a file"),
        ("", "it is empty: give a path, or leave the option out"),
        ("pipe", "pipe is a device, a pipe or a socket: give the name of a file"),
        ("x" * 300, "File name too long; give another path"),
        ("none/o", "no such folder: none; make it, or give another file"),
    ],
)
def test_what_can_be_no_file_is_refused_in_a_line(words, out, said, run, desk, rejected):
    os.mkfifo(desk / "pipe")
    assert said in rejected(*(out if word == "OUT" else word for word in words.split()))


@pytest.mark.parametrize(
    "words",
    [
        "publish --snapshot s.safetensors --out EMPTY",
        "generate --snapshot s.safetensors --out EMPTY samples",
        "data prepare a.png --name b --labels EMPTY",
        "data info tiny --data-root EMPTY",
        "report EMPTY",
    ],
)
def test_an_empty_path_is_refused_in_a_line(words, rejected):
    assert "it is empty" in rejected(*("" if word == "EMPTY" else word for word in words.split()))


@pytest.mark.parametrize("words", ["prepare photos --data-root .", "merge tiny faces --name own"])
@pytest.mark.parametrize("also", ["", "--force"])
def test_what_is_in_the_place_of_a_set_is_never_said_to_be_replaced_by_force(
    words, also, rejected, desk
):
    for place in ("photos", "datasets/own"):
        (desk / place).mkdir()
        shutil.copy(desk / "a.png", desk / place)
    if also and "merge" in words:
        pytest.skip("merge has no --force")
    said = rejected("data", *words.split(), *also.split())
    assert "--force" not in said
    assert "use --name for another name" in said
