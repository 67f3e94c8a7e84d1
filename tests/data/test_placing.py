"""A set is written by one process at a time, on any file system."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest
from making import Memory, left_in, noise_files, prepared, recipe_of

import pgvae.files
from pgvae.data import Store
from pgvae.data.placing import check_free, check_name, locked
from pgvae.data.removing import delete
from pgvae.errors import InputError, ResourceError


@pytest.mark.parametrize(
    "number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO]
)
def test_a_file_system_without_locks_is_warned_of_and_used(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    said = []
    assert len(prepared(recipe_of(Memory(noise_files(3))), tmp_path, said=said)) == 3
    assert said[0].startswith(f"warning: {tmp_path} cannot be locked: see that")


@pytest.mark.parametrize("there", [True, False])
def test_a_set_that_is_a_link_is_not_replaced(tmp_path, there):
    if there:
        prepared(recipe_of(Memory(noise_files(3))), tmp_path / "a big disk")
    (tmp_path / "set").symlink_to(tmp_path / "a big disk/set")
    with pytest.raises(InputError, match=r"set is a link to .*: use --data-root '.*a big disk'"):
        prepared(recipe_of(Memory(noise_files(4))), tmp_path, force=True)
    assert (tmp_path / "set").is_symlink()
    assert (tmp_path / "set").exists() == there


def test_a_set_that_another_prepares_is_refused_or_waited_for(tmp_path):
    final, said = tmp_path / "set", []
    with locked(final, wait=False, say=said.append):
        with (
            pytest.raises(InputError, match="set is being prepared by another process: wait"),
            locked(final, wait=False, say=said.append),
        ):
            raise AssertionError("entered")
        with locked(tmp_path / "other", wait=False, say=said.append):
            pass
    with locked(final, wait=True, say=said.append):
        pass
    assert said == []


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_folder_that_cannot_be_flushed_is_let_be_and_nothing_else(
    tmp_path, monkeypatch, number, passes
):
    flush = os.fsync

    def fsync(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
            raise OSError(number, os.strerror(number))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    if passes:
        prepared(recipe_of(Memory(noise_files(3))), tmp_path).verify()
    else:
        with pytest.raises(ResourceError, match="error; see to the drive and rerun"):
            prepared(recipe_of(Memory(noise_files(3))), tmp_path)
        assert left_in(tmp_path) == []


def test_a_file_that_cannot_be_flushed_is_an_error(tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", fsync)
    pgvae.files.fsync(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        pgvae.files.fsync(tmp_path / "file")


@pytest.mark.parametrize("root", ["x" * 300, "file/inner", "file"])
def test_a_root_that_cannot_be_is_one_line(tmp_path, root):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*another --data-root"):
        prepared(recipe_of(Memory(noise_files(2))), tmp_path / root)


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "a.tmp", "x" * 201, "a\nb"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(InputError, match="--name"):
        check_name(name)


def test_what_is_no_set_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    for force in (False, True):
        with pytest.raises(InputError, match="--name"):
            check_free(tmp_path / "mine", force)
    check_free(tmp_path / "other", force=False)


def test_a_set_that_lost_its_manifest_is_replaced_like_any(tmp_path):
    recipe = recipe_of(Memory(noise_files(3)))
    store = prepared(recipe, tmp_path)
    (store.path / "manifest.json").unlink()
    with pytest.raises(InputError, match="exists: use --force"):
        prepared(recipe, tmp_path)
    assert prepared(recipe, tmp_path, force=True).digest == store.digest


@pytest.mark.parametrize("what", ["left over", "set"])
def test_what_another_user_left_is_one_line_and_stays(tmp_path, monkeypatch, what):
    recipe = recipe_of(Memory(noise_files(3)))
    theirs = prepared(recipe, tmp_path).path
    if what == "left over":
        theirs = theirs.rename(tmp_path / "set.tmp")

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(*((shutil, "rmtree") if what == "left over" else (Path, "rename")), refuse)
    with pytest.raises(
        InputError, match=f"{theirs} cannot be replaced .*another user's: use --name"
    ):
        prepared(recipe, tmp_path, force=True)
    assert (theirs / "manifest.json").is_file()


@pytest.mark.parametrize("way", ["replaced", "deleted"])
@pytest.mark.parametrize("which", ["", "64"])
def test_a_write_protected_set_stays_whole_and_in_its_place(tmp_path, monkeypatch, way, which):
    recipe = recipe_of(Memory(noise_files(3)))
    theirs = prepared(recipe, tmp_path)
    before = left_in(tmp_path)
    protected = theirs.path / which
    protected.mkdir(exist_ok=True)
    protected.chmod(0o555)
    # As the system answers anybody but root, for whom nothing is protected.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & ~Path(path).stat().st_mode >> 6)
    acts = {
        "replaced": lambda: prepared(recipe, tmp_path, force=True),
        "deleted": lambda: delete("set", tmp_path, print),
    }
    with pytest.raises(InputError, match=f"{protected} is write-protected or .*chmod -R u.w "):
        acts[way]()
    assert left_in(tmp_path) == before
    assert Store(theirs.path).digest == theirs.digest
    protected.chmod(0o755)
    delete("set", tmp_path, print)
    assert not theirs.path.exists()
