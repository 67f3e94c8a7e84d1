"""What a model does on a GPU is what it does on a CPU."""

import pytest
import torch
from snapshots import make

from pgvae.inference import Model

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def models(monkeypatch) -> tuple[Model, Model]:
    """One model with a classifier, on both devices; convolutions in float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return tuple(Model(make(head="gaussian", classes=2), d) for d in ("cpu", "cuda"))


def both(models, do) -> None:
    ours, theirs = (do(model) for model in models)
    assert theirs.device.type == "cuda"
    torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-3, atol=1e-3)


def test_images_and_latents_agree(models):
    images = models[0].sample(4, seed=1)
    both(models, lambda model: model.sample(4, seed=1))
    both(models, lambda model: model.encode(images))
    both(models, lambda model: model.interpolate(images, steps=3))
    both(models, lambda model: model.walk(model.sample_latents(3, seed=2), steps=2))
    both(models, lambda model: model.classify(images))


@pytest.mark.parametrize("to", [None, 0.9, 0.1])
def test_edits_agree(models, to):
    images = models[0].sample(4, seed=1)
    both(models, lambda model: model.edit(images, "glasses", 2.0, to=to))


@pytest.mark.parametrize("method", ["langevin", "rejection"])
def test_conditional_samples_agree(models, method):
    def draw(model: Model) -> torch.Tensor:
        return model.sample_conditional(4, {"glasses": 1}, 20, method=method, sure=None)

    both(models, draw)
