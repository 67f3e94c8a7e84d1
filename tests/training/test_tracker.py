"""Trackers: TensorBoard, and services by fakes and, where they are installed, by themselves."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pgvae.errors import InputError
from pgvae.training.log import RunLog
from pgvae.training.tracker import check_tracker, open_tracker

GRID = np.zeros((4, 6, 3), np.uint8)
CONFIG = {"seed": 3, "model": {"latent_dim": 8}}


class FakeWandb(SimpleNamespace):
    """What of wandb is used: each run by its id, with what was logged."""

    def __init__(self) -> None:
        super().__init__(runs={}, broken=False, Image=lambda grid: ("image", grid.shape))

    def init(self, *, project, name, id, resume, dir, config):
        assert (project, resume, config) == ("pgvae", "allow", CONFIG)
        assert Path(dir).name == name
        self.axis = []
        run = SimpleNamespace(id=id or f"id-{len(self.runs)}", log=self._log, finish=self._finish)
        run.define_metric = lambda name, *, step_metric: self.axis.append((name, step_metric))
        self.logged = self.runs.setdefault(run.id, [])
        return run

    def _log(self, values):
        if self.broken:
            raise ConnectionError("the network\nis gone")
        self.logged.append(values)

    def _finish(self):
        self.logged.append("finished")


class FakeMlflow:
    """What of mlflow is used."""

    def __init__(self) -> None:
        self.uri, self.place, self.runs = None, None, {}

    def set_tracking_uri(self, uri):
        self.uri = uri

    def get_experiment_by_name(self, name):
        return self.place

    def create_experiment(self, name, *, artifact_location):
        self.place = artifact_location

    def set_experiment(self, name):
        assert name == "pgvae"

    def start_run(self, *, run_id, run_name):
        assert (run_id is None) != (run_name is None)
        run_id = run_id or f"id-{len(self.runs)}"
        self.logged = self.runs.setdefault(run_id, [])
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_dict(self, values, name):
        self.logged.append((name, values))

    def log_metrics(self, values, *, step):
        self.logged.append((step, values))

    def log_image(self, image, name):
        self.logged.append((name, image.shape))

    def end_run(self):
        self.logged.append("finished")


@pytest.fixture
def services(monkeypatch) -> SimpleNamespace:
    """Fakes of both, as if they were installed."""
    fakes = SimpleNamespace(wandb=FakeWandb(), mlflow=FakeMlflow())
    for name, fake in vars(fakes).items():
        monkeypatch.setitem(sys.modules, name, fake)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: n if n in vars(fakes) else found(n, *a)
    )
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return fakes


def test_wandb_gets_figures_and_pictures_over_images_seen(services, tmp_path):
    tracker = open_tracker("wandb", tmp_path, 0, CONFIG)
    tracker.scalars({"loss": 0.5, "kl": math.nan}, 8)
    tracker.picture("fakes", GRID, 8)
    tracker.close()
    [(name, logged)] = services.wandb.runs.items()
    assert services.wandb.axis == [("*", "images")]
    assert (name, logged[0]["loss"], logged[0]["images"]) == ("id-0", 0.5, 8)
    assert logged[1:] == [{"fakes": ("image", (4, 6, 3)), "images": 8}, "finished"]


def test_mlflow_gets_figures_by_names_that_it_takes(services, tmp_path):
    tracker = open_tracker("mlflow", tmp_path, 0, CONFIG)
    tracker.scalars({"val/accuracy a:b": 0.5}, 8)
    tracker.picture("fakes", GRID[..., :1], 8)
    tracker.close()
    assert services.mlflow.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert services.mlflow.place == (tmp_path / "mlruns").as_uri()
    assert services.mlflow.runs["id-0"] == [
        ("config.json", CONFIG),
        (8, {"val/accuracy a_b": 0.5}),
        ("fakes-000000008.png", (4, 6)),
        "finished",
    ]


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_run_that_goes_on_is_the_same_there(kind, services, tmp_path):
    for images in (8, 16):
        tracker = open_tracker(kind, tmp_path, images - 8, CONFIG)
        tracker.scalars({"loss": 0.5}, images)
        tracker.close()
    runs = getattr(services, kind).runs
    assert [*runs] == ["id-0"]
    assert runs["id-0"].count("finished") == 2
    (tmp_path / "tracker.json").write_text("[")  # damaged: a new one
    open_tracker(kind, tmp_path, 16, CONFIG).close()
    assert [*runs] == ["id-0", "id-1"]


def test_a_service_that_fails_ends_the_showing_and_not_the_run(services, tmp_path, capsys):
    log = RunLog(tmp_path, 0, 100, "wandb", CONFIG)
    services.wandb.broken = True
    for images in (4, 8):
        log.stats(images, {"loss": 0.5})
    log.close()
    said = "warning: wandb shows no more of this run: the network is gone"
    assert capsys.readouterr().out.splitlines() == [said]
    lines = (tmp_path / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [4, 8]
    assert not list(tmp_path.glob("events.*"))


def test_one_that_cannot_start_or_is_not_installed_is_one_line(services, tmp_path, monkeypatch):
    def init(**_):
        raise PermissionError("no key:\nlog in")

    monkeypatch.setattr(services.wandb, "init", init)
    with pytest.raises(InputError, match="--tracker wandb cannot be started: no key: log in"):
        open_tracker("wandb", tmp_path, 0, CONFIG)
    told: list[str] = []
    open_tracker("wandb", tmp_path, 4, CONFIG, told.append).scalars({"loss": 1.0}, 4)
    assert told == ["warning: --tracker wandb cannot be started: no key: log in"]  # it goes on
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="needs the package mlflow: pip install mlflow, or choose"):
        check_tracker("mlflow")


def test_none_shows_nothing(tmp_path):
    tracker = open_tracker("none", tmp_path, 0)
    tracker.scalars({"loss": 1.0}, 4)
    tracker.picture("fakes", GRID, 4)
    tracker.close()
    assert list(tmp_path.iterdir()) == []


# The packages themselves, offline: they are not among the pinned ones.


def test_wandb_itself_keeps_a_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb, which is not pinned")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = open_tracker("wandb", tmp_path, 0, CONFIG)
    tracker.scalars({"loss": 0.5}, 8)
    tracker.picture("fakes", GRID, 8)
    tracker.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_mlflow_itself_keeps_a_run_and_goes_on_with_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip(
        "mlflow", reason="needs mlflow, which is not among the pinned ones"
    )
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # which needs no database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.chdir(tmp_path)
    for images in (8, 16):
        tracker = open_tracker("mlflow", tmp_path, images - 8, CONFIG)
        tracker.scalars({"val/loss": 0.5}, images)
        tracker.picture("fakes", GRID, images)
        tracker.close()
    [run] = mlflow.search_runs(experiment_names=["pgvae"], output_format="list")
    assert run.data.metrics == {"val/loss": 0.5}
