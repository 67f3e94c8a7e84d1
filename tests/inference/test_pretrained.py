"""A model as a folder, and on a hub."""

import dataclasses
import inspect
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from snapshots import a_prior, make

from pgvae.errors import CorruptFileError, InputError
from pgvae.inference import Directions, Model, directions_path, hub, load, save_directions
from pgvae.nn import build_nets
from pgvae.snapshot import load_snapshot, save_snapshot

FIGURES = {"psnr": {"label": "PSNR, dB", "value": 21.5, "floor": 11.0}, "odd|": {"value": None}}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(dataclasses.replace(make(), prior=a_prior(8)))


@pytest.fixture
def given(model, tmp_path) -> Path:
    """A folder of the model."""
    images = model.sample(3, seed=5)
    model.save_pretrained(tmp_path / "m", licence="cc-by-4.0", figures=FIGURES, images=images)
    return tmp_path / "m"


def same(one: Model, other: Model) -> bool:
    images = one.sample(3, seed=1)
    again = other.sample(3, seed=1)
    return torch.equal(images, again) and torch.equal(
        one.reconstruct(images), other.reconstruct(images)
    )


def test_a_model_comes_back_from_its_folder_and_from_the_file_in_it(model, given):
    for source in (given, str(given), given / "model.safetensors"):
        assert same(Model.from_pretrained(source), model)
    again = load(given)
    for name in ("config", "attributes", "dataset", "images_seen", "alpha", "objective"):
        assert getattr(again, name) == getattr(model, name)
    assert torch.equal(again.mean_image, model.mean_image)
    assert again.default_prior == model.default_prior == "fitted"


def test_without_images_there_is_no_picture_of_pairs(model, given):
    assert (given / "reconstructions.png").exists()
    model.save_pretrained(given, images=model.sample(3)[:0])
    assert not (given / "reconstructions.png").exists()
    assert "as they come back" not in (given / "README.md").read_text()


def test_its_file_is_a_snapshot_of_half_the_size(given, tmp_path):
    save_snapshot(tmp_path / "whole.safetensors", dataclasses.replace(make(), prior=a_prior(8)))
    files = given / "model.safetensors", tmp_path / "whole.safetensors"
    half, whole = (file.stat().st_size for file in files)
    assert 0.4 < half / whole < 0.65
    parts = load_snapshot(given / "model.safetensors").nets.parts()
    weights = {part: net.state_dict() for part, net in parts.items()}
    for average, network in (("ema", "generator"), ("ema_encoder", "encoder")):
        for name, tensor in weights[average].items():
            assert torch.equal(tensor, weights[network][name])
            assert tensor.data_ptr() != weights[network][name].data_ptr()  # one may be trained


def test_the_card_says_what_it_is(given):
    names = ["README.md", "config.json", "model.safetensors", "reconstructions.png", "samples.png"]
    assert sorted(path.name for path in given.iterdir()) == names
    text = (given / "README.md").read_text(encoding="utf-8")
    for words in (
        'license: "cc-by-4.0"\nlibrary_name: pgvae',
        "| trained on | faces, 12,345 images seen |",
        "| PSNR, dB | 21.5 | 11 |\n| odd\\| | – | – |",
        "](samples.png)",
        "](reconstructions.png)",
        "## Licence\n\ncc-by-4.0\n",
    ):
        assert words in text
    assert json.loads((given / "config.json").read_text())["model"]["latent_dim"] == 8
    code = re.search("```python\n(.*?)```", text, re.DOTALL)[1]
    code = code.replace("FOLDER", str(given)).replace("reconstruct(picture)", "reconstruct(images)")
    exec(code, {})


def test_without_figures_pictures_and_licence_the_card_says_so(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    text = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert "None were measured." in text
    assert "Not stated: ask whoever made it" in text
    assert 'license: "unknown"' in text
    assert "reconstructions.png" not in text


@pytest.mark.parametrize("figures", [3, {"psnr": 3}, ["psnr"]])
def test_figures_that_are_none_are_refused_before_anything_is_written(model, tmp_path, figures):
    with pytest.raises(InputError, match=r"figures are .*: give them as `Evaluation.to_dict` has"):
        model.save_pretrained(tmp_path / "m", figures=figures)
    assert not (tmp_path / "m").exists()


def test_a_licence_breaks_no_header(model, tmp_path):
    model.save_pretrained(tmp_path / "m", licence='a: "b"\n---\n<script>')
    text = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert text.splitlines()[1] == 'license: "a: \\"b\\"\\n---\\n<script>"'
    assert text.count("\n---\n") == 1
    assert '## Licence\n\na: "b" --- &lt;script>\n' in text


def test_directions_go_along(given, tmp_path):
    path = given / "model.safetensors"
    weight = torch.eye(8)[:1].contiguous()
    save_directions(directions_path(path), Directions(("big",), weight, torch.zeros(1)), path)
    again = load(given)
    again.save_pretrained(tmp_path / "copy")
    copy = load(tmp_path / "copy")
    assert "big" in copy.directions.names
    images = copy.sample(2)
    assert torch.equal(copy.edit(images, "big"), again.edit(images, "big"))


@pytest.mark.parametrize("same_networks", [True, False])
def test_directions_and_pictures_of_another_model_do_not_stay(model, given, same_networks):
    path = given / "model.safetensors"
    found = Directions(("big",), torch.eye(8)[:1].contiguous(), torch.zeros(1))
    save_directions(directions_path(path), found, path)
    other = Model(dataclasses.replace(make(), nets=build_nets(make().config, 8, seed=9)))
    (model if same_networks else other).save_pretrained(given, licence="mit")
    assert directions_path(path).is_file() == same_networks
    again = load(given)
    assert again.estimated is None or again.estimated.names == ("big",)
    assert not (given / "reconstructions.png").exists()


def test_what_is_damaged_or_not_there_is_refused(given, tmp_path):
    data = (given / "model.safetensors").read_bytes()
    (given / "model.safetensors").write_bytes(data[:-9])
    with pytest.raises(CorruptFileError, match="truncated"):
        Model.from_pretrained(given)
    with pytest.raises(InputError, match=r"no such snapshot: no\.safetensors"):
        Model.from_pretrained("no.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no snapshot-\*.safetensors in"):
        Model.from_pretrained(tmp_path / "empty")


def test_a_folder_that_cannot_be_written_is_one_line(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file: .*; use another folder"):
        model.save_pretrained(tmp_path / "file")


def test_a_folder_of_other_things_is_left_alone_and_one_of_a_model_is_written_anew(model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("of a run")
    with pytest.raises(InputError, match="run has other files: use a new or empty folder"):
        model.save_pretrained(run)
    assert [(path.name, path.read_text()) for path in run.iterdir()] == [
        ("config.json", "of a run")
    ]
    (tmp_path / "m" / ".git").mkdir(parents=True)
    for licence in ("mit", "cc0-1.0"):
        model.save_pretrained(tmp_path / "m", licence=licence)
        assert f'license: "{licence}"' in (tmp_path / "m" / "README.md").read_text()


def test_what_a_kill_left_of_a_folder_is_written_anew_and_nothing_else(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    for lost in ("README.md", "samples.png", "config.json"):  # the last ones that are written
        (tmp_path / "m" / lost).unlink()
        model.save_pretrained(tmp_path / "m")
        assert (tmp_path / "m" / lost).exists()
    left = tmp_path / "m" / ".samples.png.4194304999.tmp"  # of no process that can be
    left.touch()
    model.save_pretrained(tmp_path / "m")
    assert not left.exists()
    (tmp_path / "m" / "README.md").unlink()
    (tmp_path / "m" / "model.safetensors").write_bytes(b"another program's")
    with pytest.raises(InputError, match="m has other files"):
        model.save_pretrained(tmp_path / "m")


def test_a_model_is_moved_to_a_device(monkeypatch):
    monkeypatch.setattr("pgvae.inference.device._KNOWN", ("meta",))  # which every machine has
    model = Model(make()).to("meta")
    assert model.device == torch.device("meta")
    for net in (model.encoder, model.generator):
        assert {p.device.type for p in net.parameters()} == {"meta"}
    assert model.mean_image.device.type == "meta"


# The hub


class FakeHub:
    """Stands for huggingface_hub: repositories are folders."""

    def __init__(self, root: Path) -> None:
        self.root, self.private = root, {}
        self.HfApi = lambda: self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        if repo_id.startswith("forbidden/"):
            raise PermissionError("403\nForbidden")
        self.private[repo_id] = private
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return f"https://hub/{repo_id}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: list, commit_message: str
    ) -> None:
        assert commit_message
        for pattern in allow_patterns:
            for path in folder_path.glob(pattern):
                shutil.copy(path, self.root / repo_id)

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: list) -> str:
        if not (self.root / repo_id).is_dir():
            raise OSError(f"{repo_id} is not there")
        place = self.root / "cache" / repo_id
        place.mkdir(parents=True)
        for pattern in allow_patterns:
            for path in (self.root / repo_id).glob(pattern):
                shutil.copy(path, place)
        return str(place)


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.chdir(tmp_path)
    return fake


def test_a_model_goes_to_a_hub_and_comes_back(model, fake):
    assert model.push_to_hub("me/faces", private=True, licence="mit") == "https://hub/me/faces"
    assert fake.private == {"me/faces": True}
    assert "## Licence\n\nmit" in (fake.root / "me/faces/README.md").read_text(encoding="utf-8")
    assert same(Model.from_pretrained("me/faces"), model)
    names = {path.name for path in (fake.root / "cache/me/faces").iterdir()}
    assert names == {"model.safetensors", "config.json"}


def test_a_hub_gets_what_was_written_and_nothing_else_of_the_folder(given, fake):
    written = {path.name for path in given.iterdir()}
    (given / "notes.txt").write_text("private")
    (given / "directions-model.safetensors").touch()
    hub.push(given, "me/faces")
    uploaded = {path.name for path in (fake.root / "me/faces").iterdir()}
    assert uploaded == written | {"directions-model.safetensors"}


def test_what_is_here_goes_before_a_hub(model, fake):
    model.save_pretrained(Path("me/faces"))
    assert same(Model.from_pretrained("me/faces"), model)
    assert not (fake.root / "cache").exists()


@pytest.mark.usefixtures("fake")
def test_what_a_hub_refuses_is_one_line(model, given):
    with pytest.raises(InputError, match="the hub did not take forbidden/faces: 403 Forbidden"):
        model.push_to_hub("forbidden/faces")
    with pytest.raises(InputError, match="the hub did not give me/none: me/none is not there"):
        Model.from_pretrained("me/none")
    with pytest.raises(InputError, match="'faces' is no repository of a hub: give OWNER/NAME"):
        model.push_to_hub("faces")
    (given / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        hub.push(given, "me/faces")


def test_without_its_package_a_hub_is_refused(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'pgvae\[hub\]'"):
        model.push_to_hub("me/faces")


@pytest.mark.parametrize("name", ["create_repo", "upload_folder", "snapshot_download"])
def test_the_package_takes_what_its_fake_does(name):
    real = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    function = getattr(real if name == "snapshot_download" else real.HfApi, name)
    own = inspect.signature(getattr(FakeHub, name)).parameters
    assert {*own} - {"self"} <= {*inspect.signature(function).parameters}


def test_a_model_without_an_encoder_comes_back_without_its_discriminator(tmp_path):
    model = Model(make(encoder=False, discriminator="image"))
    model.save_pretrained(tmp_path / "m")
    again = Model.from_pretrained(tmp_path / "m")
    assert torch.equal(again.sample(2), model.sample(2))
    assert not again.encodes
    assert again.config == dataclasses.replace(model.config, discriminator="none")
    assert "without an encoder" in (tmp_path / "m" / "README.md").read_text()
