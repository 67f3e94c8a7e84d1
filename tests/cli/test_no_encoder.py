"""The commands with a model that has no encoder: what it can do, and one line for the rest."""

import json
from pathlib import Path

import pytest
from commands import train
from generated import names_in

from pgvae.cli import main
from pgvae.inference import load


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_root) -> Path:
    """A finished run of pggan on the tiny set."""
    place = tmp_path_factory.mktemp("gan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGVAE_CPU_TUNING", "0")
        asked = ("--objective", "pggan", "--metrics", "msssim", "--grow")
        assert train("--data-root", data_root, "--outdir", place, *asked) == 0
    [run] = place.iterdir()
    return run


def test_a_run_shows_samples_alone_and_says_why(trained):
    names = {path.name for path in trained.iterdir()}
    assert "fakes-000000096.png" in names
    assert not any(name.startswith("reconstructions") for name in names)
    log = (trained / "log.txt").read_text()
    assert "snapshot-000000096.safetensors: samples at 8 px; there is no encoder" in log
    assert "no prior is fitted" not in log
    assert load(trained).prior is None


def test_images_are_projected_and_that_is_said(trained, desk, generate, capsys):
    where = {"snapshot": trained}
    assert generate("reconstruct", "a.png", "b.png", "--steps", "3", **where) == 0
    told = capsys.readouterr().out
    assert (
        "pggan has no encoder: 2 images are projected, by 3 steps of optimisation from samples of "
        "seed 0\n"
    ) in told
    assert "a.png: RMSE" in told
    assert names_in(desk / "o") == [
        *(f"{stem}-{what}.png" for stem in "ab" for what in ("pair", "reconstruction")),
        "reconstructions.png",
    ]
    assert generate("reconstruct", "a.png", "b.png", "--steps", "3", out="p", **where) == 0
    same, other = (desk / folder / "a-reconstruction.png" for folder in "op")
    assert same.read_bytes() == other.read_bytes()


def test_samples_and_walks_through_them_need_no_encoder(trained, desk, generate):
    assert generate("samples", "--count", "2", snapshot=trained) == 0
    assert generate("walk", "--count", "2", "--steps", "2", snapshot=trained) == 0
    assert "walk.gif" in names_in(desk / "o")


NEEDING = [
    "generate interpolate a.png b.png",
    "generate walk a.png b.png",
    "generate encode a.png",
    "generate edit a.png --attribute glasses",
    "generate conditional --with glasses=1",
    "directions --dataset faces",
    "prior --dataset tiny",
    "export --part encoder --format torch-export",
    "evaluate --dataset tiny --metrics psnr,msssim",
]


@pytest.mark.parametrize("words", NEEDING)
def test_what_needs_an_encoder_is_one_line(trained, rejected, words):
    message = rejected(*words.split(), "--snapshot", trained)
    assert "a model of objective pggan has no encoder" in message


def test_an_encoder_is_asked_for_no_steps(rejected):
    message = rejected(
        "generate", "--snapshot", "s.safetensors", "reconstruct", "a.png", "--steps", "3"
    )
    assert message == (
        "error: --steps 3: this model has an encoder, which needs none; leave it out"
    )


def test_evaluation_leaves_out_what_needs_an_encoder(trained, run_pgvae, capsys):
    found = ("--snapshot", trained, "--dataset", "faces", "--json", "e.json", "--split", "train")
    pytest.importorskip("pytorch_msssim", reason="MS-SSIM is measured by pytorch-msssim")
    assert run_pgvae("evaluate", *found) == 0
    told = capsys.readouterr().out
    assert "pggan has no encoder: psnr, ssim, rmse, mse, latents are left out\n" in told
    assert [*json.loads(Path("e.json").read_text())["metrics"]] == ["msssim"]


def test_a_report_goes_between_samples_themselves(trained, run_pgvae, desk):
    pytest.importorskip("jinja2", reason="reports are made by Jinja2")
    pytest.importorskip("matplotlib", reason="charts are drawn by matplotlib")
    assert run_pgvae("report", trained, "--out", "r.html") == 0
    page = (desk / "r.html").read_text()
    assert "between four samples from the training prior; corners are these themselves" in page


def test_the_generator_is_exported(trained, run_pgvae):
    where = ("--format", "torch-export", "--out", "g.pt2")
    assert run_pgvae("export", "--snapshot", trained, "--part", "generator", *where) == 0


# --- what training refuses


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--objective pggan --metrics msssim,psnr",
            "psnr: a model of objective pggan has no encoder",
        ),
        ("--objective pggan --set penalty=-1", "penalty is -1"),
        ("--objective pggan --set drift=nan", "drift is nan"),
        ("--objective ali --set penalty=1", "--set penalty=1: ali has no settings"),
        ("--objective pggan --compile", "--compile: pggan differentiates gradients once more"),
        ("--objective pggan --pretrain-kimg 1", "pggan is not pre-trained"),
        ("--objective pggan --batch-gpu 2", "--batch-gpu 2: the discriminator compares images by"),
        (
            "--objective ali --arch residual --encoder-norm batch",
            "encoder_norm batch: a discriminator compares images by itself",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(refused, words, message):
    assert message in refused(*words.split())


def test_weights_with_an_encoder_do_not_start_a_pure_gan(refused, finished):
    message = refused("--objective", "pggan", "--init-from", finished)
    assert "--init-from does not fit: " in message
    assert "encoder (True there, False here)" in message


def test_help_says_what_projection_is(capsys):
    with pytest.raises(SystemExit):
        main(["generate", "reconstruct", "--help"])
    assert "found by optimisation" in " ".join(capsys.readouterr().out.split())
