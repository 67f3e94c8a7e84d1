"""A request: one value from a command line, from Python, or from a run directory."""

import dataclasses
import json
from pathlib import Path
from typing import get_args, get_origin

import pytest

from pgvae.cli.train import train
from pgvae.errors import CorruptFileError, InputError
from pgvae.objectives import OBJECTIVES
from pgvae.request import FREE, Request, helps, kinds
from pgvae.training import start
from pgvae.values import metavar, option

# A value that each option can have, by its type; and for those that not every value fits.
VALUES = {bool: True, int: 8, float: 0.5, str: "some"}
FITTING = {
    "objective": "vae",
    "arch": "residual",
    "encoder_norm": "batch",
    "generator_norm": "spectral",
    "precision": "bf16",
    "optimizer": "muon",
    "device": "cuda:1",
    "tracker": "none",
    "settings": ("beta_kl=0.5", "rec@8=l1"),
    "label_thresholds": (0.25, 0.75),
    "dataset": "my photos-2.0",
    "size": "8x6",
}


def value_of(name: str) -> object:
    """A value for an option."""
    kind = kinds()[name]
    if get_origin(kind) is tuple:
        return FITTING.get(name, (VALUES[get_args(kind)[0]],) * 2)
    return FITTING.get(name, VALUES[kind])


WHOLE = Request(**{name: value_of(name) for name in kinds()})


def parsed(words: tuple[str, ...]) -> Request:
    """What the command line makes of words."""
    options = train.make_context("train", list(words)).params
    return Request(**{name: value for name, value in options.items() if name != "dry_run"})


def test_an_option_is_named_once_and_the_command_line_has_them_all():
    assert list(kinds()) == [field.name for field in dataclasses.fields(Request)]
    declared = [param.opts[0] for param in train.params]
    assert declared == [*map(option, kinds()), "--dry-run"]
    assert kinds().keys() > FREE


def test_every_option_has_a_help_and_a_default_is_named():
    assert helps().keys() == kinds().keys()
    for name, text in helps().items():
        no_default = name in ("dataset", "settings", "balance", "resume", "init_from")
        assert ("[default: " in text) != no_default, name
        assert metavar(name) is None or metavar(name).strip()


def test_objectives_are_those_that_there_are():
    assert helps()["objective"]
    assert list(OBJECTIVES) == metavar("objective").split("|")
    assert all(kind.name == name for name, kind in OBJECTIVES.items())


@pytest.mark.parametrize("name", kinds())
def test_each_option_comes_back_from_its_words(name):
    request = Request(**{name: value_of(name)})
    assert parsed(request.words()) == request


def test_all_options_together_come_back_from_their_words():
    assert parsed(WHOLE.words()) == WHOLE
    assert parsed(()) == Request()
    assert Request(mirror=False).words() == ("--no-mirror",)
    assert parsed(("--resume",)).resume == "newest"
    assert parsed(("--resume", "runs/a", "--lr", "1")).resume == "runs/a"


def test_a_batch_and_a_rate_are_one_value_or_one_of_a_stage(tmp_path):
    request = Request(batch={16: 64, 32: 32}, lr={64: 1, 128: 0.0005})
    assert request.words() == ("--batch", "16:64,32:32", "--lr", "64:1,128:0.0005")
    assert parsed(request.words()) == request
    assert (request.values_of("batch"), Request().values_of("batch")) == ((64, 32), ())
    (tmp_path / "request.json").write_text(request.to_json())
    assert Request.read(tmp_path / "request.json") == request
    (tmp_path / "request.json").write_text('{"batch": 4, "lr": 0.5}')  # as it was before
    assert Request.read(tmp_path / "request.json") == Request(batch=4, lr=0.5)


def test_a_request_comes_back_from_its_file(tmp_path):
    (tmp_path / "request.json").write_text(WHOLE.to_json())
    assert Request.read(tmp_path / "request.json") == WHOLE


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", '{"lr": "x"}', '{"lr": true}', '{"lrr": 1}', '{"settings": "a=1"}',
     '{"lr": NaN}', '{"batch": 1.5}', "[" * 5000, '{"metrics": [1]}', '{"lr": {}}'],
)  # fmt: skip
def test_a_file_that_is_no_request_is_refused(text, tmp_path):
    (tmp_path / "request.json").write_text(text)
    with pytest.raises(CorruptFileError):
        Request.read(tmp_path / "request.json")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        Request.read(tmp_path / "request.json")


def test_what_a_run_keeps_holds_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Request(data_root="sets", init_from="a.safetensors", resume="newest").recorded()
    assert kept.data_root == str(tmp_path / "sets")
    assert kept.init_from == str(tmp_path / "a.safetensors")
    assert kept.resume is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lr": "fast"}, "--lr 'fast': give a value of type float"),
        ({"batch": 2.5}, "--batch 2.5: give a value of type int"),
        ({"mirror": 1}, "--mirror 1: give a value of type bool"),
        ({"settings": "beta_kl=1"}, "--set 'beta_kl=1': give a tuple"),
        ({"batch": {64: 2.5}}, "--batch 2.5: give a value of type int"),
        ({"batch": {64: 0}}, "--batch 0: use 1 or more"),
        ({"lr": {"some": 1.0}}, "--lr some: name a resolution, such as 64"),
        ({"seed": {64: 1}}, "--seed {64: 1}: give a value of type int"),
        ({"metrics": ("swd", 3)}, "--metrics 3: give a value of type str"),
    ],
)
def test_from_python_a_wrong_type_is_refused_by_name(given, words):
    with pytest.raises(InputError) as caught:
        Request(**given)
    assert str(caught.value) == words


def test_from_python_paths_lists_and_whole_numbers_are_taken():
    request = Request(dataset=Path("photos"), lr=1, metrics=["swd", "psnr"], balance=())
    assert (request.dataset, request.lr, request.metrics) == ("photos", 1.0, ("swd", "psnr"))
    assert request.balance is None
    assert json.dumps(request.asked())


@pytest.mark.parametrize("begin", [start.train, start.dry_run])
def test_training_takes_a_request_alone(begin):
    with pytest.raises(InputError, match="training takes a Request: got 'mine'; give Request"):
        begin("mine")
