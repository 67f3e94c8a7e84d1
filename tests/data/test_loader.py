"""A batch is a pure function of the images seen, and each epoch shows each image once."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from making import Memory, damage, encoded, noise_files, prepared, recipe_of

from pgvae.config import LabelConfig
from pgvae.data import Loader, Store, fade_images
from pgvae.data.labels import Table
from pgvae.data.loader import read_batches
from pgvae.errors import CorruptFileError, InputError

COUNT, TRAIN, BITS = 24, 18, 5
VALUES = (np.arange(COUNT)[:, None] >> np.arange(BITS) & 1).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures, 18 of them for training, whose labels are the bits of their index."""
    names = tuple(f"bit{i}" for i in range(BITS))
    recipe = recipe_of(Memory(noise_files(COUNT)), labels=lambda _: Table(names, VALUES))
    return prepared(recipe, tmp_path_factory.mktemp("loader")).path


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


@pytest.fixture
def loader(store: Store) -> Iterator[Callable[..., Loader]]:
    """Make loaders that are closed in the end."""
    made = []

    def make(of: Store = store, **options) -> Loader:
        made.append(Loader(of, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def indices_of(labels: torch.Tensor) -> np.ndarray:
    """Which images of the store rows of labels [N, BITS] are of: [N]."""
    return (labels.numpy().astype(int) << np.arange(BITS)).sum(axis=1)


def shown(loader: Loader, images_seen: int, count: int, resolution: int = 16) -> list[int]:
    """Which images of the store a batch has, by their labels."""
    return indices_of(loader.batch(images_seen, count, resolution).labels).tolist()


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_no_images_are_refused(store, size):
    with pytest.raises(InputError, match=f"size is {size}: give 1 or more"):
        next(read_batches(store, np.arange(4), 8, size=size))


# Order


def test_an_epoch_shows_each_training_image_once(loader, store):
    order = shown(loader(), 0, TRAIN)
    assert sorted(order) == store.split("train").tolist()
    assert order != sorted(order)


@pytest.mark.parametrize("batch", [1, 4, 5, 18, 40, 100])
def test_epochs_are_the_same_whatever_the_batch_size(loader, batch):
    expected = shown(loader(seed=3), 0, 7 * TRAIN)
    one = loader(seed=3)
    read = [i for start in range(0, 7 * TRAIN, batch) for i in shown(one, start, batch)]
    assert read[: 7 * TRAIN] == expected
    for epoch in range(7):
        assert Counter(expected[epoch * TRAIN : (epoch + 1) * TRAIN]).most_common(1)[0][1] == 1


def test_epochs_and_seeds_differ_in_their_order(loader):
    one, other = loader(seed=0), loader(seed=1)
    assert shown(one, 0, TRAIN) != shown(one, TRAIN, TRAIN)
    assert shown(one, 0, TRAIN) != shown(other, 0, TRAIN)


def test_validation_images_are_those_of_the_split(loader, store):
    assert sorted(shown(loader(split="val"), 0, COUNT - TRAIN)) == store.split("val").tolist()
    assert sorted(shown(loader(split="all"), 0, COUNT)) == list(range(COUNT))


def test_a_split_without_images_is_refused(tmp_path):
    store = prepared(recipe_of(Memory(noise_files(1))), tmp_path)
    with pytest.raises(InputError, match="no images in its split 'val'"):
        Loader(store, split="val")


# A pure function


def test_a_batch_does_not_depend_on_the_calls_before(loader):
    calls = [
        (seen, size, res) for seen in (0, 7, 18, 35, 1000) for size in (3, 20) for res in (4, 16)
    ]
    expected = {}
    for call in calls:
        fresh = loader(seed=5, mirror=True)
        expected[call] = fresh.batch(*call)
    one = loader(seed=5, mirror=True)
    rng = np.random.default_rng(0)
    for _ in range(4):
        for number in rng.permutation(len(calls)):
            batch = one.batch(*calls[number])
            assert torch.equal(batch.images, expected[calls[number]].images)
            assert torch.equal(batch.labels, expected[calls[number]].labels)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_of_a_batch_make_it_up(loader, parts):
    whole = [loader(seed=3, mirror=True).batch(seen, 6, 16) for seen in (0, 6, 15)]
    shared = [loader(seed=3, mirror=True, part=(index, parts)) for index in range(parts)]
    for seen, expected in zip((0, 6, 15), whole, strict=True):  # two of them read in advance
        found = [one.batch(seen, 6, 16) for one in shared]
        assert torch.equal(torch.cat([batch.images for batch in found]), expected.images)
        assert torch.equal(torch.cat([batch.labels for batch in found]), expected.labels)


def test_a_batch_read_in_advance_is_the_same(loader, monkeypatch):
    walking = loader(seed=2, mirror=True)
    in_advance = [walking.batch(start, 5, 8) for start in range(0, 60, 5)]
    reads = []
    read = Loader._read
    monkeypatch.setattr(Loader, "_read", lambda *call: reads.append(call[1:]) or read(*call))
    for number, batch in enumerate(in_advance):
        jumping = loader(seed=2, mirror=True)
        again = jumping.batch(5 * number, 5, 8)
        assert torch.equal(batch.images, again.images)
        assert torch.equal(batch.labels, again.labels)
        jumping.close()
        assert reads[0] == (5 * number, 5, 8)
        reads.clear()


def test_a_batch_handed_out_is_not_changed_by_the_next_and_changes_no_set(loader, store):
    one, before = loader(), store.labels.copy()
    first = one.batch(0, 6, 16)
    kept = first.images.clone()
    one.batch(6, 6, 16)
    one.batch(12, 6, 16)
    assert torch.equal(first.images, kept)
    first.images.zero_()
    first.labels.zero_()
    np.testing.assert_array_equal(store.labels, before)
    assert torch.equal(loader().batch(0, 6, 16).images, kept)


def test_threads_that_decode_change_nothing(loader):
    assert torch.equal(
        loader(workers=2).batch(3, 9, 16).images, loader(workers=0).batch(3, 9, 16).images
    )


# What a batch is


@pytest.mark.parametrize("start", [0, 11, 25])
def test_images_and_their_labels_are_those_of_the_store(loader, store, start):
    """In [-1, 1], channels_last. Labels tell which images they are; the pixels must agree."""
    batch = loader(seed=4).batch(start, 11, 16)
    expected = store.get_many(indices_of(batch.labels), 16).astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-6)
    assert batch.images.shape == (11, 3, 16, 16)
    assert batch.labels.dtype == torch.float32
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images.min() >= -1
    assert batch.images.max() <= 1


def test_chosen_labels_come_in_the_order_chosen(loader):
    every = loader().batch(0, 11, 8).labels
    chosen = loader(labels=LabelConfig(("bit3", "bit0"))).batch(0, 11, 8).labels
    assert torch.equal(chosen, every[:, [3, 0]])
    assert loader(labels=LabelConfig()).batch(0, 11, 8).labels is None


def test_a_set_without_labels_gives_none_and_black_is_minus_1_and_white_1(tmp_path, loader):
    files = {f"{v}.png": encoded(np.full((4, 4, 3), v, np.uint8)) for v in (0, 255)}
    batch = loader(prepared(recipe_of(Memory(files)), tmp_path), split="all").batch(0, 2, 4)
    assert batch.labels is None
    assert sorted(batch.images.unique().tolist()) == [-1, 1]


# Mirror


def test_mirror_flips_about_half_and_exactly_horizontally(loader):
    plain, mirrored = loader(seed=6), loader(seed=6, mirror=True)
    count = 40 * TRAIN
    flipped = 0
    one, other = plain.batch(0, count, 16).images, mirrored.batch(0, count, 16).images
    for image, shown_image in zip(one, other, strict=True):
        turned = torch.equal(shown_image, image.flip(-1))
        assert turned or torch.equal(shown_image, image)
        flipped += turned
    assert abs(flipped / count - 0.5) < 4 * 0.5 / count**0.5  # four standard deviations


def test_an_image_is_flipped_in_some_epochs_and_not_in_others(loader):
    plain, mirrored = loader(split="val"), loader(split="val", mirror=True)
    n = COUNT - TRAIN
    same: dict[int, set[bool]] = {}
    for epoch in range(12):
        one, other = plain.batch(epoch * n, n, 16), mirrored.batch(epoch * n, n, 16)
        for i in range(n):
            index = int(indices_of(one.labels)[i])
            same.setdefault(index, set()).add(torch.equal(one.images[i], other.images[i]))
    assert all(seen == {True, False} for seen in same.values())


def test_without_mirror_nothing_is_flipped(loader, store):
    batch = loader().batch(0, 3 * TRAIN, 4)
    pixels = store.get_many(indices_of(batch.labels), 4)
    assert ((batch.images.numpy() + 1) * 127.5).round().astype(np.uint8).tolist() == pixels.tolist()


# Fade


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("side", [4, 16])
def test_fade_is_a_mix_with_the_stage_before(alpha, side):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, side, side)).astype(np.float32)
    means = images.reshape(3, 3, side // 2, 2, side // 2, 2).mean(axis=(3, 5))
    coarse = means.repeat(2, axis=2).repeat(2, axis=3)
    faded = fade_images(torch.from_numpy(images), alpha).numpy()
    np.testing.assert_allclose(faded, alpha * images + (1 - alpha) * coarse, atol=1e-6)


def test_a_loader_fades_its_batches(loader):
    one = loader()
    plain = one.batch(0, 5, 16)
    faded = one.batch(0, 5, 16, alpha=0.3)
    torch.testing.assert_close(faded.images, fade_images(plain.images, 0.3))
    assert faded.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(faded.labels, plain.labels)


def test_a_faded_batch_at_alpha_0_shows_the_resolution_below(loader):
    one = loader()
    below, faded = one.batch(0, 5, 8), one.batch(0, 5, 16, alpha=0.0)
    coarse = below.images.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert (faded.images - coarse).abs().max() <= 0.5 / 127.5 + 1e-6  # levels are rounded once


# Damage


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,100 pictures at 4 px, so that two may be damaged."""
    recipe = recipe_of(
        Memory(noise_files(2100, size=4)), split=lambda kept, _: np.zeros(len(kept), np.uint8)
    )
    return prepared(recipe, tmp_path_factory.mktemp("large")).path


def test_a_damaged_image_is_replaced_with_a_warning_and_the_rest_is_as_it_was(large, loader):
    whole = loader(Store(large))
    expected = whole.batch(0, 2100, 4).images
    whole.close()  # it reads ahead, and the file is about to be written
    damage(Store(large), 42, 4)
    with pytest.warns(RuntimeWarning, match="image 42 .*neighbour is used"):
        batch = loader(Store(large)).batch(0, 2100, 4)
    assert (batch.images != expected).flatten(1).any(1).sum() == 1


def test_more_than_one_damaged_image_in_a_thousand_stops(tmp_path, loader):
    store = prepared(recipe_of(Memory(noise_files(12))), tmp_path)
    index = int(store.split("train")[3])
    damage(store, index, 8)
    with pytest.raises(CorruptFileError, match=f"image {index} "):
        loader(Store(store.path)).batch(0, 12, 8)
