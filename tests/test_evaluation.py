"""Figures of a model and their floors."""

import dataclasses
import json
import re
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluated import Copier, model_of, numbers, snapshot_of
from snapshots import a_prior

from pgvae import evaluation, metrics
from pgvae.data import Store
from pgvae.evaluation import Evaluation, Figure, evaluate
from pgvae.inference import Model
from pgvae.inference import autoencoder as autoencoder_module

PAIRWISE = ("psnr", "rmse", "mse", "ssim")
UNTRAINED = "fid_efficientnet-lite0", "kid_efficientnet-lite0"


@pytest.fixture
def chosen(monkeypatch) -> Callable[..., tuple[Evaluation, np.ndarray, np.ndarray]]:
    """Evaluate; -> the result, and which images of the store are measured, and which others."""
    calls, read = [], evaluation.read_images

    def note(store, indices, *arguments):
        calls.append(indices)
        return read(store, indices, *arguments)

    def run(*arguments, **options) -> tuple[Evaluation, np.ndarray, np.ndarray]:
        calls.clear()
        found = evaluate(*arguments, **options)
        return found, *(np.concatenate(calls[i::2]) for i in range(2))

    monkeypatch.setattr(evaluation, "read_images", note)
    return run


def reals_of(store: Store, indices: np.ndarray, resolution: int = 8) -> np.ndarray:
    """Images of a store in [-1, 1], float64."""
    return store.get_many(indices, resolution).astype(np.float64) / 127.5 - 1


def faded(images: np.ndarray, alpha: float) -> np.ndarray:
    """What is left of images in mid-fade: a mix with the means of 2x2 pixels."""
    n, c, side, _ = images.shape
    means = images.reshape(n, c, side // 2, 2, side // 2, 2).mean(axis=(3, 5))
    return alpha * images + (1 - alpha) * means.repeat(2, axis=2).repeat(2, axis=3)


def plainly(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """psnr, rmse and mse of images in [-1, 1], from their textbook definitions in 8 bits."""
    squares = ((a - b) * 127.5) ** 2
    errors = squares.mean(axis=(1, 2, 3))
    return {
        "psnr": (10 * np.log10(255**2 / errors)).mean(),
        "rmse": np.sqrt(errors).mean(),
        "mse": errors.mean() / 255**2,
    }


def again_of(model: Model, images: np.ndarray) -> np.ndarray:
    return model.reconstruct(torch.from_numpy(images).float()).double().numpy()


# Figures and floors


@pytest.mark.parametrize("head", ["sphere", "gaussian"])
@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
def test_figures_of_reconstructions_and_their_floors_are_as_recomputed(head, alpha, store, chosen):
    """In mid-fade the model and the floor both see faded images."""
    model = model_of(alpha=alpha, head=head)
    found, mine, others = chosen(model, store, PAIRWISE)
    real, other = (faded(reals_of(store, i), alpha) for i in (mine, others))
    again = again_of(model, real)
    for of, end in ((again, "value"), (other, "floor")):
        for name, expected in plainly(real, of).items():
            assert getattr(found.figures[name], end) == pytest.approx(expected, rel=1e-4)
        similar = metrics.ssim(*(torch.from_numpy(x).float() for x in (real, of))).mean().item()
        assert getattr(found.figures["ssim"], end) == pytest.approx(similar, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("split", "most"), [("val", 4), ("train", 10)])
@pytest.mark.parametrize("count", [2, 3, 4, 7, 2000])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_images_of_the_floor_are_training_images_and_none_of_those_measured(
    split, most, count, seed, store, chosen
):
    found, mine, others = chosen(model_of(), store, ("rmse",), split=split, count=count, seed=seed)
    assert found.count == len(mine) == len(others) == min(count, most)
    assert (found.split, found.seed) == (split, seed)
    assert set(mine) <= set(store.split(split))
    assert set(others) <= set(store.split("train"))
    assert len({*mine, *others}) == 2 * found.count


def test_samples_are_compared_as_pairs_with_real_pairs(store, chosen):
    model = model_of(16)
    found, _, others = chosen(model, store, ("msssim",), split="train", seed=5)
    figure = found.figures["msssim"]
    assert figure.value == pytest.approx(metrics.msssim(model.sample(10, seed=5)), rel=1e-4)
    other = torch.from_numpy(reals_of(store, others, 16)).float()
    assert figure.floor == pytest.approx(metrics.msssim(other), rel=1e-4)
    assert figure.details["pairs"] == 5


@pytest.mark.parametrize("head", ["sphere", "gaussian"])
def test_latents_are_those_of_the_measured_images_and_have_no_floor(head, store):
    model = model_of(head=head)
    figures = evaluate(model, store, ("latents",)).figures
    images = torch.from_numpy(reals_of(store, store.split("val"))).float()
    mean, logvar = model.posterior(images)
    norm = mean.double().mean(dim=0).norm().item()
    assert figures["latent_mean_norm"].value == pytest.approx(norm, rel=1e-4)
    assert ("latent_kl" in figures) == (head == "gaussian")
    if head == "gaussian":
        prior = torch.distributions.Normal(0.0, 1.0)
        own = torch.distributions.Normal(mean, (logvar / 2).exp())
        kl = torch.distributions.kl_divergence(own, prior).sum(dim=1).mean().item()
        assert figures["latent_kl"].value == pytest.approx(kl, rel=1e-4)
    assert all(f.floor is None and f.better == "" for f in figures.values())


def test_a_figure_of_sets_names_its_levels_with_their_floors(store):
    figure = evaluate(model_of(32), store, ("swd",)).figures["swd"]
    assert set(figure.details) == {"32 px", "16 px", "32 px floor", "16 px floor"}
    mean, floor = ((figure.details[f"32 px{x}"] + figure.details[f"16 px{x}"]) / 2
                   for x in ("", " floor"))  # fmt: skip
    assert (figure.value, figure.floor) == pytest.approx((mean, floor))
    assert figure.value > figure.floor > 0  # random weights make no pictures


def test_a_copier_reconstructs_far_better_than_its_floor(store):
    figures = evaluate(Copier(), store, PAIRWISE).figures
    assert figures["psnr"].value > figures["psnr"].floor + 20
    assert figures["rmse"].value < figures["rmse"].floor / 20
    assert figures["mse"].value < figures["mse"].floor / 400
    assert figures["ssim"].value > 0.95 > figures["ssim"].floor
    assert all(f.beats(f.floor) for f in figures.values())


def test_samples_that_are_all_alike_are_above_the_floor_of_diversity(store):
    figure = evaluate(Copier(), store, ("msssim",)).figures["msssim"]
    assert figure.value == pytest.approx(1, abs=1e-4)
    assert figure.floor < 0.9
    assert not figure.beats(figure.floor)


def test_grey_images_are_measured_too(store):
    def get_many(indices, resolution):
        return store.get_many(indices, resolution)[:, :1]

    grey = SimpleNamespace(name="grey", split=store.split, get_many=get_many)
    model = model_of(16, channels=1)
    found = evaluate(model, grey, evaluation.DEFAULT_METRICS)
    real = reals_of(store, store.split("val"), 16)[:, :1]
    expected = plainly(real, again_of(model, real))["psnr"]
    assert found.figures["psnr"].value == pytest.approx(expected, rel=1e-4)
    values = [f.value for f in found.figures.values()]
    assert np.isfinite(values).all()


# What does not matter, and what does


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_size_of_the_batches_changes_no_figure(size, store, monkeypatch):
    model, names = model_of(16, head="gaussian"), evaluation.DEFAULT_METRICS
    whole = numbers(evaluate(model, store, names, split="train"))
    monkeypatch.setattr(autoencoder_module, "_BATCH_PIXELS", size * 16**2)
    assert model.batch_size == size
    parts = numbers(evaluate(model, store, names, split="train"))
    assert parts == pytest.approx(whole, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("split", ["val", "train"])
def test_the_same_seed_gives_the_same_figures_and_another_seed_others(split, store):
    model, names = model_of(16), evaluation.DEFAULT_METRICS
    first, again, other = (
        evaluate(model, store, names, split=split, count=4, seed=seed) for seed in (7, 7, 8)
    )
    assert first == again
    for name in ("swd", "msssim"):
        assert first.figures[name].value != other.figures[name].value
        assert first.figures[name].floor != other.figures[name].floor
    if split == "train":  # 4 of 10
        assert first.figures["psnr"].value != other.figures["psnr"].value


def test_figures_come_in_the_order_of_the_names_and_once(store):
    found = evaluate(model_of(), store, ("rmse", "psnr", "rmse"))
    assert list(found.figures) == list(found.by_metric) == ["rmse", "psnr"]
    assert found.figures["psnr"] == evaluate(model_of(), store, ("psnr",)).figures["psnr"]


def test_random_states_of_others_are_left_alone(store):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    evaluate(model_of(16), store)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_a_watcher_sees_each_start_and_the_number_of_images(store, monkeypatch):
    monkeypatch.setattr(autoencoder_module, "_BATCH_PIXELS", 4 * 8**2)
    seen = []

    def watch(starts, total):
        for start in starts:
            seen.append((start, total))
            yield start

    evaluate(model_of(), store, ("psnr",), split="train", watch=watch)
    assert seen == [(0, 10), (4, 10), (8, 10)]


def test_an_evaluation_travels_through_json(store):
    found = evaluate(model_of(16), store, ("psnr", "swd", "latents"), seed=3)
    values = json.loads(json.dumps(found.to_dict()))
    assert (values["split"], values["count"], values["seed"]) == ("val", 4, 3)
    again = {name: Figure(**figure) for name, figure in values["metrics"].items()}
    assert again == dict(found.figures)


@pytest.mark.parametrize(("better", "wins"), [("lower", 1.0), ("higher", 3.0)])
def test_better_is_lower_or_higher_and_never_equal(better, wins):
    figures = {value: Figure("x", value, better=better) for value in (1.0, 2.0, 3.0)}
    assert [v for v, figure in figures.items() if figure.beats(2.0)] == [wins]


# FID and KID with the features of another network


@pytest.fixture(scope="module")
def featured(data_root) -> Evaluation:
    """FID and KID of the copier at 8 px."""
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("torchmetrics")
    store = Store(data_root / "tiny")
    found = evaluate(Copier(), store, ("fid", "kid"))
    store.close()
    return found


def test_features_of_another_network_are_never_called_plain_fid(featured):
    reconstructed = tuple(f"{name}_reconstructed" for name in UNTRAINED)
    assert set(featured.figures) == {*UNTRAINED, *reconstructed}
    assert [next(iter(figures)) for figures in featured.by_metric.values()] == [*UNTRAINED]
    for name, figure in featured.figures.items():
        kind = name[:3].upper()
        assert re.match(rf"{kind} \(EfficientNet-Lite0\)( of reconstructions)?$", figure.label)
        assert figure.better == "lower"


def test_a_copiers_reconstructions_have_features_nearer_than_other_images(featured):
    """Its samples, one image again and again, are farther than them."""
    for name in UNTRAINED:
        again, fake = featured.figures[f"{name}_reconstructed"], featured.figures[name]
        assert again.floor == fake.floor
        assert again.value < again.floor < fake.value


def test_features_are_cut_into_batches_without_a_difference(featured, store, monkeypatch):
    monkeypatch.setattr(Copier, "batch_size", 4)
    found = numbers(evaluate(Copier(), store, ("kid", "fid")))
    assert found == pytest.approx(numbers(featured), rel=1e-4, abs=1e-5)


def test_samples_are_of_the_prior_that_is_asked_for(store):
    model = Model(dataclasses.replace(snapshot_of(16), prior=a_prior()))
    found = {
        prior: evaluate(model, store, ("swd",), prior=prior)
        for prior in (None, "fitted", "training")
    }
    assert [each.prior for each in found.values()] == ["fitted", "fitted", "training"]
    assert [each.to_dict()["prior"] for each in found.values()] == ["fitted", "fitted", "training"]
    by_default, fitted, training = (each.figures["swd"].value for each in found.values())
    assert by_default == fitted
    plain = evaluate(Model(snapshot_of(16)), store, ("swd",))
    assert plain.figures["swd"].value == training != fitted
    assert plain.prior == "training"
