"""A preparation that is killed goes on where it was, and makes the same set."""

import json
import signal
from pathlib import Path

import pytest
from making import (
    Memory,
    in_child,
    kill_self,
    left_in,
    noise_files,
    prepared,
    recipe_of,
)

import pgvae.data.journal
import pgvae.data.writer
from pgvae.data import Store
from pgvae.errors import CorruptFileError, Preempted

FILES = {**noise_files(60), "010.png": b"bad"}
KILLED_AT = 45


@pytest.fixture(autouse=True)
def commits_of_a_few_images(monkeypatch):
    monkeypatch.setattr(pgvae.data.writer, "_COMMIT_BYTES", 8 * 16**2 * 3)


def kill_while_making(root: Path, at: int = KILLED_AT, **options) -> None:
    """Have a child prepare and be killed before it reads an image."""

    def act():
        source = Memory(FILES, lambda index: index == at and kill_self())
        prepared(recipe_of(source), root, resolution=16, skip_bad=True, **options)

    assert in_child(act)[0] == signal.SIGKILL
    assert left_in(root) == ["set.tmp"]


def again(root: Path, said: list[str] | None = None, **options) -> tuple[Store, list[int]]:
    """Prepare once more; which images were read."""
    read: list[int] = []
    source = Memory(FILES, read.append)
    settings = {"resolution": 16, "skip_bad": True, **options}
    return prepared(recipe_of(source), root, said=said, **settings), read


def test_a_killed_preparation_goes_on_and_makes_the_same_set(tmp_path):
    whole, _ = again(tmp_path / "whole")
    kill_while_making(tmp_path / "root")
    said: list[str] = []
    store, read = again(tmp_path / "root", said)
    assert 0 < len(read) < 30
    assert read == [*range(60 - len(read), 60)]
    assert f"going on after {60 - len(read)} images that a stopped preparation made" in said
    store.verify()
    without_files = {k: v for k, v in store.manifest.items() if k not in ("files", "checksum")}
    assert without_files == {k: whole.manifest[k] for k in without_files}
    assert store.digest == whole.digest
    assert (store.path / "rejects.jsonl").read_text() == (whole.path / "rejects.jsonl").read_text()
    assert left_in(tmp_path / "root") == ["set"]
    assert not (store.path / "journal.jsonl").exists()


@pytest.mark.parametrize("stop", [Preempted("asked to stop"), KeyboardInterrupt()], ids=repr)
def test_a_preparation_that_is_asked_to_stop_goes_on_too(tmp_path, stop):
    def asked(index):
        if index == KILLED_AT:
            raise stop

    with pytest.raises(type(stop)):
        prepared(recipe_of(Memory(FILES, asked)), tmp_path, resolution=16, skip_bad=True)
    assert left_in(tmp_path) == ["set.tmp"]
    store, read = again(tmp_path)
    assert 0 < len(read) < 30
    store.verify()
    assert left_in(tmp_path) == ["set"]


def test_a_preparation_may_be_killed_again_and_again(tmp_path):
    whole, _ = again(tmp_path / "whole")
    for at in (20, 35, 50):
        kill_while_making(tmp_path / "root", at)
    store, read = again(tmp_path / "root")
    assert store.digest == whole.digest
    assert len(read) < 25


@pytest.mark.parametrize("options", [{"resolution": 8}, {"channels": 1}, {"count": 50}])
def test_another_preparation_begins_anew(tmp_path, options):
    kill_while_making(tmp_path / "root")
    _, read = again(tmp_path / "root", **options)
    assert read[0] == 0


def test_after_the_system_was_started_anew_nothing_is_trusted(tmp_path, monkeypatch):
    kill_while_making(tmp_path / "root")
    monkeypatch.setattr(pgvae.data.journal, "_boot", lambda: "another")
    assert again(tmp_path / "root")[1][0] == 0


def test_a_journal_that_is_cut_off_is_used_up_to_there(tmp_path):
    whole, _ = again(tmp_path / "whole")
    kill_while_making(tmp_path / "root")
    journal = tmp_path / "root/set.tmp/journal.jsonl"
    lines = journal.read_text().splitlines()
    assert len(lines) > 4
    journal.write_text("\n".join(lines[:3]) + "\n" + lines[3][: len(lines[3]) // 2])
    store, read = again(tmp_path / "root")
    assert read[0] == json.loads(lines[2])["due"]
    assert store.digest == whole.digest
    store.verify()


def test_images_that_are_missing_are_noticed_and_the_next_run_begins_anew(tmp_path):
    kill_while_making(tmp_path / "root")
    journal = tmp_path / "root/set.tmp/journal.jsonl"
    lines = journal.read_text().splitlines()
    more = json.loads(lines[-1])
    more["kept"], more["old"] = [97, 98, 99], [-1, -1, -1]
    journal.write_text("\n".join([*lines, json.dumps(more)]) + "\n")
    with pytest.raises(CorruptFileError, match="is damaged: run it again"):
        again(tmp_path / "root")
    assert again(tmp_path / "root")[1][0] == 0
