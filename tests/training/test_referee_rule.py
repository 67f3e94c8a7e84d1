"""Which snapshot is the best, and what a single judgement does."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import CPU, NO_STORE, bytes_of, tiny_config
from safetensors.torch import load_file

from pgvae.data import Store
from pgvae.errors import InputError
from pgvae.evaluation import Evaluation, Figure
from pgvae.inference import load
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot
from pgvae.training import referee as referee_module
from pgvae.training.referee import Referee

BEST, ABOUT = "best.safetensors", "best.json"


def referee_of(names: tuple[str, ...], store: Store | SimpleNamespace, run_dir: Path) -> Referee:
    return Referee(tiny_config(NO_STORE, metrics=names), store, run_dir, CPU)


class Notes:
    """A log that only remembers."""

    def __init__(self) -> None:
        self.figures, self.lines = [], []
        self.say = self.lines.append

    def stats(self, *figures: object) -> None:
        self.figures.append(figures)


def snapshot_of(resolution: int, alpha: float = 1.0, images: int = 1) -> Snapshot:
    config = tiny_config(NO_STORE).model
    nets = build_nets(config, resolution, fading=alpha < 1, seed=1)
    mean = torch.zeros(3, resolution, resolution)
    return Snapshot(nets, config, alpha, images, {"name": "pioneer"}, (), "tiny", mean)


def test_the_best_is_kept_before_its_figures_so_that_a_kill_between_loses_none(
    store, tmp_path, monkeypatch
):
    """Where there are figures of a moment, a run that goes on does not measure it again."""
    found = Evaluation({"psnr": {"psnr": Figure("psnr", 10.0, better="higher")}}, 4, "val", 0)
    monkeypatch.setattr(referee_module, "evaluate", lambda *_, **__: found)
    log = Notes()
    log.stats = lambda *_: (_ for _ in ()).throw(OSError("killed"))
    with pytest.raises(OSError, match="killed"):
        referee_of(("psnr",), store, tmp_path).judge(snapshot_of(4), log)
    assert (tmp_path / BEST).is_file()
    assert json.loads((tmp_path / ABOUT).read_text())["value"] == 10.0


RULES = [
    ("psnr", "higher", [(4, 1.0, 10, True), (4, 1.0, 9, False), (4, 1.0, 11, True)]),
    ("rmse", "lower", [(4, 1.0, 10, True), (4, 1.0, 11, False), (4, 1.0, 9, True)]),
    # Neither is better than its equal.
    ("psnr", "higher", [(4, 1.0, 10, True), (4, 1.0, 10, False)]),
    # A higher resolution always is, and a lower one never.
    ("psnr", "higher", [(4, 1.0, 10, True), (8, 0.5, 1, True), (8, 0.5, 0, False)]),
    ("rmse", "lower", [(8, 1.0, 10, True), (4, 1.0, 1, False), (16, 0.0, 99, True)]),
    # So is one that is faded in further.
    ("psnr", "higher", [(8, 0.25, 10, True), (8, 0.5, 9, True), (8, 1.0, 8, True)]),
    ("psnr", "higher", [(8, 0.5, 9, True), (8, 0.25, 10, False), (8, 0.5, 10, True)]),
    # What is no number never is.
    ("psnr", "higher", [(4, 1.0, float("nan"), False), (4, 1.0, 1, True)]),
    ("psnr", "higher", [(4, 1.0, 1, True), (8, 1.0, float("inf"), False), (4, 1.0, 2, True)]),
    ("rmse", "lower", [(4, 1.0, 1, True), (4, 1.0, float("-inf"), False)]),
    # What is better neither way decides nothing.
    ("latents", "", [(4, 1.0, 2, False), (4, 1.0, 1, False), (16, 1.0, 3, False)]),
]


@pytest.mark.parametrize(("name", "better", "moments"), RULES)
def test_the_best_is_of_the_highest_stage_and_there_of_the_best_figure(
    name, better, moments, store, tmp_path, monkeypatch
):
    referee, log = referee_of((name,), store, tmp_path), Notes()
    kept = None
    for images, (resolution, alpha, value, wins) in enumerate(moments, 1):
        figures = {f"{name}_lite0": Figure(name, float(value), better=better)}
        found = Evaluation({name: figures}, 4, "val", 0)
        monkeypatch.setattr(referee_module, "evaluate", lambda *_, found=found, **__: found)
        referee.judge(snapshot_of(resolution, alpha, images), log)
        kept = images if wins else kept
        assert log.lines[-1].endswith(f"the best so far: {BEST}") == wins
        assert (tmp_path / BEST).exists() == (kept is not None)
        if kept:
            about = json.loads((tmp_path / ABOUT).read_text())
            assert load(tmp_path / BEST).images_seen == about["images_seen"] == kept
    assert len(log.figures) == len(moments)


@pytest.mark.parametrize(
    ("names", "decides"),
    [
        (("rmse", "psnr"), ("rmse", "rmse")),
        (("latents", "psnr"), ("psnr", "psnr")),  # no latent is better than another
        (("latents", "msssim"), (None, None)),
        (("swd", "psnr"), (None, "swd")),  # SWD starts at 16 px
        (("psnr", "swd"), ("psnr", "psnr")),
    ],
)
def test_the_first_metric_with_a_better_and_a_worse_decides(names, decides, store, tmp_path):
    """What small images do not have is left out there."""
    referee, log = referee_of(names, store, tmp_path), Notes()
    for resolution, deciding in zip((8, 16), decides, strict=True):
        referee.judge(snapshot_of(resolution), log)
        _, values = log.figures[-1]
        named = {f"metric/{name.replace('latents', 'latent_mean_norm')}" for name in names}
        assert named & values.keys() == named - ({"metric/swd"} if resolution == 8 else set())
        assert log.lines[-1].endswith(BEST) == (deciding is not None)
        assert (tmp_path / BEST).exists() == (deciding is not None)
        if deciding:
            about = json.loads((tmp_path / ABOUT).read_text())
            assert (about["metric"], about["resolution"]) == (deciding, resolution)


UNBEATEN = {"metric": "psnr", "value": 1e9, "resolution": 16, "alpha": 1.0}


def other(**changes: object) -> str:
    return json.dumps({**UNBEATEN, **changes})


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", '"psnr"', "\xff", other()[:-1]),
        *(other().replace(name, "name") for name in UNBEATEN),
        *(other(value=value) for value in (None, "much", [1e9], {})),
        *(other(resolution=None), other(alpha=[1.0]), other(metric=["psnr"])),
        None,  # the note is well but its snapshot is gone
    ],
)
def test_a_damaged_note_of_the_best_counts_as_none(text, store, tmp_path):
    referee, log = referee_of(("psnr",), store, tmp_path), Notes()
    referee.judge(snapshot_of(8, images=1), log)
    for written, kept in ((other(), 1), (other() if text is None else text, 2)):
        (tmp_path / ABOUT).write_bytes(written.encode("latin-1"))
        if text is None and kept == 2:
            (tmp_path / BEST).unlink()
        referee.judge(snapshot_of(8, images=2), log)
        assert load(tmp_path / BEST).images_seen == kept
    assert json.loads((tmp_path / ABOUT).read_text())["images_seen"] == 2


def test_a_set_without_unseen_images_is_measured_on_training_images_and_says_so(store, tmp_path):
    bare = SimpleNamespace(
        name="bare",
        split=lambda name: store.split("train") if name == "train" else store.split("val")[:1],
        get_many=store.get_many,
    )
    log = Notes()
    referee_of(("psnr",), bare, tmp_path).judge(snapshot_of(8), log)
    assert log.lines[0].startswith("10 train images: PSNR, dB ")


def test_weights_are_as_before_a_judgement(store, tmp_path):
    snapshot = snapshot_of(8)

    def weights() -> dict[str, bytes]:
        parts = snapshot.nets.parts().items()
        return bytes_of({f"{p}/{n}": t for p, net in parts for n, t in net.state_dict().items()})

    before = weights()
    referee_of(("psnr", "rmse"), store, tmp_path).judge(snapshot, Notes())
    assert weights() == before
    saved = bytes_of(load_file(tmp_path / BEST))
    assert {name: saved[name] for name in before} == before


def test_what_is_no_metric_is_refused_and_nothing_is_logged_or_kept(store, tmp_path):
    """A command has asked `check_metrics` long before."""
    log = Notes()
    with pytest.raises(InputError, match="unknown metric 'psnrr': did you mean 'psnr'"):
        referee_of(("psnr", "psnrr"), store, tmp_path).judge(snapshot_of(8), log)
    assert (log.figures, log.lines) == ([], [])
    assert list(tmp_path.iterdir()) == []
