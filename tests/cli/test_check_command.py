"""`pgvae check`: everything is read, nothing is changed, what is damaged is named."""

import errno
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import contents

from pgvae.inference import load
from pgvae.training import check


@pytest.fixture
def run(desk, finished) -> Path:
    """A copy of a finished run, which may be damaged."""
    return Path(shutil.copytree(finished, desk / "runs" / finished.name)).relative_to(desk)


def flip(path: Path) -> None:
    """Change a byte in the middle of a file."""
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


def test_a_whole_run_is_counted_and_nothing_is_changed(run, run_pgvae, desk, capsys):
    before = contents(desk)
    assert run_pgvae("check", run) == 0
    assert contents(desk) == before
    first, *rest = capsys.readouterr().out.splitlines()
    snapshots, pictures = len([*run.glob("snapshot-*")]), len([*run.glob("*.png")])
    logs = len([*run.glob("*.json*")]) - 2  # config.json and request.json are the plan
    logs += len([*run.glob("events.*"), *run.glob("log.txt")])
    assert first == (
        f"{run}: plan 1 of 1 whole, checkpoint 2 of 2 whole, snapshot {snapshots} of {snapshots} "
        f"whole, log {logs} of {logs} whole, picture {pictures} of {pictures} whole"
    )
    assert rest == [
        f"  `python train.py --resume {run}` goes on from checkpoint-000000096",
        f"  `python generate.py --snapshot {run}/snapshot-000000096.safetensors` has the newest "
        "whole snapshot",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "request.json", "status.json", "stats.jsonl", "reals.png"),
        *("checkpoint-000000096/state.safetensors", "checkpoint-000000096/state.json"),
        "snapshot-000000096.safetensors",
    ],
)
@pytest.mark.parametrize("how", ["cut", "empty"])
def test_each_damaged_file_is_found(how, name, run, run_pgvae, capsys):
    file = run / name
    text = file.read_bytes()
    file.write_bytes(text[: len(text) // 3] if how == "cut" else b"")
    if name == "stats.jsonl":  # a last line that is cut short is dropped on --resume
        file.write_text("half a li\n" + file.read_text(errors="replace"))
    assert run_pgvae("check", run) == 3
    told = capsys.readouterr()
    assert told.err == "error: 1 damaged: see above\n"
    first = told.out.splitlines()[0]
    assert first.startswith("damaged: ")
    assert name.split("/")[0] in first


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("best.json", "[]"),
        ("best.json", '{"metric": "fid", "value": null}'),
        ("evaluation.json", '{"split": "val"}'),
        ("status.json", '{"status": "done", "images_seen": true}'),
        ("stats.jsonl", '{"images": "eight"}\n{"images": 16}\n'),
    ],
)
def test_json_that_is_not_as_we_write_it_is_found(name, text, run, run_pgvae, capsys):
    (run / name).write_text(text)
    assert run_pgvae("check", run) == 3
    assert f"damaged: {run / name} is damaged in line 1: " in capsys.readouterr().out


def test_a_description_of_a_model_that_is_none_is_found(desk, run_pgvae, capsys):
    load(desk / "s.safetensors").save_pretrained(desk / "given")
    assert run_pgvae("check", desk / "given") == 0
    (desk / "given" / "config.json").write_text("[]")
    assert run_pgvae("check", desk / "given") == 3
    assert "given/config.json is damaged in line 1: not {...} with model" in capsys.readouterr().out


def test_a_wrong_byte_in_tensorboards_file_is_found_and_an_end_cut_short_is_not_wrong(
    run, run_pgvae, capsys
):
    (file,) = run.glob("events.*")
    text = file.read_bytes()
    for cut in (len(text) - 1, len(text) // 2, 13):  # as a kill may leave it
        file.write_bytes(text[:cut])
        assert run_pgvae("check", run) == 0
    file.write_bytes(text)
    flip(file)
    capsys.readouterr()
    assert run_pgvae("check", run) == 3
    assert f"damaged: {file} is damaged: " in capsys.readouterr().out


def test_what_a_run_removes_while_it_is_read_is_not_called_damaged(
    run, run_pgvae, capsys, monkeypatch
):
    oldest = sorted(run.glob("checkpoint-*"))[0]
    whole = check.require_whole

    def removed(path: Path) -> None:
        if path.name == oldest.name:
            shutil.rmtree(path)
        whole(path)

    def deleted(path: Path) -> bool:
        if path == first:
            path.unlink()
        return sealed(path)

    first, *others = sorted(run.glob("snapshot-*"))
    sealed = check.is_sealed
    monkeypatch.setattr(check, "require_whole", removed)
    monkeypatch.setattr(check, "is_sealed", deleted)
    assert run_pgvae("check", run) == 0
    words = f"checkpoint 1 of 1 whole, snapshot {len(others)} of {len(others)} whole"
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_replaces_its_checkpoints_meanwhile_can_go_on(
    when, run, run_pgvae, capsys, monkeypatch
):
    whole, done = check.require_whole, []

    def replaced(path: Path) -> None:
        if when == "after":
            whole(path)
        if path.name < "checkpoint-000000900":
            for old in sorted(run.glob("checkpoint-*")):
                done.append(old.rename(run / f"checkpoint-{900 + len(done):09d}"))
        if when == "before":
            whole(path)

    monkeypatch.setattr(check, "require_whole", replaced)
    assert run_pgvae("check", run) == 0
    out = capsys.readouterr().out
    assert f"`python train.py --resume {run}` goes on from checkpoint-" in out
    assert "nothing to go on from" not in out


def test_a_snapshot_that_is_a_link_to_nowhere_is_found(run, run_pgvae, capsys):
    (run / "snapshot-000000200.safetensors").symlink_to("/not-mounted/x.safetensors")
    assert run_pgvae("check", run) == 3
    assert "damaged: no such snapshot: " in capsys.readouterr().out


def test_commands_that_are_proposed_can_be_pasted(run, run_pgvae, capsys):
    spaced = run.rename(run.with_name("my run"))
    assert run_pgvae("check", spaced) == 0
    for line in capsys.readouterr().out.splitlines()[1:]:
        assert shlex.split(line.split("`")[1])[3].startswith(str(spaced))


def test_what_can_still_be_used_is_told(run, run_pgvae, capsys):
    flip(run / "checkpoint-000000096" / "state.safetensors")
    flip(run / "snapshot-000000096.safetensors")
    assert run_pgvae("check", run) == 3
    told = capsys.readouterr().out
    older = sorted(p.name for p in run.glob("checkpoint-*"))[0]
    assert f"`python train.py --resume {run}` goes on from {older}" in told
    assert "snapshot-000000096.safetensors` has" not in told
    shutil.rmtree(run / older)
    assert run_pgvae("check", run) == 3
    assert "nothing to go on from: `--init-from" in capsys.readouterr().out


def test_sets_snapshots_directions_and_folders_of_all_are_checked(run, run_pgvae, desk, capsys):
    about = ("--snapshot", "s.safetensors", "--dataset", "faces", "--attribute", "glasses")
    assert run_pgvae("directions", *about) == 0
    assert run_pgvae("check", "s.safetensors", "tiny", "datasets", "runs") == 0
    told = capsys.readouterr().out
    assert "s.safetensors: snapshot 1 of 1 whole, directions 1 of 1 whole\n" in told
    assert told.count("datasets/tiny: set 1 of 1 whole\n") == 2  # by its name and in the folder
    assert "datasets/faces: set 1 of 1 whole\n" in told
    assert f"{run}: plan 1 of 1 whole" in told
    flip(desk / "directions-s.safetensors")
    assert run_pgvae("check", "s.safetensors") == 3
    assert "directions 0 of 1 whole" in capsys.readouterr().out


def test_snapshots_of_any_name_are_checked_in_a_run_and_in_a_folder(run, run_pgvae, desk, capsys):
    newest = sorted(run.glob("snapshot-*.safetensors"))[-1]
    for folder, name in (("own", "mine"), ("backup", newest.stem), ("backup/below", "mine")):
        (desk / folder).mkdir()
        shutil.copy(newest, desk / folder / f"{name}.safetensors")
    (desk / "own/other.safetensors").write_bytes(b"another program's")
    assert run_pgvae("check", "own", "backup") == 0
    told = capsys.readouterr().out
    assert "own/mine.safetensors: snapshot 1 of 1 whole" in told
    assert "note: own/other.safetensors: not looked at" in told
    assert "backup: snapshot 1 of 1 whole\n" in told
    for place in (run, Path("own"), Path("backup")):
        shutil.copy(newest, place / "mine.safetensors")
        flip(place / "mine.safetensors")
        assert run_pgvae("check", place) == 3
        assert f"damaged: {place}/mine.safetensors is damaged" in capsys.readouterr().out


def test_a_set_that_may_not_be_read_does_not_stop_the_check_of_others(
    run_pgvae, desk, capsys, monkeypatch
):
    closed = Path(shutil.copytree(desk / "datasets" / "tiny", desk / "datasets" / "closed"))

    def look(path: Path, *how: Any, stat: Callable[..., Any] = Path.stat, **more: Any) -> Any:
        if closed.name in path.parts[:-1]:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *how, **more)

    monkeypatch.setattr(Path, "stat", look)
    monkeypatch.setattr(os, "access", lambda what, mode: Path(what).name != closed.name)
    assert run_pgvae("check", "datasets") == 3
    told = capsys.readouterr().out
    assert "closed may not be read: ask its owner" in told
    assert "datasets/tiny: set 1 of 1 whole\n" in told


def test_a_published_folder_is_a_model_and_whole_until_its_file_is_damaged(desk, run_pgvae, capsys):
    assert run_pgvae("publish", "--snapshot", "s.safetensors", "--out", "given/model") == 0
    for path in ("given", "given/model"):
        capsys.readouterr()
        assert run_pgvae("check", path) == 0
        words = "given/model: snapshot 1 of 1 whole, log 1 of 1 whole, picture 1 of 1 whole\n"
        assert capsys.readouterr().out == words
    flip(desk / "given/model/model.safetensors")
    assert run_pgvae("check", "given") == 3
    assert "damaged: given/model/model.safetensors" in capsys.readouterr().out


def test_a_damaged_set_is_found(desk, run_pgvae, capsys):
    shutil.copytree(desk / "datasets" / "tiny", desk / "copy")
    flip(desk / "copy" / "0032" / "data.mdb")
    assert run_pgvae("check", "copy") == 3
    assert "set 0 of 1 whole" in capsys.readouterr().out
    (desk / "root").mkdir()
    (desk / "copy").rename(desk / "root/lost")
    (desk / "root/lost/manifest.json").unlink()
    assert run_pgvae("check", "root") == 3
    assert "manifest.json is gone" in capsys.readouterr().out


def test_a_file_from_before_digests_is_said_to_be_unchecked(run, run_pgvae, capsys):
    (run / "SHA256SUMS").unlink()
    assert run_pgvae("check", run) == 0
    assert "note: " in capsys.readouterr().out


@pytest.mark.parametrize("what", ["nothing", "a.png", "empty"])
def test_what_is_none_of_these_is_refused(what, rejected, desk):
    (desk / "empty").mkdir()
    assert what in rejected("check", what)


def test_figures_of_an_evaluation_that_are_damaged_are_found(run, run_pgvae, capsys):
    (run / "evaluation.json").write_text(json.dumps({"metrics": {}})[:-1])
    assert run_pgvae("check", run) == 3
    assert "evaluation.json is damaged in line 1" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize("name", ["fakes-000000001.png", "evaluation.json"])
def test_what_is_no_file_is_found_and_not_waited_for(name, kind, run, run_pgvae, capsys):
    path = run / name
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("nowhere")
    assert run_pgvae("check", run) == 3
    why = "no file, but a folder, a pipe or a device"
    why = "No such file or directory" if kind == "link" else why
    assert f"damaged: {path}: {why}" in capsys.readouterr().out.splitlines()


def test_a_checkpoint_whose_sums_are_a_pipe_is_damaged(run, run_pgvae, capsys):
    newest = run / "checkpoint-000000096"
    (newest / "SHA256SUMS").unlink()
    os.mkfifo(newest / "SHA256SUMS")
    assert run_pgvae("check", run) == 3
    assert f"damaged: {newest} is damaged" in capsys.readouterr().out
