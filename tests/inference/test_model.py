"""What a loaded model promises."""

import copy
import math

import pytest
import torch
from latent_models import HEADS, images_of, model_of, saved
from snapshots import make

import pgvae
from pgvae import snapshot as snapshot_module
from pgvae.errors import InputError
from pgvae.inference import Model, pick_device
from pgvae.inference import autoencoder as autoencoder_module

D, R = 8, 8


@pytest.fixture(params=[("sphere", 1.0), ("gaussian", 1.0), ("sphere", 0.3), ("gaussian", 0.3)])
def model(request) -> Model:
    head, alpha = request.param
    return model_of(head, alpha=alpha)


@pytest.fixture
def sphere() -> Model:
    return model_of("sphere")


def test_a_model_says_what_it_is(model):
    assert (model.resolution, model.latent_dim) == (R, D)
    assert model.config.resolution == 16
    assert model.attributes == ("glasses", "Bärte")
    assert (model.dataset, model.objective["name"]) == ("faces", "pioneer")
    assert (model.images_seen, model.path) == (12_345, None)
    assert torch.equal(model.mean_image, make().mean_image)


def test_a_model_of_networks_in_training_is_a_copy_and_leaves_them_as_they_are():
    snapshot = make(encoder_norm="batch", generator_norm="batch", arch="residual")
    nets = snapshot.nets.parts().values()
    for net in nets:
        net.train().requires_grad_(True)
    before = [copy.deepcopy(net.state_dict()) for net in nets]
    model = Model(snapshot)
    images = model.reconstruct(images_of(4))
    for net, state in zip(nets, before, strict=True):
        assert all(part.training for part in net.modules())
        assert all(parameter.requires_grad for parameter in net.parameters())
        assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())
    with torch.no_grad():
        for net in nets:
            for value in net.state_dict().values():
                value.zero_()
    assert torch.equal(model.reconstruct(images_of(4)), images)
    assert not any(net.training for net in (model.encoder, model.generator))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shapes_and_ranges(model, count):
    codes = model.encode(images_of(count))
    assert (codes.shape, codes.dtype) == ((count, D), torch.float32)
    assert torch.equal(model.reconstruct(images_of(count)), model.decode(codes))
    for images in (model.decode(codes), model.reconstruct(images_of(count)), model.sample(count)):
        assert images.shape == (count, 3, R, R)
        assert images.isfinite().all()
        assert images.abs().max() <= 1
        assert not images.requires_grad


def test_decoding_clamps_what_the_generator_gives_beyond_the_range(sphere):
    sphere.generator.rgb[str(R)].bias.fill_(50.0)
    assert (sphere.decode(torch.eye(D)) == 1).all()


def test_codes_are_the_posteriors_mean_and_of_unit_norm_on_the_sphere(sphere):
    torch.testing.assert_close(sphere.encode(images_of(6)).norm(dim=1), torch.ones(6))
    assert sphere.posterior(images_of(6)).logvar is None
    snapshot = make(head="gaussian")
    with torch.no_grad():
        expected = snapshot.nets.ema_encoder(images_of(3))
    found = Model(snapshot).posterior(images_of(3))
    torch.testing.assert_close(found, expected)
    assert torch.equal(Model(snapshot).encode(images_of(3)), found.mean)


def test_images_of_other_types_are_taken(sphere):
    images = images_of(2)
    torch.testing.assert_close(sphere.encode(images.double()), sphere.encode(images))


def test_the_average_is_what_decodes():
    snapshot = make()
    codes = torch.nn.functional.normalize(torch.eye(D), dim=1)
    averaged = snapshot.nets.ema(codes).clamp(-1, 1)
    raw = snapshot.nets.generator(codes).clamp(-1, 1)
    decoded = Model(snapshot).decode(codes)
    torch.testing.assert_close(decoded, averaged)
    assert not torch.allclose(decoded, raw, atol=0.01)


def test_samples_come_from_the_prior(monkeypatch):
    for head in ("sphere", "gaussian"):
        model, seen = model_of(head), []
        monkeypatch.setattr(model, "decode", lambda z, seen=seen: seen.append(z) or z)
        model.sample(2000, seed=0)
        [latents] = seen
        squares = latents.square().sum(dim=1)
        if head == "sphere":
            torch.testing.assert_close(squares, torch.ones(2000))
        else:  # chi-squared with d degrees: mean d, variance 2d
            assert abs(squares.mean() - D) < 4 * math.sqrt(2 * D / 2000)


def test_samples_repeat_by_seed_and_batches_change_nothing(model, monkeypatch):
    samples, codes = model.sample(7, seed=0), model.encode(images_of(7))
    assert torch.equal(model.sample(7, seed=0), samples)
    assert not torch.equal(model.sample(7, seed=1), samples)
    monkeypatch.setattr(autoencoder_module, "_BATCH_PIXELS", 2 * R * R)
    torch.testing.assert_close(model.sample(7, seed=0), samples, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.encode(images_of(7)), codes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_snapshot_in_mid_fade_decodes_and_encodes_at_its_alpha(alpha, tmp_path):
    nets, codes = make(alpha).nets, torch.nn.functional.normalize(torch.eye(D), dim=1)
    with torch.no_grad():
        expected = nets.ema(codes, alpha).clamp(-1, 1)
        code = nets.ema_encoder(images_of(2), alpha).mean
    model = pgvae.load(saved(tmp_path / "s.safetensors", "sphere", alpha=alpha))
    assert model.alpha == alpha
    torch.testing.assert_close(model.decode(codes), expected)
    torch.testing.assert_close(model.encode(images_of(2)), code)


def test_grey_models_work():
    model = model_of("sphere", channels=1)
    assert model.reconstruct(images_of(2, channels=1)).shape == (2, 1, R, R)
    with pytest.raises(ValueError, match="1x8x8"):
        model.encode(images_of(2))


@pytest.mark.parametrize(
    "shape",
    [(3, R, R), (2, 1, R, R), (2, 3, R, 4), (2, 3, 4, 4), (2, 3, 16, 16), (1, 2, 3, R, R), (4,)],
)
def test_images_of_another_shape_are_refused(shape, sphere):
    for use in (sphere.encode, sphere.reconstruct, model_of("gaussian", classes=1).classify):
        with pytest.raises(ValueError, match=r"images must be \[N, 3x8x8\]: got"):
            use(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(D,), (2, D + 1), (2, 1), (2, D, 1)])
def test_latents_of_another_shape_are_refused(shape, sphere):
    with pytest.raises(ValueError, match=r"latents must be \[N, 8\]: got"):
        sphere.decode(torch.zeros(shape))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_a_classifier_answers_for_each_attribute_from_the_posteriors_mean(classes, alpha, tmp_path):
    """A third logit, of an attribute that there is not, is introvac's "fake"."""
    snapshot = make(alpha, head="gaussian", classes=classes)
    with torch.no_grad():
        expected = snapshot.nets.ema_encoder(images_of(5), alpha).mean
        expected = expected @ snapshot.nets.ema_encoder.classifier.weight[:2].T
    path = saved(tmp_path / "s.safetensors", classes=classes, alpha=alpha)
    for model in (Model(snapshot), pgvae.load(path)):
        logits = model.classify(images_of(5))
        assert model.classifies
        assert (logits.shape, logits.dtype) == ((5, 2), torch.float32)
        assert not logits.requires_grad
        torch.testing.assert_close(logits, expected)


def test_a_model_without_a_classifier_says_so(model):
    assert not model.classifies
    with pytest.raises(ValueError, match="pioneer has no classifier: train vac or introvac"):
        model.classify(images_of(2))


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("count", [2, 4])
def test_between_images_the_ends_or_corners_are_their_reconstructions(model, count, steps):
    images = images_of(count)
    between = model.interpolate(images, steps)
    assert between.shape == (steps ** (count // 2), 3, R, R)
    ends = [0, steps - 1, steps * (steps - 1), steps * steps - 1][:count]
    again = model.reconstruct(images)
    torch.testing.assert_close(between[ends], again, rtol=1e-4, atol=1e-4)


def test_the_way_between_is_straight_for_a_gaussian_and_round_on_a_sphere(monkeypatch):
    for head in HEADS:
        model = model_of(head)
        a, b = model.encode(images_of(2))
        monkeypatch.setattr(model, "decode", lambda z: z)
        middle = model.interpolate(images_of(2), steps=3)[1]
        expected = (a + b) / 2
        if head == "sphere":
            expected = expected / expected.norm()
        torch.testing.assert_close(middle, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("count", "steps"), [(1, 8), (3, 8), (5, 8), (0, 8), (2, 1), (4, 0)])
def test_interpolation_needs_two_or_four_images_and_two_steps(count, steps, sphere):
    with pytest.raises(ValueError, match="2 or 4 images"):
        sphere.interpolate(images_of(count), steps)


@pytest.mark.parametrize(("count", "steps"), [(3, 8), (0, 8), (2, 1), (2, 0)])
def test_a_way_needs_two_or_four_latents_and_two_steps(count, steps, sphere):
    with pytest.raises(ValueError, match="2 or 4 images or latents"):
        sphere.between(torch.ones(count, sphere.latent_dim), steps)


def test_steps_that_are_no_whole_number_are_refused(sphere):
    latents = torch.eye(sphere.latent_dim)[:2]
    for way in (sphere.between, sphere.walk):
        with pytest.raises(InputError, match=r"steps is 2\.5: use a whole number"):
            way(latents, 2.5)


def test_latents_beyond_the_numbers_of_the_networks_are_refused(sphere):
    latents = torch.full((1, sphere.latent_dim), -1e300, dtype=torch.float64)
    with pytest.raises(InputError, match=r"latents go from -1e\+300 .*: give finite floats"):
        sphere.decode(latents)


def test_devices_that_are_not_here_are_refused():
    for name in ("foo", "meta"):
        with pytest.raises(InputError, match=f"unknown device '{name}'"):
            pick_device(name)
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(InputError, match=f"{missing} is not here.*--device cpu"):
        pick_device(missing)


def test_a_gpu_of_apples_is_taken_where_there_is_one(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=there: there)
        if there:
            assert pick_device("mps").type == "mps"
            assert pick_device("auto").type != "mps"
        else:
            with pytest.raises(InputError, match=r"mps is not here.*Apple's; use --device cpu"):
                pick_device("mps")


def test_auto_takes_what_there_is():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_newest_snapshot_that_is_a_link_to_nowhere_is_refused_and_not_waited_for(tmp_path):
    saved(tmp_path / "snapshot-000000060.safetensors")
    (tmp_path / "snapshot-000000080.safetensors").symlink_to("/not-mounted/x.safetensors")
    with pytest.raises(InputError, match=r"no such snapshot: .*080"):
        pgvae.load(tmp_path)


@pytest.mark.parametrize("error", [InputError("no such snapshot"), FileNotFoundError(2, "gone")])
def test_where_a_run_deletes_its_snapshot_meanwhile_the_newer_one_is_loaded(
    error, tmp_path, monkeypatch
):
    saved(tmp_path / "snapshot-000000060.safetensors")
    real = snapshot_module.load_snapshot

    def load_snapshot(path):
        if "060" in path.name:
            path.replace(tmp_path / "snapshot-000000080.safetensors")
            raise error
        return real(path)

    monkeypatch.setattr(snapshot_module, "load_snapshot", load_snapshot)
    assert pgvae.load(tmp_path).path.name == "snapshot-000000080.safetensors"
    named = saved(tmp_path / "snapshot-000000060.safetensors")
    with pytest.raises(type(error)):  # of a file that was named itself
        pgvae.load(named)
