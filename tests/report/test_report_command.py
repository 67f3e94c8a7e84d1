"""The command that repeats a run, read by `pgvae train` itself."""

import dataclasses
import importlib
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from report_runs import config, schedule

from pgvae.config import LabelConfig, RunConfig
from pgvae.data.labels import decide
from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES
from pgvae.report.command import command_of

# `pgvae.cli.train` is the command by now, not the module that it is made in.
cli_train = importlib.import_module("pgvae.cli.train")
VALUES = np.array([[0, 0.1, 1], [1, 0.4, 0], [0, 0.6, 1], [1, 0.9, 0]], np.float32)
STORE = SimpleNamespace(
    name="faces",
    digest="0" * 64,
    channels=3,
    resolutions=(4, 8, 16, 32, 64),
    attributes=("glasses", "hat", "a beard"),
    split=lambda name: np.arange(3) if name == "train" else np.array([3]),
)
USED = [
    "",
    "--resolution 16 --mirror --seed 7 --precision bf16 --ema-kimg 2.5",
    "--resolution 64 --set lambda_x=12 --kimg-per-stage 6 --total-kimg 34 --batch 16",
    "--resolution 64 --set lambda_x=10",
    "--resolution 64 --set lambda_x@32=11.5 --set lambda_z=500 --set lambda_z@4=400",
    "--resolution 32 --no-grow --lr 0.002 --snapshot-kimg 0.5",
    "--resolution 32 --start-resolution 8 --schedule pggan --kimg-per-stage 3",
    "--resolution 32 --schedule pggan --lr 0.0001",
    "--objective balanced_pioneer --set margin=0.1 --encoder-norm equalized",
    "--objective balanced_pioneer --set margin@64=0.03 --generator-norm pixel",
    "--objective age --grow --latent-dim 64 --fmap-base 256 --fmap-max 128",
    "--objective age --grow --lr-milestones 1.5,2 --total-kimg 3",
    "--objective vae --set beta_kl=0.4 --metrics swd,psnr --snapshot-kimg 3",
    "--objective vae --metrics swd --metric-kimg 7",
    "--objective vae --arch residual",
    "--objective ae --set rec=bce",
    "--objective introvae --resolution 32 --set margin=90 --set hinge=batch",
    "--objective introvae --grow --arch pggan --pretrain-kimg 6 --total-kimg 32",
    "--objective introvae --encoder-norm batch --generator-norm batch --pretrain-kimg 0",
    "--objective introvae --arch pggan --generator-norm none --encoder-norm none",
    "--objective soft_introvae --schedule pioneer --grow",
    "--objective vac --attributes glasses --label-thresholds 0.4,0.7",
    "--objective introvac --attributes glasses,hat --balance hat --batch 4",
    "--objective introvac --attributes 'a beard' --lr-milestones 100",
    "--balance glasses --label-thresholds 0.3,0.8",
]


@pytest.fixture
def configured(monkeypatch, tmp_path):
    """From words of `pgvae train` to the config of the run that it would start."""
    found: list[RunConfig] = []

    def said(labels: LabelConfig) -> np.ndarray:
        columns = [STORE.attributes.index(name) for name in labels.attributes]
        return decide(VALUES[:, columns], labels.no_below, labels.yes_above)

    store = SimpleNamespace(**vars(STORE), said=said)
    monkeypatch.setattr(cli_train, "open_dataset", lambda *_, **__: store)
    monkeypatch.setattr(cli_train, "describe", lambda config: found.append(config) or "")

    def run(words: list[str]) -> RunConfig:
        place = ["--dry-run", "--device", "cpu", "--outdir", str(tmp_path)]
        cli_train.train.main([*words, *place], standalone_mode=False)
        return found[-1]

    return run


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("resolution", [16, 64])
def test_a_run_of_any_objective_is_repeated_by_a_short_command(configured, objective, resolution):
    words = ["--dataset", "faces", "--objective", objective, "--resolution", str(resolution)]
    labels = ["--attributes", "glasses,hat,a beard"] if OBJECTIVES[objective].needs_labels else []
    command = command_of(configured([*words, *labels]))
    assert command.words == (*words, *labels)
    assert command.missing == ()


@pytest.mark.parametrize("options", USED)
def test_a_run_with_options_is_repeated_in_every_setting(configured, options):
    wanted = configured(["--dataset", "faces", *shlex.split(options)])
    command = command_of(wanted)
    assert command.missing == ()
    assert configured(list(command.words)) == wanted


def test_a_rate_that_follows_from_the_networks_is_not_given(configured):
    words = ["--dataset", "faces", "--objective", "introvae", "--resolution", "16"]
    made = configured([*words, "--arch", "pggan", "--latent-dim", "64"])
    assert made.schedule.learning_rates == (1e-3,)
    assert command_of(made).words == (*words, "--arch", "pggan", "--latent-dim", "64")


def test_the_command_is_quoted_for_a_shell():
    command = command_of(config(dataset="my faces; rm -rf $HOME"))
    assert command.shell_words[:4] == [
        *("python", "train.py", "--dataset", "'my faces; rm -rf $HOME'")
    ]


def test_what_no_option_gives_is_said():
    plan = schedule(batch_sizes=(16, 8, 4), milestone_factor=0.1, anneal_kimg=3.0)
    made = config(schedule=plan, betas=(0.5, 0.9), ema_rampup=0.5, init_from="old.safetensors")
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, order="act_norm"))
    command = command_of(made)
    assert command.missing == (
        "order act_norm",
        "batch_sizes 16,8,4",
        "anneal_kimg 3",
        "milestone_factor 0.1",
        "the folder and the contents of old.safetensors",
        "betas 0.5,0.9",
        "ema_rampup 0.5",
    )
    assert Path(command.words[-1]).name == "old.safetensors"


def test_settings_that_only_a_fade_has_cannot_be_given():
    settings = ({}, {"lambda_x": 3.0}, {}, {}, {"lambda_x": 15.0})
    command = command_of(config(schedule=schedule(settings=settings)))
    assert command.missing == ("settings that differ between a fade and the rest of its stage",)


def test_an_objective_that_is_not_known_has_no_command():
    with pytest.raises(InputError, match="unknown objective 'gan'"):
        command_of(config(objective={"name": "gan"}))
