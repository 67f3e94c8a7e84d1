"""A converted checkpoint computes what PIONEER's networks, written out, compute from the file."""

import pytest
import torch
from pioneer_checkpoints import Pioneer, make, smooth_images, unit_vectors
from torch.nn import functional as F

import pgvae
from pgvae.config import ModelConfig
from pgvae.interop import read_pioneer, vectors_beside
from pgvae.objectives import objective_class, settings_of
from pgvae.snapshot import Snapshot, load_snapshot, save_snapshot

NORMS = ("pixel", "spectral", "none")
# Phase, alpha, and whether a file of spectral vectors stands beside.
STATES = [
    (0, 1.0, False),
    (0, 1.0, True),
    (1, 0.3, True),
    (1, 1.0, False),
    (3, 0.6, False),
    (3, 1.0, True),
    (5, 0.25, True),
    (5, 1.0, False),
]


def convert(tmp_path, checkpoint: Pioneer, **options) -> Snapshot:
    """Write a checkpoint, convert it, and read the snapshot that is saved."""
    file = checkpoint.write(tmp_path / "604000_state")
    snapshot = read_pioneer(
        file, vectors_beside(file), last_activation=checkpoint.last_activation, **options
    )
    save_snapshot(tmp_path / "out.safetensors", snapshot)
    return load_snapshot(tmp_path / "out.safetensors")


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To float rounding, and not because everything is the same."""
    assert expected.std(dim=0).max() > 0.005
    assert (found.double() - expected).abs().max() <= 2e-5


def check(tmp_path, checkpoint: Pioneer) -> None:
    """Samples, encodings and reconstructions of a converted checkpoint are its own."""
    convert(tmp_path, checkpoint)
    model = pgvae.load(tmp_path / "out.safetensors")
    assert model.resolution == 4 * 2 ** checkpoint.content["phase"]
    rng = torch.Generator().manual_seed(3)
    z = F.normalize(torch.randn(2, model.latent_dim, generator=rng))
    expected = checkpoint.images(z)
    close(model.generator(z, model.alpha), expected)
    close(model.sample(2, seed=3), expected.clamp(-1, 1))
    images = smooth_images(2, model.resolution)
    codes = checkpoint.codes(images)
    close(model.encode(images), codes)
    expected = checkpoint.images(codes)
    close(model.generator(model.encode(images), model.alpha), expected)
    close(model.reconstruct(images), expected.clamp(-1, 1))


@pytest.mark.parametrize(
    ("norm", "phase", "alpha", "vectors"),
    [(norm, *state) for norm in NORMS for state in STATES if norm != "none" or state[0] < 5],
)
def test_a_converted_model_samples_and_reconstructs_as_pioneer(
    tmp_path, norm, phase, alpha, vectors
) -> None:
    check(tmp_path, make(phase, alpha, norm, vectors=vectors))


@pytest.mark.parametrize("norm", NORMS)
def test_the_last_activation_can_be_off(tmp_path, norm) -> None:
    check(tmp_path, make(1, norm=norm, last_activation=False))


@pytest.mark.slow
def test_1024_pixels_convert_too(tmp_path) -> None:
    check(tmp_path, make(8, 0.5, "spectral"))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["pixel", "spectral"])
def test_networks_of_512_latent_dimensions_convert_at_128_pixels(tmp_path, norm) -> None:
    checkpoint = make(5, norm=norm, nz=512, vectors=norm == "spectral")
    check(tmp_path, checkpoint)
    assert load_snapshot(tmp_path / "out.safetensors").config == ModelConfig(
        resolution=1024, generator_norm=norm
    )


def test_the_generator_itself_is_converted_beside_its_average(tmp_path) -> None:
    checkpoint = make(1, norm="spectral", vectors=True)
    snapshot = convert(tmp_path, checkpoint)
    z = unit_vectors(4)
    close(snapshot.nets.generator(z), checkpoint.images(z, "G_state_dict"))
    assert not torch.allclose(snapshot.nets.ema(z), snapshot.nets.generator(z), atol=0.02)


@pytest.mark.parametrize("norm", NORMS)
def test_the_vectors_of_the_file_matter(tmp_path, norm) -> None:
    checkpoint = make(1, norm=norm, vectors=True)
    file = checkpoint.write(tmp_path / "604000_state")
    images = smooth_images(4, 8)
    encoders = [read_pioneer(file, v).nets.encoder for v in (None, vectors_beside(file))]
    exact, started = (encoder(images).mean for encoder in encoders)
    assert (exact - started).abs().max() > 1e-3


def test_the_file_of_vectors_is_the_one_called_as_the_checkpoint(tmp_path) -> None:
    file = tmp_path / "604000_state"
    assert vectors_beside(file) is None
    beside = tmp_path / "604000_SNU"
    beside.touch()
    assert vectors_beside(file) == beside
    assert vectors_beside(tmp_path / "604000_SNU") is None
    assert vectors_beside(tmp_path / "renamed") is None


@pytest.mark.parametrize(("alpha", "ours"), [(0, 0.0), (0.5, 0.5), (1, 1.0), (-1, 1.0), (1.5, 1.0)])
def test_alpha_from_0_to_below_1_is_a_fade_and_any_other_is_none(tmp_path, alpha, ours) -> None:
    checkpoint = make(1, alpha)
    snapshot = convert(tmp_path, checkpoint)
    assert snapshot.alpha == ours
    assert snapshot.nets.ema.fading == snapshot.nets.encoder.fading == (ours < 1)
    z = unit_vectors(4)
    close(snapshot.nets.ema(z, snapshot.alpha), checkpoint.images(z))


def test_nothing_fades_at_4_pixels(tmp_path) -> None:
    assert convert(tmp_path, make(0, 0.3)).alpha == 1.0


def test_a_snapshot_says_where_it_is_from(tmp_path) -> None:
    checkpoint = make(1, 0.5)
    checkpoint.content["iteration"] = 604_000.0  # a float where the stages' lengths are
    snapshot = convert(tmp_path, checkpoint, dataset="celeba")
    assert snapshot.images_seen == 604_000
    assert snapshot.dataset == "celeba"
    assert snapshot.attributes == ()
    assert snapshot.mean_image.shape == (3, 8, 8)
    assert not snapshot.mean_image.any()
    assert snapshot.config == ModelConfig(
        resolution=1024, latent_dim=64, fmap_base=1024, fmap_max=64
    )


@pytest.mark.parametrize(
    ("norm", "objective"),
    [("pixel", "pioneer"), ("spectral", "balanced_pioneer"), ("none", "balanced_pioneer")],
)
def test_the_objective_is_of_the_papers_whose_generator_it_is(tmp_path, norm, objective) -> None:
    snapshot = convert(tmp_path, make(0, norm=norm))
    assert snapshot.objective == settings_of(objective_class(objective)())
    assert snapshot.config.generator_norm == norm
    assert snapshot.config.encoder_norm == "spectral"


def test_networks_saved_without_dataparallel_convert_too(tmp_path) -> None:
    check(tmp_path, make(1, norm="spectral", prefix=""))


def test_files_of_old_versions_of_pytorch_convert_too(tmp_path) -> None:
    checkpoint = make(1, 0.5, "spectral", vectors=True)
    file = checkpoint.write(tmp_path / "1_state", _use_new_zipfile_serialization=False)
    assert not file.read_bytes().startswith(b"PK")
    snapshot = read_pioneer(file, vectors_beside(file))
    z = unit_vectors(4)
    close(snapshot.nets.ema(z, 0.5), checkpoint.images(z))


def test_tensors_of_a_gpu_as_pytorch_0_3_wrote_them_convert_too(tmp_path, monkeypatch) -> None:
    def reduced(tensor: torch.Tensor, _protocol: int) -> tuple:
        storage = torch.storage.TypedStorage(
            wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True
        )
        args = (storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        return torch._utils._rebuild_tensor, args

    checkpoint = make(1, norm="pixel")
    with monkeypatch.context() as old:
        old.setattr(torch.serialization, "location_tag", lambda _storage: "cuda:0")
        old.setattr(torch.Tensor, "__reduce_ex__", reduced)
        file = checkpoint.write(tmp_path / "1_state", _use_new_zipfile_serialization=False)
    raw = file.read_bytes()
    assert b"cuda:0" in raw
    assert b"_rebuild_tensor\n" in raw
    z = unit_vectors(4)
    close(read_pioneer(file).nets.ema(z), checkpoint.images(z))


def test_tensors_that_share_memory_in_the_file_can_be_saved(tmp_path) -> None:
    checkpoint = make(1)
    checkpoint.content["G_state_dict"] = checkpoint.content["G_running_state_dict"]
    z = unit_vectors(4)
    close(convert(tmp_path, checkpoint).nets.generator(z), checkpoint.images(z))
