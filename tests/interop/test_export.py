"""Encoder and generator as files that run without pgvae."""

import os
import subprocess
import sys
from pathlib import Path

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
    assert isinstance(source.shape[0], str)  # any number
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


@pytest.fixture
def at_once(monkeypatch) -> None:
    """The exporter takes its time: leave it out, and write files of nothing."""
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: None)
    monkeypatch.setattr(torch.export, "save", lambda _, file: file.write(b"nothing"))
    monkeypatch.setattr(export_module, "_write_onnx", lambda *words: words[-1].touch())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("form", ENDINGS)
def test_a_difference_above_the_tolerance_leaves_no_file(form, tmp_path, monkeypatch):
    path = tmp_path / f"part{ENDINGS[form]}"

    def wrong(_form, _program, _path, _source, inputs: torch.Tensor) -> torch.Tensor:
        return model.encode(inputs) + 2e-3

    model = model_of("pggan")
    monkeypatch.setattr(export_module, "_run", wrong)
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


@pytest.mark.usefixtures("at_once")
def test_a_result_that_is_no_number_is_a_difference_too(tmp_path, monkeypatch):
    model = model_of("pggan")
    monkeypatch.setattr(
        export_module, "_run", lambda *words: model.encode(words[-1]).fill_(float("nan"))
    )
    with pytest.raises(RuntimeError, match="differs from the model by nan"):
        export(model, "encoder", "torch-export", tmp_path / "e.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_onnx_without_its_packages_says_what_to_install(package, tmp_path: Path, monkeypatch):
    for other in ("onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, other, None if other == package else torch)
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: None)  # it takes its time
    with pytest.raises(InputError, match=rf"needs the package {package}: pip install 'pgvae\[exp"):
        export(model_of("pggan"), "encoder", "onnx", tmp_path / "e.onnx")
    assert list(tmp_path.iterdir()) == []
