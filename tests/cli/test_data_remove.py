"""`pgvae data remove`."""

import shutil
from pathlib import Path

import pytest
from commands import refusal

from pgvae.data import Store
from pgvae.data.placing import locked


def used_by(place: Path, digest: str) -> None:
    """A run on the images of a digest, and what is no run."""
    for name, text in (("a", f'{{"dataset_digest": "{digest}"}}'), ("b", "{"), ("c", "[]")):
        (place / "runs" / name).mkdir(parents=True)
        (place / "runs" / name / "config.json").write_text(text)


def test_a_set_that_no_run_uses_is_named_and_deleted(run, place):
    shutil.copytree(place / "datasets/tiny", place / "datasets/used")
    assert "no run in" not in run("list")[1]  # there are no runs to know of
    used_by(place, "0" * 64)
    _, out, _ = run("list")
    assert all(line.endswith("MiB that no run in runs uses") for line in out.splitlines())
    code, out, err = run("remove", "tiny")
    assert (code, out, err) == (0, "deleted datasets/tiny\n", "")
    assert sorted(path.name for path in (place / "datasets").iterdir()) == [".tiny.lock", "used"]
    assert len([*(place / "photos").iterdir()]) == 6


def test_where_there_are_no_runs_nothing_is_deleted(run, place, capsys):
    used_by(place, Store("datasets/tiny").digest)
    words = ["data", "remove", "tiny", "--outdir", "rums"]
    assert "--outdir rums is no folder" in refusal(capsys, place, words)
    words = ["data", "list", "--outdir", "notes.txt"]
    assert "--outdir notes.txt is no folder" in refusal(capsys, place, words)


def test_a_set_that_a_run_uses_is_deleted_only_with_force(run, place, capsys):
    used_by(place, Store("datasets/tiny").digest)
    assert "no run in" not in run("list")[1]
    message = refusal(capsys, place, ["data", "remove", "tiny"])
    assert "datasets/tiny is used by runs/a: --force deletes it all the same" in message
    (place / "elsewhere").mkdir()
    assert run("remove", "tiny", "--outdir", "elsewhere")[0] == 0
    assert not (place / "datasets/tiny").exists()


def test_a_damaged_set_a_link_and_a_rest_are_deleted(run, place):
    shutil.copytree(place / "datasets/tiny", place / "datasets/lost")
    (place / "datasets/lost/manifest.json").unlink()
    (place / "datasets/tiny/manifest.json").write_text("{")
    shutil.copytree(place / "photos", place / "datasets/half.tmp")
    (place / "datasets/link").symlink_to(place / "other")
    shutil.copytree(place / "datasets/tiny", place / "other")
    code, out, _ = run("remove", "tiny", "lost", "half", "link")
    assert code == 0
    assert out.endswith(f"deleted datasets/link, a link: {place / 'other'} is as it was\n")
    left = [path.name for path in (place / "datasets").iterdir() if path.suffix != ".lock"]
    assert left == []
    assert (place / "other/manifest.json").is_file()


@pytest.mark.parametrize("name", ["tinny", "../datasets/tiny", "photos", "", ".", "/"])
def test_what_is_no_prepared_set_is_never_deleted(name, place, capsys):
    message = refusal(capsys, place, ["data", "remove", "tiny", name])
    assert f"no prepared set {name!r} in datasets: " in message


def test_a_set_that_another_process_prepares_is_not_deleted(place, capsys):
    with locked(Path("datasets/tiny"), wait=False, say=print):
        message = refusal(capsys, place, ["data", "remove", "tiny"])
    assert "is being prepared by another process" in message
