"""`pgvae convert pioneer`: what it says, writes and refuses."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from pioneer_checkpoints import make, smooth_images

import pgvae
from pgvae.cli.convert import convert
from pgvae.errors import InputError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(convert, ["pioneer", *map(str, arguments)])


def refused(folder: Path, *arguments: object) -> str:
    """The message of a command that must fail with code 2, without a word or touching anything."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    result = run(*arguments)
    assert isinstance(result.exception, InputError), result.exception
    assert (result.exception.exit_code, result.output) == (2, "")
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    return str(result.exception)


@pytest.fixture
def state(tmp_path) -> Path:
    return make(1, 0.25).write(tmp_path / "604000_state")


def test_it_says_what_it_read_and_where_it_wrote(tmp_path, state) -> None:
    out = tmp_path / "pioneer.safetensors"
    result = run(state, out)
    assert result.exception is None
    assert result.output.splitlines() == [
        "pioneer at 8 px, alpha 0.25, 604,000 images seen, 64 latent dimensions",
        "generator: pixel norm, equalized learning rates",
        "encoder's last activation: on",
        "spectral vectors: recomputed",
        str(out),
    ]
    assert pgvae.load(out).images_seen == 604_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [state.name, out.name]


def test_it_finds_the_vectors_beside_the_checkpoint(tmp_path) -> None:
    state = make(0, norm="spectral", vectors=True).write(tmp_path / "604000_state")
    result = run(state, tmp_path / "out.safetensors")
    assert "balanced_pioneer at 4 px" in result.output
    assert "generator: spectral norm" in result.output
    assert f"spectral vectors: read from {tmp_path / '604000_SNU'}" in result.output


def test_vectors_may_be_called_otherwise(tmp_path) -> None:
    state = make(0, norm="spectral", vectors=True).write(tmp_path / "604000_state")
    (tmp_path / "604000_SNU").rename(tmp_path / "vectors")
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    result = run(state, first, "--spectral-vectors", tmp_path / "vectors")
    assert f"spectral vectors: read from {tmp_path / 'vectors'}" in result.output
    (tmp_path / "vectors").rename(tmp_path / "604000_SNU")
    run(state, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("norm", ["pixel", "spectral"])
def test_the_last_activation_is_on_unless_switched_off(tmp_path, norm) -> None:
    state = make(0, norm=norm).write(tmp_path / "604000_state")
    run(state, tmp_path / "on.safetensors")
    result = run(state, tmp_path / "off.safetensors", "--no-last-activation")
    assert "encoder's last activation: off" in result.output
    on, off = (pgvae.load(tmp_path / f"{name}.safetensors") for name in ("on", "off"))
    assert (on.config.last_activation, off.config.last_activation) == (True, False)
    images = smooth_images(2, 4)
    assert not torch.allclose(on.encode(images), off.encode(images), atol=1e-2)


def test_the_training_data_can_be_named(tmp_path, state) -> None:
    run(state, tmp_path / "out.safetensors", "--dataset-name", "celeba")
    assert pgvae.load(tmp_path / "out.safetensors").dataset == "celeba"


def test_an_existing_file_is_only_replaced_by_force(tmp_path, state) -> None:
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    expected = f"{out} is there already: give another file, or --force"
    assert refused(tmp_path, state, out) == expected
    assert run(state, out, "--force").exception is None
    assert pgvae.load(out).resolution == 8


def test_a_snapshot_is_called_safetensors(tmp_path, state) -> None:
    assert "end it in .safetensors" in refused(tmp_path, state, tmp_path / "out.pt")


def test_a_folder_that_is_not_there_is_refused(tmp_path, state) -> None:
    out = tmp_path / "none" / "out.safetensors"
    for more in ([], ["--force"]):
        assert f"no such folder: {out.parent}; make it" in refused(tmp_path, state, out, *more)
    assert "no such folder" in refused(tmp_path, state, state / "out.safetensors")


def test_a_folder_in_the_place_of_the_snapshot_is_refused_even_by_force(tmp_path, state) -> None:
    out = tmp_path / "out.safetensors"
    (out / "inside").mkdir(parents=True)
    for more in ([], ["--force"]):
        assert refused(tmp_path, state, out, *more) == f"{out} is a folder: give a file"
    assert (out / "inside").is_dir()


def test_where_to_write_is_looked_at_before_what_to_read(tmp_path) -> None:
    missing, out = tmp_path / "1_state", tmp_path / "out.safetensors"
    assert "no such folder" in refused(tmp_path, missing, tmp_path / "none" / "out.safetensors")
    out.write_text("mine")
    assert "is there already" in refused(tmp_path, missing, out)
    assert "no such file" in refused(tmp_path, missing, out, "--force")


def test_nothing_is_written_of_a_damaged_checkpoint(tmp_path, state) -> None:
    state.write_bytes(state.read_bytes()[:-1000])
    out = tmp_path / "out.safetensors"
    assert "truncated" in refused(tmp_path, state, out)
    assert "no such file" in refused(tmp_path, tmp_path / "1_state", out)


def test_the_help_has_an_example() -> None:
    text = run("--help").output
    assert "Example: pgvae convert pioneer 604000_state pioneer.safetensors" in text
    assert "--no-last-activation" in text
