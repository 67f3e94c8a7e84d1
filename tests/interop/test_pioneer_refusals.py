"""What is no checkpoint of PIONEER is refused in one line, and nothing in it is run."""

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pioneer_checkpoints import make
from torch.torch_version import TorchVersion

from pgvae.errors import InputError
from pgvae.interop import read_pioneer, vectors_beside
from pgvae.interop.weights import load_weights

FIRST = "module.progression.0.conv.0.conv.weight_orig"
LAST = "module.progression.8.conv.2.conv.weight_orig"


def refused(path: Path, vectors: Path | None = None) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as caught:
        read_pioneer(path, vectors)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


class Mischief:
    """Unpickled, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path, zipped) -> None:
    checkpoint = make(0)
    checkpoint.content["alpha"] = Mischief(tmp_path / "made")
    file = checkpoint.write(tmp_path / "1_state", _use_new_zipfile_serialization=zipped)
    name = f"{os.mkdir.__module__}.mkdir"
    assert f"holds code or objects ({name}), of which nothing was run" in refused(file)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_bare_pickle_is_not_run(tmp_path, protocol) -> None:
    file = tmp_path / "1_state"
    file.write_bytes(pickle.dumps(Mischief(tmp_path / "made"), protocol=protocol))
    assert str(file) in refused(file)
    assert not (tmp_path / "made").exists()


def test_code_in_a_file_of_vectors_is_not_run(tmp_path) -> None:
    file = make(0).write(tmp_path / "1_state")
    torch.save([Mischief(tmp_path / "made")], tmp_path / "1_SNU")
    assert "1_SNU holds code" in refused(file, vectors_beside(file))
    assert not (tmp_path / "made").exists()


def test_a_module_in_a_checkpoint_is_refused_like_code(tmp_path) -> None:
    file = tmp_path / "1_state"
    torch.save(torch.nn.Linear(2, 2), file)
    assert "holds code or objects (torch.nn.modules.linear.Linear)" in refused(file)


@pytest.mark.parametrize("version", ["2.6.0", "2.9.1+cpu"])
def test_an_old_pytorch_is_asked_to_be_upgraded_before_the_file_is_opened(
    tmp_path, monkeypatch, version
) -> None:
    file = make(0).write(tmp_path / "1_state")
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    monkeypatch.setattr(torch, "load", lambda *_args, **_settings: pytest.fail("opened"))
    assert f"PyTorch {version} cannot open" in refused(file)


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.0"])
def test_a_new_pytorch_opens_it(tmp_path, monkeypatch, version) -> None:
    file = make(0).write(tmp_path / "1_state")
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    assert read_pioneer(file).images_seen == 604_000


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, zipped, share) -> None:
    file = make(0).write(tmp_path / "1_state", _use_new_zipfile_serialization=zipped)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(share * len(raw))])
    assert "truncated" in refused(file)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x04.", b"PK\x03\x04", b"{}", bytes(100)])
def test_a_file_of_something_else_is_refused(tmp_path, content) -> None:
    file = tmp_path / "1_state"
    file.write_bytes(content)
    assert "no file of PyTorch" in refused(file)


def test_a_tar_file_is_refused(tmp_path) -> None:
    file = tmp_path / "1_state"
    with tarfile.open(file, "w") as tar:
        tar.add(__file__, "storages")
    assert "no file of PyTorch" in refused(file)


def test_a_missing_file_and_a_folder_are_refused(tmp_path) -> None:
    assert refused(tmp_path / "1_state") == f"no such file: {tmp_path / '1_state'}"
    assert refused(tmp_path) == f"no such file: {tmp_path}"


@pytest.mark.parametrize("content", [[1, 2], 3.0, {}, {"epoch": 3}, torch.zeros(2)])
def test_other_checkpoints_are_refused(tmp_path, content) -> None:
    torch.save(content, tmp_path / "1_state")
    assert load_weights(tmp_path / "1_state") is not None
    assert "give a" in refused(tmp_path / "1_state")


def change(part: str, name: str, value: object) -> Callable[[dict], object]:
    return lambda content: content[part].update({name: value})


def without(part: str, name: str) -> Callable[[dict], object]:
    return lambda content: content[part].pop(name)


def settings(**values: object) -> Callable[[dict], object]:
    return lambda content: content.update(values)


NAN = torch.full((64, 64, 4, 4), float("nan"))
DAMAGED: dict[str, tuple[Callable[[dict], object], str]] = {
    "no encoder": (lambda content: content.pop("D_state_dict"), "no D_state_dict"),
    "a list for an average": (settings(G_running_state_dict=[1]), "no G_running_state_dict"),
    "no phase": (lambda content: content.pop("phase"), "at phase None"),
    "phase 9": (settings(phase=9), "phase 9"),
    "phase -1": (settings(phase=-1), "phase -1"),
    "phase 2.5": (settings(phase=2.5), "phase 2.5"),
    "alpha in words": (settings(alpha="one" * 1000), "alpha oneoneone"),
    "alpha nan": (settings(alpha=float("nan")), "alpha nan"),
    "iteration inf": (settings(iteration=float("inf")), "iteration inf"),
    "iteration beyond floats": (settings(iteration=10**400), "iteration 1000"),
    "iteration below 0": (settings(iteration=-1), "iteration -1"),
    "no weight": (without("D_state_dict", LAST), "has no progression.8.conv.2.conv.weight_orig"),
    "no bias": (without("G_state_dict", "module.to_rgb.0.bias"), "has no to_rgb.0.bias"),
    "no generator": (without("G_running_state_dict", FIRST), "is no generator of PIONEER"),
    "a word": (change("G_state_dict", FIRST, "x"), "has no progression.0.conv.0"),
    "integers": (change("G_state_dict", FIRST, torch.ones(64, 64, 4, 4).int()), "torch.int32"),
    "sparse": (change("D_state_dict", LAST, torch.ones(64, 64, 4, 4).to_sparse()), "dimensions"),
    "nan": (change("G_state_dict", FIRST, NAN), "not finite"),
    "a number": (change("G_state_dict", FIRST, torch.tensor(1.0)), "4 dimensions"),
    "narrow": (change("D_state_dict", LAST, torch.ones(64, 60, 4, 4)), "not [64, 64, 4, 4]"),
    "first narrow": (change("G_running_state_dict", FIRST, torch.ones(64, 60, 4, 4)), "[d, d, 4"),
    "other latents": (change("G_state_dict", FIRST, torch.ones(32, 32, 4, 4)), "[32, 32, 4, 4]"),
    "empty": (change("G_running_state_dict", FIRST, torch.ones(0, 0, 4, 4)), "[0, 0, 4, 4]"),
    "a gan": (change("D_state_dict", "module.linear.weight", torch.ones(2, 64)), "as a GAN"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_an_incomplete_or_misshapen_checkpoint_is_refused(tmp_path, damage) -> None:
    alter, expected = DAMAGED[damage]
    checkpoint = make(0)
    alter(checkpoint.content)
    assert expected in refused(checkpoint.write(tmp_path / "1_state"))


@pytest.mark.parametrize(
    ("norm", "old", "new"),
    [("none", ".conv.2.", ".conv.3."), ("pixel", ".conv.3.", ".conv.2.")],
    ids=["pixel norm alone", "equalized learning rates alone"],
)
def test_pixel_norm_or_equalized_learning_rates_alone_are_refused(tmp_path, norm, old, new) -> None:
    checkpoint = make(0, norm=norm)
    for part in ("G_state_dict", "G_running_state_dict"):
        tensors = checkpoint.content[part]
        checkpoint.content[part] = {name.replace(old, new): it for name, it in tensors.items()}
    assert "without the other" in refused(checkpoint.write(tmp_path / "1_state"))


def bad_vectors() -> dict[str, object]:
    good = make(0, norm="spectral", vectors=True).vectors
    assert good is not None
    return {
        "a dictionary": {"u": good},
        "too few": good[:18],
        "too many": [*good, good[0]],
        "words": ["u"] * 54,
        "too long": [torch.ones(65, 1), *good[1:]],
        "not finite": [torch.full((64, 1), float("inf")), *good[1:]],
        "zeros": [torch.zeros(64, 1), *good[1:]],
    }


@pytest.mark.parametrize("kind", bad_vectors())
def test_vectors_that_do_not_belong_to_the_checkpoint_are_refused(tmp_path, kind) -> None:
    file = make(0, norm="spectral").write(tmp_path / "1_state")
    torch.save(bad_vectors()[kind], tmp_path / "other")
    message = refused(file, tmp_path / "other")
    assert message.startswith(f"{tmp_path / 'other'}")
    assert "NNNNNN_SNU" in message


def test_missing_vectors_are_refused(tmp_path) -> None:
    file = make(0).write(tmp_path / "1_state")
    assert refused(file, tmp_path / "1_SNU") == f"no such file: {tmp_path / '1_SNU'}"
