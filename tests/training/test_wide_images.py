"""Training on images that are not square: every objective, its weights, going on, its memory."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from runs import NO_STORE, run_to, state_after, state_bytes, tiny_config
from test_rehearsal import bytes_of_real_one

from pgvae.config import RunConfig
from pgvae.data import Store
from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES
from pgvae.objectives.base import full_size
from pgvae.objectives.introvae import IntroVae
from pgvae.objectives.soft_introvae import SoftIntroVae
from pgvae.request import Request
from pgvae.sizes import size_at
from pgvae.training.plan import Initial, plan
from pgvae.training.pool import ImagePool
from pgvae.training.rehearsal import bytes_of_iteration

BASES = [(3, 4), (4, 2)]


def with_base(config: RunConfig, base: tuple[int, int]) -> RunConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, base=base))


@pytest.fixture(scope="module")
def wide(tmp_path_factory, pictures) -> Store:
    """The pictures at 16x12."""
    root = tmp_path_factory.mktemp("wide")
    options = Options(resolution=16, base=(3, 4), workers=0)
    return prepare(folder("wide", pictures, Split(4 / 24)), options, root, say=lambda _: None)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_at_every_stage(name, base):
    model = with_base(tiny_config(NO_STORE, name), base).model
    state = state_after(160, name, model=model)
    assert state.skips.read()[0] == 0
    assert state.nets.generator.resolution == 16
    made = state.nets.generator(torch.randn(2, 8))
    assert made.shape == (2, 3, *size_at(base, 16))
    assert made.isfinite().all()


def nets_of(base: tuple[int, int]) -> SimpleNamespace:
    config = tiny_config(NO_STORE, "introvae").model
    config = dataclasses.replace(config, base=base)
    return SimpleNamespace(generator=SimpleNamespace(config=config))


@pytest.mark.parametrize("base", BASES)
def test_sums_over_pixels_count_those_of_the_final_size(base):
    nets, pixels = nets_of(base), math.prod(size_at(base, 16))
    for resolution in (4, 8, 16):
        images = torch.zeros(1, 3, *size_at(base, resolution))
        assert full_size(nets, images) * images[0, 0].numel() == pixels
    assert SoftIntroVae()._scale(nets) == 1 / (3 * pixels)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("resolution", [8, 16])
def test_introvaes_beta_weighs_an_error_as_it_does_in_a_square(base, resolution):
    """Its beta is the paper's for a resolution: the same mean error has the same loss."""
    context = SimpleNamespace(mean=torch.mean, report=lambda **_: None)

    def loss(base: tuple[int, int]) -> float:
        x = torch.zeros(2, 3, *size_at(base, resolution))
        return IntroVae(beta=0.5)._rec(nets_of(base), x, x + 0.5, context).item()

    assert loss(base) == pytest.approx(loss((4, 4)), rel=1e-6)


@pytest.mark.parametrize("cut", [44, 64, 104])
def test_two_parts_equal_the_whole_in_every_byte(cut, wide, tmp_path):
    config = with_base(tiny_config(wide), wide.base)
    for name, parts in (("whole", (0.160,)), ("parts", (cut / 1000, 0.160))):
        for until in parts:
            run_to(config, wide, tmp_path / name, until)
    assert state_bytes(tmp_path / "parts", 160) == state_bytes(tmp_path / "whole", 160)


@pytest.mark.parametrize("name", ["pioneer", "introvae", "ali"])
def test_a_rehearsal_takes_what_real_tensors_do(name):
    config = with_base(tiny_config(NO_STORE, name), (4, 2))
    real = bytes_of_real_one(config, 140, None)
    assert bytes_of_iteration(config, config.schedule.at(140)) == pytest.approx(real, rel=0.03)


def test_a_plan_has_the_ratio_of_the_set(wide):
    small = {"objective": "vae", "fmap_max": 8, "latent_dim": 8}
    config = plan(Request(dataset="wide", **small), wide)
    assert config.model.base == (3, 4)
    assert RunConfig.from_dict(config.to_dict()) == config
    assert plan(Request(dataset="wide", size="8x6", **small), wide).model.resolution == 8
    with pytest.raises(InputError, match="--size 16x16 has not the ratio of wide, 16x12 px"):
        plan(Request(dataset="wide", size="16x16", **small), wide)


def test_weights_of_another_ratio_are_refused(wide):
    from snapshots import make

    square = make()
    request = Request(dataset="wide", init_from="s", objective="vae")
    with pytest.raises(InputError, match="of images of 16 px, and those here are of 16x12 px"):
        plan(request, wide, Initial(square, ""))


def test_the_pool_is_as_large_as_for_squares_of_the_longer_side():
    pool = ImagePool()
    fakes = torch.zeros(4, 1, 256, 128)
    pool.draw(4, 256, 0, torch.device("cpu"))
    pool.replay(fakes)
    assert len(pool.images) == 100
