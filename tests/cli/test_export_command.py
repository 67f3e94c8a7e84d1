"""`pgvae export`, as a user meets it."""

import sys
from collections.abc import Callable

import pytest
import torch
from commands import contents

from pgvae.inference import load

PART = ("--part", "generator", "--format", "torch-export")


@pytest.fixture
def export(run_pgvae) -> Callable[..., int]:
    """Export pioneer's snapshot of the desk."""
    return lambda *arguments: run_pgvae("export", "--snapshot", "s.safetensors", *arguments)


def loaded(path) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.export.load(path).module()


def test_each_part_has_a_file_of_its_own_name(desk, export, capsys):
    before = contents(desk)
    for part in ("encoder", "generator"):
        assert export("--format", "torch-export", "--part", part) == 0
        told = capsys.readouterr().out
        assert told.startswith(f"{part}.pt2: at most ")
        assert told.endswith(" from the model, batches of 1, 2 and 5\n")
        assert float(told.split()[3]) < 1e-4
    assert contents(desk).keys() - before.keys() == {"encoder.pt2", "generator.pt2"}
    model = load(desk / "s.safetensors")
    images = model.sample(3, seed=1)
    torch.testing.assert_close(loaded("encoder.pt2")(images), model.encode(images))
    latents = model.sample_latents(3, seed=1)
    torch.testing.assert_close(loaded("generator.pt2")(latents), images, rtol=1e-4, atol=1e-4)


def test_onnx_is_the_usual_format(desk, export, capsys):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    assert export("--part", "generator") == 0
    assert capsys.readouterr().out.startswith("generator.onnx: at most ")
    model = load(desk / "s.safetensors")
    session = onnxruntime.InferenceSession("generator.onnx", providers=["CPUExecutionProvider"])
    latents = model.sample_latents(4, seed=1)
    [images] = session.run(["images"], {"latents": latents.numpy()})
    torch.testing.assert_close(torch.from_numpy(images), model.decode(latents), rtol=0, atol=1e-4)


def test_a_file_is_replaced_only_by_force(desk, export, rejected):
    (desk / "models").mkdir()
    (desk / "models" / "g.pt2").write_bytes(b"mine")
    message = rejected("export", "--snapshot", "s.safetensors", *PART, "--out", "models/g.pt2")
    assert "models/g.pt2 is there already" in message
    assert "--force" in message
    assert export(*PART, "--out", "models/g.pt2", "--force") == 0
    assert [path.name for path in (desk / "models").iterdir()] == ["g.pt2"]
    assert loaded("models/g.pt2")(torch.eye(8)).shape == (8, 3, 8, 8)


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_onnx_without_its_packages_is_refused(package, rejected, monkeypatch):
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: None)  # it takes its time
    for other in ("onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, other, None if other == package else torch)
    message = rejected("export", "--snapshot", "s.safetensors", "--part", "encoder")
    assert f"onnx needs the package {package}" in message
    assert "pip install 'pgvae[export]'" in message
    assert "torch-export" in message
