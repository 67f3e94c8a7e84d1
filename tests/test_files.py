"""Files are whole or not there."""

import errno
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pgvae import files
from pgvae.errors import InputError, ResourceError
from pgvae.files import atomic_path, content_of, disk_errors, locked, remove, sha256_of, sync_folder


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as aside:
        assert aside.parent == tmp_path
        aside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_directory_appears_whole(tmp_path):
    with atomic_path(tmp_path / "d") as aside:
        aside.mkdir()
        (aside / "inner").write_text("x")
    assert (tmp_path / "d" / "inner").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (content_of, sha256_of):
        for name in ("pipe", "."):
            with pytest.raises(OSError, match="no file, but a folder, a pipe or a device"):
                read(tmp_path / name)


@pytest.mark.parametrize("special", ["pipe", "socket", "device"])
def test_what_is_no_file_is_never_replaced(special, tmp_path):
    path = tmp_path / "p"
    if special == "pipe":
        os.mkfifo(path)
    elif special == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        path.symlink_to(os.devnull)
    before = path.lstat()
    words = "p is a device, a pipe or a socket: give the name of a file"
    with pytest.raises(InputError, match=words), atomic_path(path) as aside:
        aside.write_text("new")
    assert path.lstat() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("fault", [ValueError("bad"), KeyboardInterrupt()])
def test_on_a_fault_the_old_file_stays_and_nothing_is_left(fault, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as aside:
            aside.write_text("half")
            raise fault

    with pytest.raises(type(fault)):
        write()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_of_many_costs_no_look_at_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(type(tmp_path), "glob", None)
    with files.atomic_path(tmp_path / "a.png", flushed=False) as aside:
        aside.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_an_earlier_kill_left_is_replaced(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    for process in (dead.pid, os.getpid()):
        left = tmp_path / f".a.txt.{process}.tmp"
        left.mkdir()
        (left / "half").write_text("half")
    with atomic_path(tmp_path / "a.txt") as aside:
        aside.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_another_process_writes_meanwhile_is_let_be(tmp_path):
    theirs = tmp_path / f".a.txt.{os.getppid()}.tmp"
    theirs.write_text("half")
    with atomic_path(tmp_path / "a.txt") as aside:
        aside.write_text("new")
        assert aside != theirs
    assert (tmp_path / "a.txt").read_text() == "new"
    assert theirs.read_text() == "half"


def test_all_is_flushed_before_the_rename_and_the_directory_after(tmp_path, monkeypatch):
    path, seen = tmp_path / "d", []
    real = files.fsync
    monkeypatch.setattr(files, "fsync", lambda p: (seen.append((p.name, path.exists())), real(p)))
    with atomic_path(path) as aside:
        aside.mkdir()
        (aside / "inner").write_text("x")
    assert seen == [("inner", False), (f".d.{os.getpid()}.tmp", False), (tmp_path.name, True)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_path_and_the_bytes(number, tmp_path):
    path = tmp_path / "a.bin"
    words = r"disk full while writing .*a\.bin: [\d,]+ bytes free"
    with pytest.raises(ResourceError, match=words), atomic_path(path):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_known_from_the_words_of_a_library_too(tmp_path):
    with pytest.raises(ResourceError), disk_errors(tmp_path / "not" / "yet" / "a.bin"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("words", ["[Errno 5] Input/output error", "900 requested and 8 written"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, None])
def test_a_write_cut_short_is_a_full_disk_if_no_more_can_be_written_else_a_drive_that_fails(
    words, number, tmp_path, monkeypatch
):
    def open_or_fail(*_, **__):
        raise OSError(number, os.strerror(number))

    if number:
        monkeypatch.setattr(tempfile, "TemporaryFile", open_or_fail)
    said = "disk full while writing .*a.bin" if number else "a.bin: .*; see to the drive and rerun"
    with pytest.raises(ResourceError, match=said), disk_errors(tmp_path / "a.bin"):
        raise RuntimeError(words)


def test_other_faults_pass_as_they_are(tmp_path):
    with pytest.raises(PermissionError), disk_errors(tmp_path / "a.bin"):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(InputError, match=r"^b: Input/output error$"), disk_errors(tmp_path / "a"):
        raise InputError("b: Input/output error")


def test_a_drive_that_fails_is_named_by_the_file_that_the_error_is_of(tmp_path):
    with (
        pytest.raises(ResourceError, match=r"^b\.bin: broken; see to"),
        disk_errors(tmp_path / "a"),
    ):
        raise OSError(errno.EIO, "broken", "b.bin")


def test_removing_takes_files_trees_and_nothing_but_links(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    for name in ("link", "tree", "file", "nothing"):
        remove(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").exists()


def test_the_sum_is_sha_256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "a") == expected
    big = bytes(range(256)) * 4096
    (tmp_path / "b").write_bytes(big)
    assert sha256_of(tmp_path / "b") == hashlib.sha256(big).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000, 5500])
def test_the_sums_of_parts_are_those_of_the_parts(tmp_path, size, monkeypatch):
    monkeypatch.setattr(files, "PART_BYTES", 1000)
    monkeypatch.setattr(files, "_PIECE", 300)
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "a").write_bytes(data)
    with ThreadPoolExecutor(3) as pool:
        found = files.sums_of_parts(tmp_path / "a", pool)
    parts = [data[start : start + 1000] for start in range(0, max(size, 1), 1000)]
    assert found == [hashlib.sha256(part).hexdigest() for part in parts]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_files_have_the_permissions_that_the_umask_gives(mask, tmp_path):
    """Whatever the library that writes them gives them."""
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "a") as aside:
            os.close(os.open(aside, os.O_CREAT | os.O_WRONLY, 0o600))
        with atomic_path(tmp_path / "d") as aside:
            aside.mkdir()
            os.close(os.open(aside / "inner", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    for name in ("a", "d/inner"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES])
def test_a_file_system_that_cannot_flush_folders_takes_files_all_the_same(
    number, tmp_path, monkeypatch
):
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_path(tmp_path / "d") as aside:
        aside.mkdir()
    assert (tmp_path / "d").is_dir()
    sync_folder(tmp_path)


def test_a_folder_that_a_broken_disk_does_not_take_is_an_error(tmp_path, monkeypatch):
    def fsync(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ETXTBSY, errno.EACCES, errno.EEXIST])
def test_a_drive_that_renames_nothing_over_an_open_file_has_the_new_one(
    number, tmp_path, monkeypatch
):
    real = os.replace

    def replace(source, target):
        if target.exists():
            raise OSError(number, os.strerror(number))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / "a").write_text("old")
    with (tmp_path / "a").open(), atomic_path(tmp_path / "a") as aside:
        aside.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_lock_is_held_by_one_and_names_its_process(tmp_path):
    with locked(tmp_path / ".lock") as held:
        assert held
        with pytest.raises(BlockingIOError) as caught, locked(tmp_path / ".lock"):
            pass
        assert caught.value.strerror == f"process {os.getpid()}"
    with locked(tmp_path / ".lock") as held:
        assert held


def test_where_there_are_no_locks_nothing_is_held(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with locked(tmp_path / ".lock") as one, locked(tmp_path / ".lock") as other:
        assert (one, other) == (False, False)
