"""What a run shows of itself."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ATTRIBUTES, CPU, NO_STORE, all_bytes, state_after, take_steps, tiny_config

from pgvae.config import LabelConfig
from pgvae.data import Store, fade_images
from pgvae.inference import Model
from pgvae.objectives import OBJECTIVES
from pgvae.snapshot import Snapshot
from pgvae.training.gallery import Gallery
from pgvae.training.state import TrainState


class Pictures:
    """A log that only remembers its pictures."""

    def __init__(self) -> None:
        self.names: list[tuple[str, int]] = []

    def picture(self, name: str, grid: np.ndarray, images_seen: int) -> None:
        assert grid.dtype == np.uint8
        self.names.append((name, images_seen))


@pytest.fixture
def gallery(store) -> Gallery:
    return Gallery(store, LabelConfig(), CPU, seed=0)


def snapshot_of(state: TrainState, gallery: Gallery) -> Snapshot:
    config, images = state.config, state.images_seen
    stage = config.schedule.at(images - 4)
    return Snapshot(
        nets=state.nets,
        config=config.model,
        alpha=stage.alpha,
        images_seen=images,
        objective=dict(config.objective),
        attributes=config.labels.attributes,
        dataset="tiny",
        mean_image=gallery.mean_image(stage.resolution),
    )


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_the_mean_image_is_that_of_the_training_split(store, gallery, resolution):
    raw = store.get_many(store.split("train"), resolution).astype(np.float64)
    expected = torch.from_numpy(raw.mean(axis=0) / 127.5 - 1).float()
    torch.testing.assert_close(gallery.mean_image(resolution), expected)


def test_reals_are_training_images_as_they_are(store, gallery, tmp_path):
    gallery.save_reals(tmp_path / "reals.png", 32)
    grid = np.asarray(Image.open(tmp_path / "reals.png"))
    first = store.get(int(store.split("train")[0]), 32).transpose(1, 2, 0)
    assert np.array_equal(grid[:64:2, :64:2], first)  # enlarged twice
    assert grid.shape == (4 * 64, 5 * 64, 3)  # 20 images


def test_a_look_writes_both_grids_and_figures_of_unseen_images(store, gallery, tmp_path):
    snapshot, log = snapshot_of(state_after(64), gallery), Pictures()
    figures = gallery.look(snapshot, tmp_path, log)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files.keys() == {"fakes-000000064.png", "reconstructions-000000064.png"}
    assert log.names == [("fakes", 64), ("reconstructions", 64)]
    unseen = torch.from_numpy(store.get_many(store.split("val"), 8)).float() / 127.5 - 1
    unseen = fade_images(unseen, snapshot.alpha)
    model = Model(snapshot)

    def psnr(guess: torch.Tensor) -> float:
        errors = (unseen - guess).square().flatten(1).mean(dim=1)
        return (10 * torch.log10(4 / errors)).mean().item()

    expected = psnr(model.reconstruct(unseen))
    assert figures.keys() == {"val/psnr", "val/psnr_gain", "val/rmse"}  # and no accuracy
    assert figures["val/psnr"] == pytest.approx(expected, abs=1e-4)
    mean = fade_images(model.mean_image[None], snapshot.alpha)  # what a constant could do too
    assert figures["val/psnr_gain"] == pytest.approx(expected - psnr(mean), abs=1e-4)
    assert figures["val/rmse"] > 0
    assert gallery.look(snapshot, tmp_path, Pictures()) == figures
    assert all((tmp_path / name).read_bytes() == content for name, content in files.items())


def test_a_set_without_unseen_images_shows_training_images_and_says_so(store, tmp_path):
    bare = SimpleNamespace(
        split=lambda name: store.split("train") if name == "train" else store.split("val")[:0],
        get_many=store.get_many,
        said=store.said,
    )
    gallery = Gallery(bare, LabelConfig(), CPU, seed=0)
    assert gallery.split == "train"
    figures = gallery.look(snapshot_of(state_after(4), gallery), tmp_path, Pictures())
    assert set(figures) == {"train/psnr", "train/psnr_gain", "train/rmse"}


@pytest.fixture
def labelled(faces) -> Gallery:
    store = Store(faces)
    yield Gallery(store, LabelConfig(ATTRIBUTES), CPU, seed=0)
    store.close()


@pytest.mark.parametrize("objective", ["vac", "introvac"])
def test_the_accuracy_of_the_classifier_is_over_unseen_images_of_known_label(
    objective, faces, labelled, tmp_path
):
    snapshot = snapshot_of(state_after(64, objective), labelled)
    figures = labelled.look(snapshot, tmp_path, Pictures())
    store = Store(faces)
    unseen = store.split("val")
    images = torch.from_numpy(store.get_many(unseen, 8)).float() / 127.5 - 1
    logits = Model(snapshot).classify(fade_images(images, snapshot.alpha))
    for column, name in enumerate(ATTRIBUTES):
        said = store.labels[unseen, store.attributes.index(name)]
        known = said != 0.5
        assert known.any()
        right = (logits[:, column].numpy() > 0)[known] == (said[known] > 0.5)
        assert figures.pop(f"val/accuracy {name}") == pytest.approx(right.mean())
    assert not [name for name in figures if "accuracy" in name]
    unknown = Gallery(store, LabelConfig(ATTRIBUTES, no_below=0.0, yes_above=1.0), CPU, seed=0)
    assert unknown.look(snapshot, tmp_path, Pictures()).keys() == figures.keys()
    store.close()


def test_a_model_without_a_classifier_has_no_accuracy_of_labels_that_there_are(labelled, tmp_path):
    figures = labelled.look(snapshot_of(state_after(4), labelled), tmp_path, Pictures())
    assert set(figures) == {"val/psnr", "val/psnr_gain", "val/rmse"}


def test_looking_in_the_middle_changes_nothing_of_what_follows(labelled, tmp_path):
    """The networks are in evaluation mode for the look: batch norm learns again after it."""
    norms = {"encoder_norm": "batch", "generator_norm": "batch"}
    model = dataclasses.replace(tiny_config(NO_STORE, "vac").model, **norms)
    states = [state_after(8, "vac", model=model) for _ in range(2)]
    labelled.look(snapshot_of(states[0], labelled), tmp_path, Pictures())
    assert all_bytes(states[0]) == all_bytes(states[1])
    for state in states:
        take_steps(state, OBJECTIVES["vac"](), 2)
    assert all_bytes(states[0]) == all_bytes(states[1])
