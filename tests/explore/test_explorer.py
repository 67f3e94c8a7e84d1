"""What can be seen of a model."""

import shutil
import threading

import numpy as np
import pytest
import torch

from conftest import snapshot_at
from pgvae.data import Store, read_images
from pgvae.errors import InputError
from pgvae.explore import Explorer
from pgvae.explore.points import Point
from pgvae.inference import load
from pgvae.metrics import psnr
from pgvae.snapshot import save_snapshot

SEED, UNSEEN = Point("seed", 7), Point("unseen", 2)


@pytest.fixture
def alone(tmp_path) -> Explorer:
    """Of one file, without a data set and without attributes."""
    save_snapshot(tmp_path / "model.safetensors", snapshot_at(9, 16, classes=0))
    return Explorer(load(tmp_path / "model.safetensors"))


def test_a_seed_is_the_sample_of_that_seed(explorer):
    model = explorer.model
    point = Point("seed", 7, "training", 0.5)
    torch.testing.assert_close(explorer.look([point]).images, model.sample(1, 7, "training", 0.5))


def test_an_unseen_image_is_of_the_validation_split_and_encoded(explorer, faces):
    store, model = Store(faces), explorer.model
    image = read_images(store, store.split("val")[[2]], 16)
    torch.testing.assert_close(explorer.images([UNSEEN]), image)
    torch.testing.assert_close(explorer.latents([UNSEEN]), model.encode(image))
    found = explorer.reconstruction(UNSEEN)
    torch.testing.assert_close(found.again, model.reconstruct(image))
    assert found.psnr == pytest.approx(psnr(image, model.reconstruct(image)).item())


def test_a_reconstruction_is_without_moves(explorer):
    moved = Point("unseen", 2, attributes={"hat": 4.0})
    torch.testing.assert_close(
        explorer.reconstruction(moved).again, explorer.reconstruction(UNSEEN).again
    )


def test_moves_are_sums(explorer):
    moved = Point("seed", 7, attributes={"hat": 2.0, "glasses": -1.0}, components={0: 1.5})
    found = explorer.components()
    start = explorer.model.sample_latents(1, 7)
    expected = explorer.model.move(start, ["hat", "glasses"], [2.0, -1.0])
    expected = expected + 1.5 * found.deviations[0] * found.directions[0]
    torch.testing.assert_close(explorer.latents([moved]), expected)


def test_certainty_is_that_of_the_classifier_at_the_latents(explorer):
    sure = explorer.look([SEED, UNSEEN]).sure
    logits = explorer.model.directions.logits(explorer.latents([SEED, UNSEEN]))
    torch.testing.assert_close(sure, torch.sigmoid(logits))


def test_an_earlier_snapshot_draws_the_same_latents(explorer, run):
    early = load(run / "snapshot-000001000.safetensors")
    found = explorer.look([SEED, UNSEEN], at=1000).images
    torch.testing.assert_close(found, early.decode(explorer.latents([SEED, UNSEEN])))
    with pytest.raises(InputError, match="no snapshot after 1,500 images"):
        explorer.look([SEED], at=1500)


def test_a_reconstruction_of_an_earlier_snapshot_is_all_its_own(explorer, run):
    early = load(run / "snapshot-000001000.safetensors")
    found = explorer.reconstruction(UNSEEN, at=1000)
    image = read_images(explorer.store, explorer.store.split("val")[[2]], 8)
    assert image.shape == (1, 3, 8, 8)
    torch.testing.assert_close(found.image, image, atol=0.01, rtol=0)  # of pixels that were rounded
    torch.testing.assert_close(found.again, early.reconstruct(found.image))
    assert found.psnr == pytest.approx(psnr(found.image, found.again).item())


def test_a_snapshot_of_other_latents_is_refused(tmp_path, run):
    place = shutil.copytree(run, tmp_path / "run")
    save_snapshot(place / "snapshot-000000500.safetensors", snapshot_at(500, 8, "sphere"))
    explorer = Explorer(load(place), place)
    assert explorer.about()["snapshots"] == [500, 1000, 2000]
    with pytest.raises(InputError, match="of another run"):
        explorer.look([SEED], at=500)


def test_snapshots_later_than_the_model_are_not_offered(explorer, run, faces):
    early = Explorer(load(run / "snapshot-000001000.safetensors"), run, Store(faces))
    assert early.about()["snapshots"] == [1000]
    with pytest.raises(InputError, match="no snapshot after 2,000 images"):
        early.reconstruction(UNSEEN, at=2000)
    assert explorer.about()["snapshots"] == [1000, 2000]


def test_a_square_has_its_corners_and_with_three_the_last_is_below(explorer):
    points = [Point("seed", seed) for seed in range(4)]
    corners = explorer.look(points).images
    four = explorer.between(points, 3)
    torch.testing.assert_close(four[[0, 2, 6, 8]], corners)
    three = explorer.between(points[:3], 3)
    torch.testing.assert_close(three[[0, 2]], corners[:2])
    torch.testing.assert_close(three[6:], corners[[2, 2, 2]])
    torch.testing.assert_close(explorer.between(points[:2], 5)[[0, 4]], corners[:2])


def test_a_walk_goes_through_its_corners_and_back(explorer):
    points = [Point("seed", seed) for seed in range(3)]
    frames = explorer.walk(points, 4)
    assert len(frames) == 12
    torch.testing.assert_close(frames[::4], explorer.look(points).images)


def test_the_nearest_training_image_of_a_reconstruction_is_found_by_l1(explorer, faces):
    store = Store(faces)
    training = store.split("train")
    images = read_images(store, training, 16)
    seen = explorer.look([UNSEEN]).images
    distances = (images - seen).abs().mean(dim=(1, 2, 3)) * 127.5
    found = explorer.nearest(UNSEEN)
    np.testing.assert_allclose(found.distances, distances.sort()[0][:6], rtol=1e-4)
    best = int(distances.argmin())
    torch.testing.assert_close(found.images[0], images[best])
    assert found.names[0] == store.names()[training[best]]
    with pytest.raises(InputError, match="draws at 8 px"):
        explorer.nearest(UNSEEN, at=1000)


def test_without_a_set_components_are_of_what_the_fitted_prior_knows(alone):
    prior = alone.model.prior
    covariance = prior.factors[0] @ prior.factors[0].t()
    greatest = torch.linalg.eigvalsh(covariance).flip(0)[:12].sqrt()
    torch.testing.assert_close(alone.components().deviations, greatest, rtol=0.1, atol=0)


def test_what_needs_a_set_or_attributes_says_so_where_there_are_none(alone):
    assert alone.about()["unseen"] == 0
    with pytest.raises(InputError, match="--dataset NAME"):
        alone.nearest(SEED)
    with pytest.raises(InputError, match="0 unseen images"):
        alone.look([UNSEEN])
    with pytest.raises(InputError, match="knows no attributes"):
        alone.look([Point("seed", 1, attributes={"hat": 1.0})])


def test_ends_of_sliders_lie_on_either_side_of_the_mean(explorer):
    ends = explorer.ends()
    assert ends["attributes"].shape == (2, 4, 3, 16, 16)
    assert ends["components"].shape == (12, 4, 3, 16, 16)
    found = explorer.components()
    least = found.mean - 4 * found.deviations[3] * found.directions[3]
    torch.testing.assert_close(ends["components"][3, 0], explorer.model.decode(least[None])[0])


def test_on_the_sphere_everything_stays_on_it(tmp_path):
    save_snapshot(tmp_path / "model.safetensors", snapshot_at(9, 16, "sphere"))
    explorer = Explorer(load(tmp_path / "model.safetensors"))
    moved = Point("seed", 1, attributes={"hat": 3.0}, components={0: 2.0, 3: -1.0})
    torch.testing.assert_close(explorer.latents([moved]).norm(dim=1), torch.ones(1))
    assert explorer.about()["truncates"] == []
    with pytest.raises(InputError, match="no centre to truncate to"):
        explorer.look([Point("seed", 1, truncation=0.5)])
    with pytest.raises(InputError, match="no fitted prior"):
        explorer.look([Point("seed", 1, "fitted")])
    assert explorer.ends()["components"].shape[0] == 12


def test_a_set_without_such_images_and_damaged_attributes_are_refused(tmp_path, faces, run):
    save_snapshot(tmp_path / "grey.safetensors", snapshot_at(9, 16, classes=0))
    (tmp_path / "directions-grey.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Exception, match="is damaged or holds no directions"):
        Explorer(load(tmp_path / "grey.safetensors"))
    store = Store(faces)
    store.resolutions = (4, 8)
    with pytest.raises(InputError, match="at 16 px"):
        Explorer(load(run), run, store)


def test_many_askers_at_once_get_what_one_gets(explorer):
    points = [Point("seed", seed, components={0: 1.0}) for seed in range(6)]
    expected = [explorer.look([point], at=1000).images for point in points]
    fresh = Explorer(explorer.model, explorer._run, explorer.store)
    found = {}

    def ask(index: int) -> None:
        found[index] = fresh.look([points[index]], at=1000).images

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, images in enumerate(expected):
        torch.testing.assert_close(found[index], images)
