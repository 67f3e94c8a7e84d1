"""Which images a run says that it had, and how they are found when it goes on."""

import json
import shutil
from pathlib import Path

import pytest
from commands import BASE, contents, train, train_alone

from pgvae.cli import main
from pgvae.files import SUMS
from pgvae.inference import load
from pgvae.request import Request

LONGER = ("--total-kimg", "0.016")


@pytest.fixture
def run(workplace, pictures) -> Path:
    """A run on the set `tiny`, where a folder of that name has other images."""
    (workplace / "tiny").mkdir()
    for file in sorted(pictures.iterdir())[:6]:
        shutil.copy(file, workplace / "tiny")
    assert train("--total-kimg", "0.008") == 0
    [path] = (workplace / "runs").iterdir()
    return path


def as_before(run: Path, **asked: object) -> Path:
    """The run with another request, as an earlier version or another machine wrote it."""
    kept = json.loads((run / "request.json").read_text()) | asked
    kept = {name: value for name, value in kept.items() if value is not None}
    (run / "request.json").write_text(json.dumps(kept))
    (run / SUMS).unlink()
    return run


def test_a_run_says_the_set_by_its_name_and_a_folder_by_its_path(run, workplace):
    kept = Request.read(run / "request.json")
    assert (kept.dataset, kept.data_root) == ("tiny", str(workplace / "data"))
    for how in ("./tiny", "data/tiny"):
        assert train("--dataset", how, "--total-kimg", "0.008", "--outdir", "others") == 0
        newest = max((workplace / "others").iterdir())
        assert Request.read(newest / "request.json").dataset == str(workplace / how)


def test_a_run_goes_on_from_any_folder(workplace, tmp_path, monkeypatch):
    (workplace / "data").rename(workplace / "datasets")  # the default
    assert train_alone(*BASE[:2], *BASE[4:], "--total-kimg", "0.008") == 0
    [run] = (workplace / "runs").iterdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert train_alone("--resume", run, *LONGER) == 0
    assert load(run).images_seen == 16
    assert contents(tmp_path / "other") == {}


def test_a_run_and_its_sets_that_were_moved_together_go_on(run, workplace, monkeypatch):
    moved = workplace / "moved"
    (moved / "runs").mkdir(parents=True)
    shutil.move(run, moved / "runs")
    shutil.move(workplace / "data", moved / "datasets")
    monkeypatch.chdir(moved)
    assert train_alone("--resume", f"runs/{run.name}", *LONGER) == 0


@pytest.mark.parametrize("root", [None, "data"])
def test_a_run_of_before_that_says_a_folder_goes_on_with_the_set(run, workplace, root):
    as_before(run, dataset=str(workplace / "tiny"), data_root=root)
    where = () if root else ("--data-root", "data")
    assert train_alone("--resume", run, *LONGER, *where) == 0
    assert [path.name for path in (workplace / "data").glob("*")] == ["tiny"]


def test_a_set_that_is_gone_is_told_and_nothing_is_prepared_in_its_place(run, workplace, refused):
    said = f"the images of {run} are gone: there is no set tiny in "
    (workplace / "data/tiny").rename(workplace / "data/away")
    assert said in refused("--resume", run, alone=True)
    as_before(run, dataset=str(workplace / "tiny"), data_root=None)
    message = refused("--resume", run, alone=True)
    assert f"{said}datasets; give --data-root" in message
    (workplace / "data/away").rename(workplace / "data/tiny")
    assert train_alone("--resume", run, "--data-root", "data", *LONGER) == 0


def test_a_root_that_is_asked_for_goes_first(run, workplace, refused):
    shutil.copytree(workplace / "data", workplace / "datasets")
    words = ("data", "update", "tiny", "tiny", "--workers", "0")
    with pytest.raises(SystemExit) as caught:
        main([*words])
    assert caught.value.code == 0
    message = refused("--resume", run, "--data-root", "datasets", alone=True)
    assert "0 images came and 18 went since" in message
    assert train_alone("--resume", run, *LONGER) == 0


def test_labels_that_changed_are_named_with_the_way_back(workplace, faces, pictures, refused):
    shutil.copytree(faces, workplace / "data/faces")
    assert train("--dataset", "faces", "--total-kimg", "0.008") == 0
    [run] = (workplace / "runs").iterdir()
    csv = faces.parent.parent / "labels.csv"
    words = ("data", "update", "faces", pictures, "--data-root", "data", "--labels", csv)

    def update(labels: str) -> None:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, words), "--workers", "0", "--attributes", labels])
        assert caught.value.code == 0

    update("glasses")
    message = refused("--resume", run, alone=True)
    assert "images came" not in message
    back = "`pgvae data update faces PATH --attributes glasses,hat,always` brings back"
    assert f"; labels were glasses, hat, always, which {back})" in message
    update("glasses,hat,always")
    assert train_alone("--resume", run, *LONGER) == 0
