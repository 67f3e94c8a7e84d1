"""Encoder and generator as files that run without pgvae."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np
import pytest
import torch

from pgvae.config import ModelConfig, usual_settings
from pgvae.errors import InputError
from pgvae.inference import Model
from pgvae.interop import export as export_module
from pgvae.interop.export import ENDINGS, export
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot

PARTS = ("encoder", "generator")
SIZES = (1, 2, 3, 5, 9)  # of batches, 5 the one of the export
# Networks, heads and fades, and settings that change what is computed.
MODELS = {
    "pggan": ("pggan", "sphere", 1.0, {"encoder_norm": "spectral"}),
    "pggan-fading": ("pggan", "gaussian", 0.3, {"generator_norm": "spectral"}),
    "pggan-grey": ("pggan", "sphere", 0.5, {"channels": 1, "order": "act_norm"}),
    "residual": ("residual", "gaussian", 1.0, {"encoder_norm": "batch", "generator_norm": "batch"}),
    "residual-fading": ("residual", "sphere", 0.6, {"output": "tanh"}),
}
EVERY = [(name, part) for name in MODELS for part in PARTS]
SOME = [
    ("pggan-fading", "generator"),
    ("pggan-grey", "encoder"),
    ("residual", "encoder"),
    ("residual-fading", "generator"),
]


def cases(fast: list[tuple[str, str]]) -> list:
    """All of them; those that are not `fast` marked slow."""
    return [c if c in fast else pytest.param(*c, marks=pytest.mark.slow) for c in EVERY]


def model_of(name: str) -> Model:
    """A model at 8 px with random weights."""
    arch, head, alpha, settings = MODELS[name]
    usual = {**usual_settings(arch, 16), "fmap_max": 8, **settings}
    config = ModelConfig(arch=arch, head=head, resolution=16, latent_dim=6, **usual)
    nets = build_nets(config, 8, fading=alpha < 1, seed=1)
    mean = torch.zeros(config.channels, 8, 8)
    return Model(Snapshot(nets, config, alpha, 0, {"name": "vae"}, (), "tiny", mean))


def inputs_of(model: Model, part: str, count: int) -> torch.Tensor:
    latents = model.sample_latents(count, seed=7)
    if part == "generator":
        return latents
    rng = torch.Generator().manual_seed(7)
    return torch.rand(count, model.config.channels, 8, 8, generator=rng) * 2 - 1


def outputs_of(model: Model, part: str, inputs: torch.Tensor) -> torch.Tensor:
    return model.encode(inputs) if part == "encoder" else model.decode(inputs)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "part"), cases(SOME))
def test_a_program_computes_what_the_model_does_for_any_batch(name, part, tmp_path):
    model = model_of(name)
    difference = export(model, part, "torch-export", tmp_path / "part.pt2")
    assert 0 <= difference < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["part.pt2"]
    program = torch.export.load(tmp_path / "part.pt2").module()
    for count in SIZES:
        inputs = inputs_of(model, part, count)
        assert_close(program(inputs), outputs_of(model, part, inputs))


@pytest.mark.parametrize(("name", "part"), cases([("residual", "encoder")]))
def test_onnx_computes_what_the_model_does_for_any_batch(name, part, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = model_of(name)
    assert 0 <= export(model, part, "onnx", tmp_path / "part.onnx") < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["part.onnx"]
    session = onnxruntime.InferenceSession(
        tmp_path / "part.onnx", providers=["CPUExecutionProvider"]
    )
    [source], [result] = session.get_inputs(), session.get_outputs()
    ends = ("images", "latents") if part == "encoder" else ("latents", "images")
    assert (source.name, result.name) == ends
    shapes = {"images": [model.config.channels, 8, 8], "latents": [6]}
    assert source.shape[1:] == shapes[source.name]
    assert (source.shape[0], result.shape[0]) == ("batch", "batch")  # any number
    for count in SIZES:
        inputs = inputs_of(model, part, count)
        [found] = session.run(None, {source.name: inputs.numpy()})
        assert_close(torch.from_numpy(found), outputs_of(model, part, inputs))


def test_images_of_an_exported_generator_stay_in_range(tmp_path):
    model = model_of("pggan")
    model.generator.rgb["8"].bias.fill_(50.0)
    export(model, "generator", "torch-export", tmp_path / "g.pt2")
    images = torch.export.load(tmp_path / "g.pt2").module()(inputs_of(model, "generator", 2))
    assert (images == 1).all()


def test_the_model_itself_is_as_before(tmp_path):
    model = model_of("pggan-fading")
    images = inputs_of(model, "encoder", 3)
    before = model.posterior(images), model.reconstruct(images)
    layout = [p.stride() for p in model.encoder.parameters()]
    export(model, "encoder", "torch-export", tmp_path / "encoder.pt2")
    after = model.posterior(images), model.reconstruct(images)
    assert torch.equal(before[0].mean, after[0].mean)
    assert torch.equal(before[0].logvar, after[0].logvar)
    assert torch.equal(before[1], after[1])
    assert layout == [p.stride() for p in model.encoder.parameters()]


WITHOUT = """
import sys
sys.modules["pgvae"] = None  # importing it would fail
import torch
print(*torch.export.load("encoder.pt2").module()(torch.zeros(3, 3, 8, 8)).shape)
"""


@pytest.mark.slow
def test_a_program_runs_where_there_is_no_pgvae(tmp_path):
    export(model_of("pggan"), "encoder", "torch-export", tmp_path / "encoder.pt2")
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "3 6\n"


# What goes wrong


class Written:
    """Stands for torch.export and onnxruntime, which take their time: files of nothing."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        patch.setattr(torch.export, "export", lambda *_, **__: None)
        patch.setattr(torch.export, "save", lambda _, file: file.write(b"nothing"))
        patch.setattr(export_module, "_write_onnx", lambda *words: words[-1].write_bytes(b"not"))

    def computes(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """What is read back from the file computes a function of images."""

        class Session:
            def __init__(self, path: Path, providers: list[str]) -> None:
                assert path.read_bytes() == b"not"

            def get_inputs(self) -> list[SimpleNamespace]:
                return [SimpleNamespace(name="images")]

            def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
                return [function(torch.from_numpy(given["images"])).numpy()]

        def load(file: BinaryIO) -> SimpleNamespace:
            assert file.read() == b"nothing"
            return SimpleNamespace(module=lambda: function)

        self._patch.setattr(torch.export, "load", load)
        runtime = SimpleNamespace(InferenceSession=Session)
        self._patch.setitem(sys.modules, "onnxruntime", runtime)


@pytest.fixture
def written(monkeypatch) -> Written:
    return Written(monkeypatch)


@pytest.mark.parametrize("form", ENDINGS)
def test_a_difference_above_the_tolerance_leaves_no_file(form, tmp_path, written):
    path, model = tmp_path / f"part{ENDINGS[form]}", model_of("pggan")
    written.computes(lambda images: model.encode(images) + 2e-3)
    with pytest.raises(
        RuntimeError, match=r"the exported encoder differs from the model by 0\.002"
    ):
        export(model, "encoder", form, path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"an older one")
    with pytest.raises(RuntimeError, match="differs"):
        export(model, "encoder", form, path)
    assert path.read_bytes() == b"an older one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ENDINGS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_difference_in_any_batch_counts(size, form, tmp_path, written):
    model = model_of("pggan")
    path = tmp_path / f"part{ENDINGS[form]}"
    for value, told in ((float("nan"), "nan"), (0.25, "0.25"), (float("-inf"), "inf")):

        def wrong(images: torch.Tensor, value: float = value) -> torch.Tensor:
            found = model.encode(images)
            found[-1, -1] += value if len(images) == size else 0.0
            return found

        written.computes(wrong)
        with pytest.raises(RuntimeError, match=f"differs from the model by {told}$"):
            export(model, "encoder", form, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ENDINGS)
def test_the_difference_that_is_told_is_the_largest(form, tmp_path, written):
    model, path = model_of("pggan"), tmp_path / f"part{ENDINGS[form]}"
    written.computes(lambda images: model.encode(images) - 1e-4 * len(images))
    assert export(model, "encoder", form, path) == pytest.approx(5e-4, abs=1e-6)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("form", ENDINGS)
def test_a_file_that_cannot_be_read_back_is_not_left(form, tmp_path):
    """It is the written file that is checked, and not what it was written from."""
    kind = BadZipFile
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf as kind  # noqa: N813
    with pytest.raises(kind):
        export(model_of("pggan"), "encoder", form, tmp_path / f"part{ENDINGS[form]}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_onnx_without_its_packages_says_what_to_install(package, tmp_path: Path, monkeypatch):
    for other in ("onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, other, None if other == package else torch)
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: None)  # it takes its time
    with pytest.raises(InputError, match=rf"needs the package {package}: pip install 'pgvae\[exp"):
        export(model_of("pggan"), "encoder", "onnx", tmp_path / "e.onnx")
    assert list(tmp_path.iterdir()) == []
