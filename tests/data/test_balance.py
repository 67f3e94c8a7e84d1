"""What labels say, and draws in which yes and no of a label are equally frequent."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from making import Memory, noise_files, prepared, recipe_of

from pgvae.config import LabelConfig
from pgvae.data import Loader, Store
from pgvae.data.balance import balanced_weights, decide
from pgvae.data.labels import Table
from pgvae.errors import InputError

YES, NO, UNKNOWN = 1.0, 0.0, np.nan


# What a label says


def test_above_is_yes_below_is_no_and_between_or_on_a_threshold_is_unknown():
    values = np.array([[0.0, 0.2, 0.25, 0.5, 0.75, 0.8, 1.0, -3.0, 9.0]], np.float32).T
    said = decide(values, no_below=0.25, yes_above=0.75)[:, 0]
    expected = [NO, NO, UNKNOWN, UNKNOWN, UNKNOWN, YES, YES, NO, YES]
    np.testing.assert_array_equal(said, expected)
    assert np.isnan(decide(values, 0.5, 0.5)[3, 0])


def test_zeros_and_ones_are_themselves():
    values = np.random.default_rng(0).integers(0, 2, (20, 3)).astype(np.float32)
    said = decide(values, 0.5, 0.5)
    assert said.dtype == np.float32
    np.testing.assert_array_equal(said, values)


# The weights, as shares of the draws that are expected


def shares(said: np.ndarray) -> np.ndarray:
    """Expected share of yes and of no, [2, K]."""
    weights = balanced_weights(said)
    assert weights.shape == (len(said),)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    return np.stack([weights @ (said == 1), weights @ (said == 0)])


def rows(*counts: tuple[tuple[float, ...], int]) -> np.ndarray:
    """Labels [N, K] from (row, how many of it)."""
    return np.concatenate([np.tile(row, (count, 1)) for row, count in counts]).astype(np.float32)


def correlated(yes_yes: int, yes_no: int, no_yes: int, no_no: int) -> np.ndarray:
    """Labels [N, 2], so many images of each pair."""
    pairs = ((YES, YES), (YES, NO), (NO, YES), (NO, NO))
    return rows(*zip(pairs, (yes_yes, yes_no, no_yes, no_no), strict=True))


def random_labels() -> np.ndarray:
    """Labels [400, 3] of shares 0.1, 0.4 and 0.85."""
    rng = np.random.default_rng(0)
    return (rng.random((400, 3)) < (0.1, 0.4, 0.85)).astype(np.float32)


@pytest.mark.parametrize(
    ("said", "tolerance"),
    [
        *((rows(((YES,), rare), ((NO,), 100 - rare)), 1e-12) for rare in (1, 3, 50, 97)),
        (correlated(40, 30, 25, 905), 1e-12),
        (correlated(40, 3, 7, 950), 1e-5),  # labels that nearly always agree
        # The second comes with the first alone: were both at a half, it would never be seen alone.
        (correlated(40, 0, 60, 900), 0.02),
        (random_labels(), 1e-12),
    ],
    ids=["1 of 100", "3", "50", "97", "correlated", "agreeing", "implied", "three"],
)
def test_each_label_is_as_often_yes_as_no(said, tolerance):
    np.testing.assert_allclose(shares(said), 0.5, rtol=tolerance)
    assert (balanced_weights(said) > 0).all()
    for row in np.unique(said, axis=0):  # all that say the same are equal
        alike = balanced_weights(said)[(said == row).all(axis=1)]
        np.testing.assert_allclose(alike, alike[0])


def test_balance_keeps_how_two_labels_hang_together():
    """Raking leaves the odds ratio alone (Deming and Stephan, 1940): with equal shares it is
    a^2 / (1/2 - a)^2, a the share that says yes to both."""
    said = correlated(40, 30, 25, 905)
    ratio = (40 * 905) / (30 * 25)
    both = ratio**0.5 / (2 * (1 + ratio**0.5))
    found = balanced_weights(said)[(said == YES).all(axis=1)].sum()
    assert found == pytest.approx(both, rel=1e-12)


def test_images_of_unknown_label_keep_their_share():
    said = rows(((YES,), 5), ((NO,), 65), ((UNKNOWN,), 30))
    np.testing.assert_allclose(shares(said), 0.35, rtol=1e-12)
    weights = balanced_weights(said)
    np.testing.assert_allclose(weights[70:], 1 / 100, rtol=1e-12)


def test_with_two_labels_each_is_balanced_among_the_images_that_it_speaks_of():
    said = rows(
        *(((YES, YES), 10), ((YES, NO), 20), ((NO, YES), 5), ((NO, NO), 200)),
        *(((UNKNOWN, YES), 4), ((UNKNOWN, NO), 60), ((YES, UNKNOWN), 2), ((NO, UNKNOWN), 30)),
    )
    said = np.concatenate([said, rows(((UNKNOWN, UNKNOWN), 9))])
    yes, no = shares(said)
    np.testing.assert_allclose(yes, no, rtol=1e-12)
    assert balanced_weights(said)[-9:] == pytest.approx(1 / len(said), rel=1e-12)


def test_a_balanced_set_is_left_as_it_is():
    said = rows(((YES, NO), 6), ((NO, YES), 6))
    np.testing.assert_allclose(balanced_weights(said), 1 / 12, rtol=1e-12)


# What a store says, and draws from it

COUNT, TRAIN = 400, 300
LABELS = np.zeros((COUNT, 2), np.float32)
LABELS[:, 0] = np.arange(COUNT) % 10 == 0  # a tenth are yes
LABELS[:, 1] = np.arange(COUNT) % 4 / 4 + 0.125  # 0.125, 0.375, 0.625, 0.875


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 pictures at 4 px, the first 300 for training."""
    recipe = recipe_of(
        Memory(noise_files(COUNT, size=4)),
        labels=lambda _: Table(("hat", "beard"), LABELS),
        split=lambda kept, _: (np.array(kept) >= TRAIN).astype(np.uint8),
    )
    return prepared(recipe, tmp_path_factory.mktemp("balance")).path


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


@pytest.fixture
def drawn(store: Store) -> Iterator[Callable[..., list[int]]]:
    """Which images a balanced loader draws: `drawn(images_seen, count, seed=...)`."""
    of_pixels = {store.get(index, 4).tobytes(): index for index in range(COUNT)}
    made = []

    def draw(start: int, count: int, *, balance=("hat",), step: int = 0, **options) -> list[int]:
        labels = LabelConfig(("hat", "beard"), balance=balance)
        loader = Loader(store, labels=labels, **options)
        made.append(loader)
        images = torch.cat(
            [
                loader.batch(at, min(step or count, start + count - at), 4).images
                for at in range(start, start + count, step or count)
            ]
        )
        pixels = ((images.numpy() + 1) * 127.5).round().astype(np.uint8)
        return [of_pixels[image.tobytes()] for image in pixels]

    yield draw
    for loader in made:
        loader.close()


def test_a_store_says_yes_no_or_unknown_of_the_labels_chosen(store):
    said = store.said(LabelConfig(("beard", "hat"), no_below=0.25, yes_above=0.75))
    assert said.dtype == np.float32
    np.testing.assert_array_equal(said[:4, 0], [NO, UNKNOWN, UNKNOWN, YES])
    np.testing.assert_array_equal(said[:, 1], LABELS[:, 0])
    assert store.said(LabelConfig()).shape == (COUNT, 0)


def test_a_label_that_a_store_lacks_is_refused_with_the_nearest(store):
    with pytest.raises(InputError, match=r"no label 'bear': did you mean 'beard'"):
        store.said(LabelConfig(("hat", "bear")))


def test_batches_carry_what_the_labels_say(store):
    loader = Loader(store, labels=LabelConfig(("beard",), no_below=0.25, yes_above=0.75))
    labels = loader.batch(0, TRAIN, 4).labels[:, 0]
    loader.close()
    counts = [int((labels == 0).sum()), int(labels.isnan().sum()), int((labels == 1).sum())]
    assert counts == [TRAIN // 4, TRAIN // 2, TRAIN // 4]


@pytest.mark.parametrize("balance", [("hat",), ("hat", "beard")])
def test_each_label_is_drawn_half_of_the_time(drawn, balance):
    indices = drawn(0, 20 * TRAIN, balance=balance)
    for column in (LABELS[indices, 0], LABELS[indices, 1] > 0.5)[: len(balance)]:
        assert abs(np.mean(column) - 0.5) < 4 * 0.5 / (20 * TRAIN) ** 0.5  # four deviations


def test_images_that_say_the_same_are_drawn_equally_often(drawn):
    counts = np.bincount(drawn(0, 40 * TRAIN), minlength=COUNT)
    hats = counts[np.flatnonzero(LABELS[:TRAIN, 0])]
    # 30 images share 6000 draws, 200 each; chi-squared with 29 degrees is under 58.3 99.9 % of the
    # time.
    assert ((hats - 200) ** 2 / 200).sum() < 58.3


def test_only_images_of_the_split_are_drawn(drawn):
    assert max(drawn(0, 4 * TRAIN)) < TRAIN
    assert min(drawn(0, 400, split="val")) >= TRAIN


def test_the_same_seed_draws_the_same_and_seeds_and_epochs_differ(drawn):
    first = drawn(0, TRAIN, seed=3)
    assert drawn(0, TRAIN, seed=3) == first
    assert drawn(0, TRAIN, seed=4) != first
    assert drawn(TRAIN, TRAIN, seed=3) != first


@pytest.mark.parametrize("step", [1, 7, 64, 301])
def test_what_is_drawn_depends_on_the_images_seen_alone(step, drawn):
    assert drawn(0, 700, step=step, seed=1) == drawn(0, 700, seed=1)
    assert drawn(290, 40, step=step, seed=1) == drawn(0, 700, seed=1)[290:330]


def test_without_balance_an_epoch_shows_each_image_once(drawn):
    assert sorted(drawn(0, TRAIN, balance=())) == list(range(TRAIN))
