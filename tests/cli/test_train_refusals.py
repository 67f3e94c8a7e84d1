"""What `pgvae train` refuses: in one line, with the right code, and nothing touched."""

import json
import os
import pickle
import shutil

import pytest
import torch

from pgvae.cli import main
from pgvae.training.rundir import RunDirectory

pytestmark = pytest.mark.usefixtures("workplace")

BAD_OPTIONS = [
    ("--objective pionear", ["'pionear'", "did you mean 'pioneer'?"]),
    ("--objective zzz", ["'zzz'", "pioneer", "vae"]),
    ("--resolution 100", ["100", "64 or 128"]),
    ("--resolution 2", ["2 is not a power of two", "4 to 1024"]),
    ("--resolution 2048", ["2048", "4 to 1024"]),
    ("--resolution 64", ["64 is above the data's 32", "use 32"]),
    ("--resolution abc", ["--resolution", "abc"]),
    ("--batch 0", ["--batch", "0 is not in the range x>=1"]),
    ("--batch 1", ["batch size 1 is too small for pioneer", "use 2 or more"]),
    ("--batch -3", ["--batch", "-3 is not in the range x>=1"]),
    ("--batch 2.5", ["--batch", "2.5"]),
    ("--lr nan", ["--lr", "'nan' is not a positive, finite number"]),
    ("--lr inf", ["--lr", "'inf' is not"]),
    ("--lr -1", ["--lr", "'-1' is not"]),
    ("--lr 0", ["--lr", "'0' is not"]),
    ("--lr abc", ["--lr", "abc"]),
    ("--total-kimg 0", ["--total-kimg", "positive"]),
    ("--total-kimg -1", ["--total-kimg", "positive"]),
    ("--total-kimg nan", ["--total-kimg", "positive"]),
    ("--kimg-per-stage 0", ["--kimg-per-stage", "positive"]),
    ("--kimg-per-stage inf", ["--kimg-per-stage", "positive"]),
    ("--snapshot-kimg 0", ["--snapshot-kimg", "positive"]),
    ("--ema-kimg x", ["--ema-kimg", "positive"]),
    ("--seed -1", ["--seed", "-1 is not in the range"]),
    ("--seed x", ["--seed", "x"]),
    ("--latent-dim 1", ["--latent-dim", "1 is not in the range"]),
    ("--fmap-max 0", ["--fmap-max", "0 is not in the range"]),
    ("--workers -1", ["--workers"]),
    ("--precision fp8", ["--precision", "fp8"]),
    ("--schedule fast", ["--schedule", "fast", "pggan"]),
    ("--device foo", ["unknown device 'foo'"]),
    ("--set lamda_x=1", ["'lamda_x'", "did you mean 'lambda_x'?"]),
    ("--set lambda_x=abc", ["lambda_x", "'abc' is not a number"]),
    ("--set lambda_x=-1", ["lambda_x is -1"]),
    ("--set lambda_x", ["NAME=VALUE"]),
    ("--objective vae --set rec=l3", ["rec is 'l3'", "mse"]),
    ("--objective vae --set beta_kl=nan", ["beta_kl is nan"]),
    ("--no-grow --start-resolution 4", ["--no-grow", "--start-resolution 4"]),
    ("--start-resolution 16", ["start resolution 16", "final resolution 8"]),
    ("--start-resolution 5", ["start resolution 5", "4 or 8"]),
    ("--bogus", ["--bogus"]),
    ("--init-from missing.safetensors", ["no such snapshot: missing.safetensors"]),
]


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS, ids=[o for o, _ in BAD_OPTIONS])
def test_a_bad_option_is_refused_in_one_line(options, words, refused):
    message = refused(*options.split())
    for word in words:
        assert word in message


def test_without_a_data_set_there_is_nothing_to_train_on(refused):
    assert "--dataset" in refused(alone=True)


def test_an_unknown_data_set_is_refused_with_the_nearest(refused):
    message = refused("--dataset", "tinny")
    assert "no data set 'tinny'" in message
    assert "did you mean 'tiny'?" in message
    assert "pgvae data prepare" in message


def test_an_empty_folder_is_refused(refused, workplace):
    (workplace / "empty").mkdir()
    assert "holds no images" in refused("--dataset", "empty")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_not_here_is_refused(refused):
    assert "device cuda is not here" in refused("--device", "cuda")


@pytest.mark.parametrize("outdir", ["file", "file/runs"])
def test_an_output_directory_that_cannot_be_made_is_refused(outdir, refused, workplace):
    (workplace / "file").write_text("mine")
    message = refused("--outdir", outdir)
    assert "cannot write to output directory" in message
    assert "--outdir" in message


def test_a_run_that_is_in_use_is_refused_with_its_process(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    run = RunDirectory(path)
    message = refused("--resume")
    run.close()
    assert f"in use by process {os.getpid()}" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--seed 1", ["seed: 0 there, 1 here"]),
        ("--latent-dim 16", ["model.latent_dim: 8 there, 16 here"]),
        ("--mirror --lr 0.5", ["mirror: False there, True here", "schedule.learning_rates"]),
        ("--set lambda_z=5", ["objective.lambda_z: 1000.0 there, 5.0 here"]),
    ],
)
@pytest.mark.parametrize("itself", [True, False])
def test_resuming_with_other_options_names_them(
    options, words, itself, refused, finished, workplace
):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    message = refused("--resume", "--outdir", path if itself else "runs", *options.split())
    for word in (*words, finished.name):
        assert word in message


def test_resuming_on_other_data_is_refused(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "dataset_digest": "0" * 64}))
    assert "dataset_digest" in refused("--resume")


def test_resuming_from_damaged_checkpoints_alone_is_a_corrupt_file(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    for state in path.glob("checkpoint-*/state.safetensors"):
        state.write_bytes(state.read_bytes()[:-1])
    assert "are damaged" in refused("--resume", code=3)


def test_starting_from_a_truncated_snapshot_is_refused(refused, finished, workplace):
    raw = (finished / "snapshot-000000096.safetensors").read_bytes()
    (workplace / "short.safetensors").write_bytes(raw[: len(raw) // 2])
    assert "truncated" in refused("--init-from", "short.safetensors", code=3)


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_starting_from_a_pickle_is_refused_and_nothing_is_executed(refused, workplace):
    (workplace / "model.pkl").write_bytes(pickle.dumps(Trap()))
    torch.save(Trap(), workplace / "model.pt")
    assert "is a pickle" in refused("--init-from", "model.pkl")
    assert "is a pickle" in refused("--init-from", "model.pt")
    assert not (workplace / "executed").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--latent-dim 16", ["latent_dim: 8 there, 16 here"]),
        ("--fmap-max 16", ["fmap_max: 8 there, 16 here"]),
        ("--objective vae", ["head: sphere there, gaussian here", "encoder_norm: spectral there"]),
        ("--start-resolution 4", ["snapshot at 8 px", "start at 4 px", "--start-resolution 8"]),
        ("--no-grow --resolution 16", ["snapshot at 8 px", "start at 16 px"]),
        ("--resolution 4", ["start resolution 8 is above the final resolution 4"]),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused_with_the_fields(options, words, refused, finished):
    snapshot = finished / "snapshot-000000096.safetensors"
    message = refused("--init-from", snapshot, *options.split())
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "options",
    ["--batch 1", "--lr nan", "--resolution 100", "--set lambda_x=-1", "--set a=1",
     "--outdir file", "--init-from missing.safetensors", "--device cuda"],
)  # fmt: skip
def test_a_folder_of_images_is_not_prepared_for_a_bad_option(options, pictures, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    words = [str(tmp_path / w) if w == "file" else w for w in options.split()]
    root = tmp_path / "datasets"
    with pytest.raises(SystemExit) as stop:
        main(["--dataset", str(pictures), "--data-root", str(root), *words], command="train")
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not root.exists()
