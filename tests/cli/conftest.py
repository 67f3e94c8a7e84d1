"""Fixtures for `pgvae train`: a folder to work in, a finished run, a command that must fail.

And for the commands that use snapshots: a desk with snapshots and images, and the same. For those
of sets: `run` and a `place`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import BASE, refusal, train
from evaluated import snapshot_of

from pgvae.cli import main
from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import Split, folder
from pgvae.snapshot import save_snapshot


@pytest.fixture
def workplace(tmp_path, monkeypatch, data_root) -> Path:
    """A folder to work in, with the prepared set in it, and the allocator left alone."""
    shutil.copytree(data_root / "tiny", tmp_path / "data" / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGVAE_CPU_TUNING", "0")
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, data_root) -> Path:
    """A finished run."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGVAE_CPU_TUNING", "0")
        assert train("--data-root", data_root, "--outdir", place) == 0
    [run] = place.iterdir()
    return run


@pytest.fixture
def refused(capsys, workplace) -> Callable[..., str]:
    """Run a command that must fail: one line, the right code, and nothing touched."""

    def run(*arguments: object, code: int = 2, alone: bool = False) -> str:
        words = [*([] if alone else BASE), *arguments]
        return refusal(capsys, workplace, words, code, command="train")

    return run


@pytest.fixture(scope="session")
def classified(tmp_path_factory, faces) -> Path:
    """A finished run of vac, with a classifier of glasses and hat."""
    place = tmp_path_factory.mktemp("classified")
    labels = ("--objective", "vac", "--attributes", "glasses,hat", "--grow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGVAE_CPU_TUNING", "0")
        data = ("--dataset", "faces", "--data-root", faces.parent)
        assert train(*data, *labels, "--outdir", place) == 0
    [run] = place.iterdir()
    return run


@pytest.fixture
def desk(tmp_path, monkeypatch, finished, classified, pictures, data_root, faces) -> Path:
    """A folder to work in: pioneer's s.safetensors, vac's v.safetensors, images a.png to e.png.

    In `datasets` are `tiny` and `faces`.
    """
    (tmp_path / "datasets").mkdir()
    for prepared in (data_root / "tiny", faces):
        (tmp_path / "datasets" / prepared.name).symlink_to(prepared)
    for name, run in (("s", finished), ("v", classified)):
        shutil.copy(run / "snapshot-000000096.safetensors", tmp_path / f"{name}.safetensors")
    for index in range(5):
        shutil.copy(pictures / f"picture-{index:03d}.png", tmp_path / f"{'abcde'[index]}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGVAE_CPU_TUNING", "0")
    return tmp_path


@pytest.fixture(scope="session")
def sketch() -> Callable[..., Path]:
    """Write a snapshot with random weights; arguments as `evaluated.snapshot_of`."""

    def write(path: Path, *arguments: object, **settings: object) -> Path:
        save_snapshot(path, snapshot_of(*arguments, **settings))
        return path

    return write


@pytest.fixture(scope="session")
def small(tmp_path_factory, pictures) -> Path:
    """The pictures prepared as `tiny` up to 8 px, and all of them for training."""
    root = tmp_path_factory.mktemp("small")
    options = Options(resolution=8, workers=0)
    prepare(folder("tiny", pictures, Split(fraction=0.0)), options, root, say=lambda _: None)
    return root / "tiny"


@pytest.fixture
def run_pgvae(desk) -> Callable[..., int]:
    """Run `pgvae` in this process, on the desk; -> its exit code."""

    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments)])
        return caught.value.code

    return run


@pytest.fixture
def rejected(capsys, desk) -> Callable[..., str]:
    """Run a `pgvae` that must fail: one line, the right code, and nothing touched."""

    def run(*arguments: object, code: int = 2) -> str:
        return refusal(capsys, desk, arguments, code)

    return run


@pytest.fixture
def generate(run_pgvae) -> Callable[..., int]:
    """Run `pgvae generate` with a snapshot of the desk, by default vac's, to the folder o."""

    def run(*arguments: object, snapshot: object = "v.safetensors", out: str = "o") -> int:
        return run_pgvae("generate", "--snapshot", snapshot, "--out", out, *arguments)

    return run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`pgvae data ...` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["data", *map(str, arguments)])
        out = capsys.readouterr()
        return caught.value.code, out.out, out.err

    return call


@pytest.fixture
def place(tmp_path: Path, pictures: Path, data_root: Path, monkeypatch) -> Path:
    """A folder to work in: six pictures in `photos`, labels of them, what is no set of images.

    In `datasets` is `tiny`, to damage.
    """
    for name in ("photos", "empty", "odd"):
        (tmp_path / name).mkdir()
    for file in sorted(pictures.iterdir())[:6]:
        shutil.copy(file, tmp_path / "photos")
    (tmp_path / "odd/new\nline.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("text")
    rows = [f"picture-{i:03d},{i},p{i % 3}" for i in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["name,glasses,person", *rows]) + "\n")
    (tmp_path / "few.csv").write_text("name,glasses\npicture-000,1\n")
    rows = [f"picture-{i:03d},{'' if i == 1 else i}" for i in range(6)]
    (tmp_path / "gaps.csv").write_text("\n".join(["name,glasses", *rows]) + "\n")
    shutil.copytree(data_root / "tiny", tmp_path / "datasets" / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path
