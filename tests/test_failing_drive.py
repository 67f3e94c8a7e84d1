"""A drive that fails at any one call that changes a file, or from there on: EIO, full, quota."""

import errno
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from failing_drive import Ended, FailingDrive

from pgvae.data import Store
from pgvae.report.page import MARK
from pgvae.training.checkpoint import checkpoints_in, is_whole

NUMBERS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
TINY = "--objective pioneer --latent-dim 8 --fmap-max 8 --batch 4 --resolution 8 --device cpu"
LOGS = ("log.txt", "stats.jsonl", "status.json", ".lock", "config.json", "request.json")
LOGS += ("SHA256SUMS",)  # of a run: they grow, or are written anew as it goes on


@dataclass(frozen=True)
class Desk:
    """A set and a run of 16 images in `work`, on a drive that fails; `whole` is a copy of it."""

    drive: FailingDrive
    work: Path
    whole: Path
    pictures: Path

    @property
    def run(self) -> Path:
        (run,) = (self.work / "runs").iterdir()
        return run

    def words(self, name: str) -> list[object]:
        """A command that writes."""
        data = ("--data-root", self.work / "data")
        snapshot = ("--snapshot", self.run)
        return {
            "train": ["train", "--resume", self.run, "--total-kimg", "0.02"],
            "prepare": ["data", "prepare", self.pictures, "--name", "tiny", *data, "--force",
                        "--resolution", 8, "--workers", 0],
            "export": ["export", *snapshot, "--format", "torch-export", "--part", "generator",
                       "--out", self.work / "g.pt2", "--force"],
            "report": ["report", self.run, "--out", self.work / "r.html"],
            "samples": ["generate", *snapshot, "--out", self.work / "o", "samples", "--count", 2],
        }[name]  # fmt: skip

    def put_back(self) -> None:
        """All as it was before."""
        shutil.rmtree(self.work)
        shutil.copytree(self.whole, self.work)

    def files(self) -> dict[str, bytes]:
        found = (p for p in self.work.rglob("*") if p.is_file() and p.name != ".lock")
        return {str(p.relative_to(self.work)): p.read_bytes() for p in found}


@pytest.fixture(scope="module")
def desk(tmp_path_factory, pictures) -> Iterator[Desk]:
    place = tmp_path_factory.mktemp("drive")
    work, beside = place / "work", place / "beside"
    work.mkdir()
    beside.mkdir()
    drive = FailingDrive(work, beside)
    made = Desk(drive, work, place / "whole", pictures)
    prepare = ["data", "prepare", made.pictures, "--name", "tiny", "--data-root", work / "data"]
    train = ["train", "--dataset", "tiny", "--data-root", work / "data", "--outdir", work / "runs"]
    train += [*TINY.split(), "--grow", "--kimg-per-stage", "0.016", "--total-kimg", "0.016"]
    for words in ([*prepare, "--resolution", 8, "--workers", 0], train):
        ended = drive.run(words)
        assert ended.code == 0, ended.said
    (work / "g.pt2").write_text("old")
    (work / "r.html").write_bytes(MARK)  # an older report
    shutil.copytree(work, made.whole)
    yield made
    drive.close()


def require_told(ended: Ended, desk: Desk) -> None:
    """Code 4 and one line that names a file on the drive."""
    errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    assert ended.code == 4, ended
    assert len(errors) == 1, ended
    assert str(desk.work) in errors[0], ended
    for words in ("Traceback", "Exception ignored"):
        assert words not in ended.said, ended


def require_kept(before: dict[str, bytes], desk: Desk, ended: Ended) -> None:
    """What was there is whole; a set may lie aside, from where the next preparation takes it."""
    after = desk.files()
    for name, content in before.items():
        aside = name.replace("data/tiny/", "data/tiny.old.tmp/")
        if not name.endswith(LOGS):
            kept = content in (after.get(name), after.get(aside))
            assert kept or is_replaced(name, desk, ended), (name, ended)
    assert all(map(is_whole, checkpoints_in(desk.run))), ended


def is_replaced(name: str, desk: Desk, ended: Ended) -> bool:
    """Whether a file is of a checkpoint that two newer, whole ones stand for, or is new and whole.

    The last call of all flushes the folder that the file has been renamed in.
    """
    newer = [path for path in checkpoints_in(desk.run) if is_whole(path)]
    if "checkpoint-" in name:
        return len(newer) >= 2 and not (desk.work / name).exists()
    is_new = ended.code == 0 or ended.first == f"fsync {desk.work}"
    return is_new and name in ("g.pt2", "r.html")


def fail_at(call: int, number: int, lasting: bool, name: str, desk: Desk, again: bool) -> int:
    """A command whose call fails; -> its code: 4, or 0 where that could be done another way."""
    words = desk.words(name)
    before = desk.files()
    ended = desk.drive.run(words, call, number, lasting)
    assert ended.first, f"call {call} was never made"
    if ended.code:
        require_told(ended, desk)
    require_kept(before, desk, ended)
    if again or not ended.code:
        rerun = desk.drive.run(words)
        assert rerun.code == 0, (rerun.said, ended)
        assert (desk.run / "checkpoint-000000020").exists() == (name == "train")
        Store(desk.work / "data" / "tiny").verify()
        assert not [path for path in desk.files() if ".tmp" in path], ended
    desk.put_back()
    return ended.code


def calls_of(name: str, desk: Desk) -> int:
    ended = desk.drive.run(desk.words(name))
    assert ended.code == 0, ended.said
    desk.put_back()
    return ended.calls


@pytest.mark.parametrize("name", ["train", "prepare", "samples"])
def test_a_command_on_a_drive_that_fails_says_so_and_loses_nothing(name, desk):
    calls = calls_of(name, desk)
    for index, share in enumerate((0.3, 0.6, 0.9)):
        call = max(3, int(share * calls))  # the first two write the lock, which may fail
        assert fail_at(call, NUMBERS[index], True, name, desk, again=index == 1) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "prepare", "samples", "report", "export"])
def test_whichever_call_fails_a_command_says_so_and_loses_nothing(name, desk):
    """Each call once, and every third one with all that follow."""
    calls, codes = calls_of(name, desk), []
    calls -= name == "prepare"  # whose threads flush in any order, and may save each other a call
    for call in range(1, calls + 1):
        number = NUMBERS[call % 3]
        codes.append(fail_at(call, number, False, name, desk, again=call % 4 == 0))
        if call % 3 == 1:
            codes.append(fail_at(call, NUMBERS[call // 3 % 3], True, name, desk, again=False))
    print(f"{name}: {calls} calls, {codes.count(4)} refused, {codes.count(0)} done another way")
    assert codes.count(4) >= 0.75 * len(codes)
