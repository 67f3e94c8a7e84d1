"""`pgvae train` with each objective: labels, settings, norms, grey images, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from commands import train

from pgvae.cli import main
from pgvae.data import Store
from pgvae.inference import load
from pgvae.objectives import OBJECTIVES

LABELS = ["--dataset", "faces", "--attributes", "glasses,hat"]


@pytest.fixture(autouse=True)
def labelled(workplace: Path, faces: Path) -> None:
    """The labelled set, beside the other."""
    shutil.copytree(faces, workplace / "data" / "faces")


def trained(*arguments: object) -> tuple[Path, dict]:
    """Train; -> the one run directory that there is, and its config."""
    assert train(*arguments) == 0
    [run] = Path("runs").iterdir()
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    return run, json.loads((run / "config.json").read_text())


BAD_OPTIONS = [
    ("--objective introvac", ["introvac needs labels", "tiny has none", "--labels"]),
    ("--objective vac --dataset faces", ["label 'always'", "both yes and no", "--attributes"]),
    ("--objective introvac --dataset faces --attributes always", ["label 'always'"]),
    ("--objective vac --dataset faces --attributes glases", ["'glases'", "mean 'glasses'?"]),
    (
        "--objective vac --dataset faces --attributes glasses,hatt",
        ["'hatt'", "mean 'hat'?"],
    ),
    ("--objective vac --dataset faces --attributes glasses --balance hat", ["balance", "'hat'"]),
    ("--dataset faces --balance glases", ["balance", "'glases'", "mean 'glasses'?"]),
    ("--dataset faces --balance always", ["label 'always'", "both yes and no"]),
    ("--attributes ,", ["--attributes", "','"]),
    ("--dataset faces --balance hat --label-thresholds 0.7,0.3", ["0.7, 0.3", "lower one first"]),
    ("--label-thresholds nan,nan", ["--label-thresholds nan: use a finite number"]),
    ("--label-thresholds 0.5", ["--label-thresholds 0.5: give two numbers"]),
    ("--label-thresholds 0.1,0.5,0.9", ["0.1,0.5,0.9: give two numbers"]),
    ("--label-thresholds a,b", ["--label-thresholds", "'a'"]),
    ("--batch 1", ["--batch 1 is too small for pioneer", "use 2 or more"]),
    ("--objective as_introvae --batch 1", ["too small for as_introvae"]),
    ("--objective balanced_pioneer --set margin=-1", ["margin is -1"]),
    ("--objective introvae --set margin=-0.5", ["margin is -0.5"]),
    ("--objective balanced_pioneer --set margin@8=-1", ["margin is -1"]),
    ("--objective balanced_pioneer --set margin@7=0.1", ["@7", "resolutions are 4, 8"]),
    ("--objective balanced_pioneer --set margin@16=0.1", ["@16", "resolutions are 4, 8"]),
    ("--objective balanced_pioneer --set margin@x=0.1", ["margin@x", "resolution"]),
    ("--objective introvae --set margn=1", ["'margn'", "did you mean 'margin'?"]),
    ("--objective introvae --set hinge=both", ["hinge is 'both'", "sample", "batch"]),
    ("--objective as_introvae --set distance=kl", ["distance is 'kl'", "marginal"]),
    ("--objective soft_introvea", ["soft_introvea", "did you mean 'soft_introvae'?"]),
    ("--objective vae --pretrain-kimg 1", ["--pretrain-kimg 1.0", "vae is not pre-trained"]),
    ("--objective introvae --pretrain-kimg -1", ["--pretrain-kimg -1.0: use 0 or more"]),
    ("--objective introvae --pretrain-kimg nan", ["--pretrain-kimg nan: use a finite number"]),
    ("--objective introvae --pretrain-kimg inf", ["--pretrain-kimg inf: use a finite number"]),
    ("--encoder-norm batch", ["batch norm is for arch residual"]),
    ("--generator-norm batch", ["batch norm is for arch residual"]),
    ("--objective introvae --arch pggan --encoder-norm batch", ["for arch residual"]),
    ("--encoder-norm pixel", ["--encoder-norm", "pixel", "spectral"]),
    ("--generator-norm equalized", ["--generator-norm", "equalized", "spectral"]),
    ("--arch stylegan", ["--arch", "stylegan", "residual"]),
    ("--lr-milestones 1,0", ["--lr-milestones 0.0: use a positive number"]),
    ("--lr-milestones 1,nan", ["--lr-milestones nan: use a finite number"]),
    ("--lr-milestones x", ["--lr-milestones", "'x'"]),
]


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS, ids=[o for o, _ in BAD_OPTIONS])
def test_a_bad_option_is_refused_in_one_line(options, words, refused):
    message = refused(*options.split())
    for word in words:
        assert word in message


@pytest.mark.parametrize("option", ["--attributes", "--balance"])
def test_a_label_of_a_set_without_labels_is_refused(option, refused):
    message = refused(option, "glasses")
    assert "glasses" in message
    assert not message.endswith(("known:", "known: "))  # a list of nothing tells nothing


def test_a_loss_of_one_stage_that_needs_other_networks_is_refused(refused):
    """Binary cross entropy needs a tanh, which the networks have from the start or never."""
    assert "rec" in refused("--objective", "vae", "--set", "rec@8=bce")


# Runs


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_by_its_name(objective):
    labels = LABELS if OBJECTIVES[objective].needs_labels else []
    run, config = trained("--objective", objective, *labels, "--total-kimg", "0.016")
    assert config["objective"]["name"] == objective
    assert load(run / "snapshot-000000016.safetensors").objective["name"] == objective


def test_a_classifier_is_trained_on_chosen_labels_and_says_how_it_does(capsys):
    run, config = trained(
        *("--objective", "introvac", "--dataset", "faces", "--attributes", "hat,glasses"),
        *("--label-thresholds", "0.25,0.75", "--balance", "hat", "--grow"),
    )
    assert config["labels"] == {
        "attributes": ["hat", "glasses"],
        "no_below": 0.25,
        "yes_above": 0.75,
        "balance": ["hat"],
    }
    assert "accuracy hat" in capsys.readouterr().out
    model = load(run / "snapshot-000000096.safetensors")
    assert model.attributes == ("hat", "glasses")
    assert model.classify(model.sample(4)).shape == (4, 2)
    assert (model.config.arch, model.resolution) == ("residual", 8)


def test_a_run_is_pretrained_for_as_long_as_asked():
    run, config = trained(
        *("--objective", "introvae", "--pretrain-kimg", "0.02", "--total-kimg", "0.04"),
        *("--lr-milestones", "0.02,0.028", "--set", "margin=3"),
    )
    assert config["schedule"]["pretrain_kimg"] == 0.02
    assert config["schedule"]["milestones_kimg"] == [0.02, 0.028]
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    ticks = [line for line in lines if "lr" in line]
    assert [line["images"] for line in ticks if "pretrain/kl" in line] == [4, 8, 12, 16, 20]
    assert [line["images"] for line in ticks if "encoder/hinge_fake" in line] == [
        *(24, 28, 32, 36, 40)
    ]
    assert [line["lr"] for line in ticks] == [2e-4] * 5 + [1e-4] * 2 + [5e-5] * 3


def test_settings_of_stages_are_in_the_config_of_a_run():
    _, config = trained(
        *("--objective", "balanced_pioneer", "--set", "margin@8=0.3", "--total-kimg", "0.008")
    )
    stages = config["schedule"]["stages"]
    assert [stage["settings"] for stage in stages] == [{"margin": 0.05}, {"margin": 0.3}]
    assert [stage["fading"] for stage in stages] == [{}, {"margin": 0.3}]


@pytest.mark.parametrize("norm", ["none", "spectral", "batch"])
def test_a_run_with_other_norms_is_saved_resumed_and_loaded(norm):
    options = ["--objective", "introvae", "--encoder-norm", norm, "--generator-norm", norm]
    trained(*options, "--total-kimg", "0.02")
    run, config = trained(*options, "--total-kimg", "0.04", "--resume")
    assert config["model"]["arch"] == "residual"
    assert (config["model"]["encoder_norm"], config["model"]["generator_norm"]) == (norm, norm)
    sample = load(run / "snapshot-000000040.safetensors").sample(2)
    assert sample.isfinite().all()


def test_a_plan_of_a_classifier_is_printed(capsys):
    assert train("--objective", "introvac", *LABELS, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "objective introvac" in lines[0]
    assert lines[-1].split()[:4] == ["8", "0", "-", "4"]
    assert not Path("runs").exists()


def test_residual_networks_that_cannot_be_grown_further_are_refused(refused):
    """Below the final resolution Table 3's generator is half as wide: other weights."""
    options = ["--objective", "introvae", "--fmap-base", "32"]
    run, _ = trained(*options, "--total-kimg", "0.008")
    snapshot = run / "snapshot-000000008.safetensors"
    message = refused(*options, "--init-from", snapshot, "--grow", "--resolution", "16")
    assert "--init-from does not fit" in message


# Grey images


@pytest.fixture
def grey(pictures: Path) -> Store:
    """The pictures prepared in one channel, by the command."""
    arguments = ["prepare", pictures, "--name", "grey", "--grayscale", "--data-root", "data"]
    with pytest.raises(SystemExit) as caught:
        main(["data", *map(str, arguments)])
    assert caught.value.code == 0
    return Store("data/grey")


@pytest.mark.parametrize("arch", ["pggan", "residual"])
@pytest.mark.parametrize("objective", ["pioneer", "introvae"])
def test_grey_images_are_trained_on(objective, arch, grey):
    run, config = trained("--dataset", "grey", "--objective", objective, "--arch", arch, "--grow")
    assert (config["model"]["channels"], config["model"]["arch"]) == (1, arch)
    model = load(run / "snapshot-000000096.safetensors")
    assert model.sample(2).shape == (2, 1, 8, 8)
    assert model.mean_image.shape == (1, 8, 8)
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert lines[-1]["images"] == 96
    assert all(line.get("skipped_steps", 0) == 0 for line in lines)
