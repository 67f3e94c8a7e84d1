"""What a loaded model promises."""

import math

import pytest
import torch

import pgvae
from pgvae.config import ModelConfig
from pgvae.errors import InputError
from pgvae.inference import Model, pick_device
from pgvae.inference import model as model_module
from pgvae.inference.paths import slerp
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot, save_snapshot

D, R = 8, 16


def make(head: str = "sphere", alpha: float = 1.0, channels: int = 3, classes: int = 0) -> Snapshot:
    """A snapshot at 16 px whose average differs from its generator."""
    config = ModelConfig(
        resolution=32,
        latent_dim=D,
        fmap_max=8,
        head=head,
        encoder_norm="equalized",
        channels=channels,
        classes=classes,
    )
    nets = build_nets(config, R, fading=alpha < 1, seed=1)
    nets.ema.load_state_dict(build_nets(config, R, fading=alpha < 1, seed=2).generator.state_dict())
    mean = torch.zeros(channels, R, R)
    return Snapshot(nets, config, alpha, 1000, {"name": "age"}, ("glasses",), "tiny", mean)


def images_of(count: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, R, R, generator=rng) * 2 - 1


@pytest.fixture(params=[("sphere", 1.0), ("gaussian", 1.0), ("sphere", 0.3), ("gaussian", 0.3)])
def model(request) -> Model:
    head, alpha = request.param
    return Model(make(head, alpha))


@pytest.fixture
def sphere() -> Model:
    return Model(make())


def test_a_model_says_what_it_is(model):
    assert (model.resolution, model.latent_dim) == (R, D)
    assert model.config.resolution == 32
    assert model.attributes == ("glasses",)
    assert (model.dataset, model.objective, model.images_seen) == ("tiny", {"name": "age"}, 1000)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shapes_and_ranges(model, count):
    codes = model.encode(images_of(count))
    assert (codes.shape, codes.dtype) == ((count, D), torch.float32)
    for images in (model.decode(codes), model.reconstruct(images_of(count)), model.sample(count)):
        assert images.shape == (count, 3, R, R)
        assert images.isfinite().all()
        assert images.abs().max() <= 1
        assert not images.requires_grad


def test_decoding_clamps_what_the_generator_gives_beyond_the_range(sphere):
    sphere.generator.rgb[str(R)].bias.fill_(50.0)
    assert (sphere.decode(torch.eye(D)) == 1).all()


def test_codes_of_a_sphere_model_have_unit_norm(sphere):
    norms = sphere.encode(images_of(6)).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(6))


def test_codes_of_a_gaussian_model_are_the_mean():
    snapshot = make("gaussian")
    mean, logvar = snapshot.nets.encoder(images_of(3))
    assert logvar.shape == (3, D)
    torch.testing.assert_close(Model(snapshot).encode(images_of(3)), mean.detach())


def test_a_reconstruction_is_the_decoded_code(model):
    images = images_of(3)
    assert torch.equal(model.reconstruct(images), model.decode(model.encode(images)))


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


def test_samples_repeat_by_seed(model):
    assert torch.equal(model.sample(5, seed=3), model.sample(5, seed=3))
    assert not torch.equal(model.sample(5, seed=3), model.sample(5, seed=4))


def test_samples_come_from_the_prior(monkeypatch):
    for head in ("sphere", "gaussian"):
        model, seen = Model(make(head)), []
        monkeypatch.setattr(model, "decode", lambda z, seen=seen: seen.append(z) or z)
        model.sample(2000, seed=0)
        [latents] = seen
        squares = latents.square().sum(dim=1)
        if head == "sphere":
            torch.testing.assert_close(squares, torch.ones(2000))
        else:  # chi-squared with d degrees: mean d, variance 2d
            assert abs(squares.mean() - D) < 4 * math.sqrt(2 * D / 2000)


def test_splitting_into_batches_changes_nothing(model, monkeypatch):
    whole = model.sample(7, seed=0), model.reconstruct(images_of(7)), model.encode(images_of(7))
    monkeypatch.setattr(model_module, "_BATCH_PIXELS", 2 * R * R)
    parts = model.sample(7, seed=0), model.reconstruct(images_of(7)), model.encode(images_of(7))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_snapshot_in_mid_fade_decodes_and_encodes_at_its_alpha(alpha, tmp_path):
    snapshot = make(alpha=alpha)
    codes, images = torch.eye(D), images_of(2)
    expected = snapshot.nets.ema(codes, alpha).clamp(-1, 1).detach()
    code = snapshot.nets.encoder(images, alpha).mean.detach()
    save_snapshot(tmp_path / "s.safetensors", snapshot)
    model = pgvae.load(tmp_path / "s.safetensors")
    assert model.alpha == alpha
    torch.testing.assert_close(model.decode(codes), expected)
    torch.testing.assert_close(model.encode(images), code)


def test_grey_models_work():
    model = Model(make(channels=1))
    assert model.reconstruct(images_of(2, channels=1)).shape == (2, 1, R, R)
    with pytest.raises(ValueError, match="1x16x16"):
        model.encode(images_of(2))


@pytest.mark.parametrize(
    "shape",
    [(3, R, R), (2, 1, R, R), (2, 3, R, 8), (2, 3, 8, 8), (2, 3, 32, 32), (1, 2, 3, R, R), (4,)],
)
def test_images_of_another_shape_are_refused(shape, sphere):
    with pytest.raises(ValueError, match=r"images must be \[N, 3x16x16\]: got"):
        sphere.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match="images must be"):
        sphere.reconstruct(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(D,), (2, D + 1), (2, 1), (2, D, 1)])
def test_latents_of_another_shape_are_refused(shape, sphere):
    with pytest.raises(ValueError, match=r"latents must be \[N, 8\]: got"):
        sphere.decode(torch.zeros(shape))


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_a_classifier_answers_for_each_attribute_from_the_posteriors_mean(classes, alpha):
    """A second logit, of an attribute that there is not, is introvac's "fake"."""
    snapshot = make("gaussian", alpha, classes=classes)
    weight = snapshot.nets.encoder.classifier.weight
    expected = snapshot.nets.encoder(images_of(5), alpha).mean @ weight[:1].T
    model = Model(snapshot)
    logits = model.classify(images_of(5))
    assert model.classifies
    assert (logits.shape, logits.dtype) == ((5, 1), torch.float32)
    assert not logits.requires_grad
    torch.testing.assert_close(logits, expected.detach())


def test_a_model_without_a_classifier_says_so(model):
    assert not model.classifies
    with pytest.raises(ValueError, match="objective age has no classifier: train vac or introvac"):
        model.classify(images_of(2))


def test_a_classifier_refuses_images_of_another_shape():
    with pytest.raises(ValueError, match=r"images must be \[N, 3x16x16\]: got"):
        Model(make("gaussian", classes=1)).classify(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_between_two_images_the_ends_are_their_reconstructions(model, steps):
    images = images_of(2)
    strip = model.interpolate(images, steps)
    assert strip.shape == (steps, 3, R, R)
    again = model.reconstruct(images)
    torch.testing.assert_close(strip[[0, -1]], again, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 5])
def test_the_corners_of_a_grid_are_the_reconstructions(model, steps):
    images = images_of(4)
    grid = model.interpolate(images, steps)
    assert grid.shape == (steps * steps, 3, R, R)
    corners = [0, steps - 1, steps * (steps - 1), steps * steps - 1]
    torch.testing.assert_close(grid[corners], model.reconstruct(images), rtol=1e-4, atol=1e-4)


def test_the_way_between_is_straight_for_a_gaussian_and_round_on_a_sphere(monkeypatch):
    for head in ("gaussian", "sphere"):
        model = Model(make(head))
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


def test_equal_images_interpolate_to_themselves(sphere):
    image = images_of(1)
    strip = sphere.interpolate(image.expand(2, -1, -1, -1), steps=5)
    torch.testing.assert_close(strip, sphere.reconstruct(image).expand(5, -1, -1, -1))


def unit(count: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, D, generator=rng), dim=1)


def test_slerp_begins_and_ends_at_its_ends():
    a, b = unit(50, 0), unit(50, 1)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)


def test_slerp_moves_by_equal_angles_on_the_sphere():
    a, b = unit(20, 2), unit(20, 3)
    points = torch.stack([slerp(a, b, t) for t in torch.linspace(0, 1, 9)]).double()
    torch.testing.assert_close(points.norm(dim=-1), torch.ones(9, 20).double(), atol=1e-5, rtol=0)
    angles = torch.acos((points[1:] * points[:-1]).sum(dim=-1).clamp(-1, 1))
    total = torch.acos((a.double() * b.double()).sum(dim=-1))
    torch.testing.assert_close(angles, (total / 8).expand(8, 20), atol=1e-4, rtol=0)


@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_slerp_of_nearly_equal_and_opposite_vectors_is_finite(distance, sign):
    a = unit(20, 4)
    b = sign * torch.nn.functional.normalize(a + distance * unit(20, 5), dim=1)
    for ratio in torch.linspace(0, 1, 7):
        point = slerp(a, b, ratio)
        assert point.isfinite().all()
        if sign > 0:
            assert (point - a).norm(dim=1).max() <= distance + 1e-3
    torch.testing.assert_close(slerp(a, b, 0.0), a, atol=1e-4, rtol=0)
    torch.testing.assert_close(slerp(a, b, 1.0), b, atol=1e-4, rtol=0)


def test_opposite_images_decode_to_finite_pictures(sphere):
    code = unit(1, 6)
    middle = slerp(code, -code, 0.5)
    assert sphere.decode(middle).isfinite().all()


def test_devices_that_are_not_here_are_refused():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="unknown device 'foo'"):
        pick_device("foo")
    with pytest.raises(InputError, match="unknown device 'meta'"):
        pick_device("meta")
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(InputError, match=f"{missing} is not here.*--device cpu"):
        pick_device(missing)


def test_auto_takes_what_there_is():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
