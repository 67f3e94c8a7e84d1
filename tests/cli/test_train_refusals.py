"""What `pgvae train` refuses: in one line, with the right code, and nothing touched."""

import json
import os
import pickle
import shutil

import pytest
import torch

from pgvae.cli import main
from pgvae.cli.train import train
from pgvae.training.rundir import RunDirectory

pytestmark = pytest.mark.usefixtures("workplace")

POSITIVE, FINITE = "use a positive number", "use a finite number"
BAD_OPTIONS = [
    ("--objective pionear", ["--objective pionear", "did you mean 'pioneer'?"]),
    ("--objective zzz", ["--objective zzz", "pioneer", "vae"]),
    ("--resolution 100", ["--resolution 100: not a power of two", "64 or 128"]),
    ("--resolution 2", ["--resolution 2: not a power of two", "4 to 1024"]),
    ("--resolution 2048", ["2048", "4 to 1024"]),
    ("--resolution 64", ["--resolution 64 is above the data's 32", "use 32"]),
    ("--resolution abc", ["--resolution", "abc"]),
    ("--batch 0", ["--batch 0: use 1 or more"]),
    ("--batch 1", ["--batch 1 is too small for pioneer", "use 2 or more"]),
    ("--batch -3", ["--batch -3: use 1 or more"]),
    ("--batch 2.5", ["--batch", "2.5"]),
    ("--batch 8:4,8:2", ["--batch", "'8:2' in '8:4,8:2' is not R:VALUE, of one resolution R"]),
    ("--batch 8:4,2", ["--batch", "'2' in '8:4,2' is not R:VALUE"]),
    ("--batch 8:x", ["--batch", "'x'"]),
    ("--batch 8:1", ["--batch 1 is too small for pioneer", "use 2 or more"]),
    ("--batch 7:4", ["--batch at resolution 7 is not a power of two"]),
    ("--batch 64:4", ["--batch at 64 px: the run's resolutions are 4, 8"]),
    ("--lr 8:0", ["--lr 0.0", POSITIVE]),
    ("--batch-gpu 0", ["--batch-gpu 0: use 1 or more"]),
    (
        "--arch residual --encoder-norm batch --batch-gpu 2",
        ["batch norm takes statistics", "--batch-gpu"],
    ),
    ("--objective vae --schedule pioneer_code", ["--schedule pioneer_code sets lambda_x", "vae"]),
    ("--objective vae --augment", ["--augment: vae", "has no critic", "leave it out"]),
    ("--lr nan", ["--lr nan", FINITE]),
    ("--lr inf", ["--lr inf", FINITE]),
    ("--lr -1", ["--lr -1", POSITIVE]),
    ("--lr 0", ["--lr 0", POSITIVE]),
    ("--lr abc", ["--lr", "abc"]),
    ("--lr-milestones 1,-1", ["--lr-milestones -1", POSITIVE]),
    ("--lr-milestones 1,x", ["--lr-milestones", "x"]),
    ("--total-kimg 0", ["--total-kimg 0", POSITIVE]),
    ("--total-kimg -1", ["--total-kimg -1", POSITIVE]),
    ("--total-kimg nan", ["--total-kimg nan", FINITE]),
    ("--total-kimg 0.0004", ["total_kimg is 0.0004, less than an image: use 0.001 or more"]),
    ("--total-kimg 1e-9 --dry-run", ["total_kimg is 1e-09, less than an image"]),
    ("--total-kimg 1e306", ["--total-kimg 1e+306: use 1000000000 at most"]),
    ("--grow --kimg-per-stage 1e-9", ["a stage is less than an image: use a longer --kimg-per"]),
    (f"--batch {2**63}", [f"--batch {2**63}: use 65536 at most"]),
    ("--batch 8:1000000000", ["--batch 1000000000: use 65536 at most"]),
    (f"--batch-gpu {2**80}", ["--batch-gpu", "use 65536 at most"]),
    (f"--latent-dim {2**80}", ["--latent-dim", "use 65536 at most"]),
    (f"--fmap-max {2**80}", ["--fmap-max", "use 65536 at most"]),
    (f"--fmap-base {2**80}", ["--fmap-base", "use 1073741824 at most"]),
    (f"--workers {2**80}", ["--workers", "use 1024 at most"]),
    (f"--keep-snapshots {2**80}", ["--keep-snapshots", "use 1073741824 at most"]),
    ("--max-hours 1e300", ["--max-hours 1e+300: use 1000000000 at most"]),
    ("--outdir=", ["--outdir '': it is empty: give a value, or leave it out"]),
    ("--init-from=", ["--init-from '': it is empty"]),
    ("--kimg-per-stage 0", ["--kimg-per-stage", POSITIVE]),
    ("--kimg-per-stage inf", ["--kimg-per-stage", FINITE]),
    ("--snapshot-kimg 0", ["--snapshot-kimg", POSITIVE]),
    ("--ema-kimg x", ["--ema-kimg", "x"]),
    ("--pretrain-kimg -1", ["--pretrain-kimg -1", "use 0 or more"]),
    ("--label-thresholds 0.1", ["--label-thresholds 0.1", "two numbers"]),
    ("--objective vae --label-thresholds 0.2,0.8", ["--label-thresholds: vae does not learn"]),
    ("--seed -1", ["--seed -1: use 0 or more"]),
    (f"--seed {2**63}", ["use 9223372036854775807 at most"]),
    ("--seed x", ["--seed", "x"]),
    ("--latent-dim 1", ["--latent-dim 1: use 2 or more"]),
    ("--fmap-max 0", ["--fmap-max 0: use 1 or more"]),
    ("--workers -1", ["--workers -1"]),
    ("--precision fp8", ["--precision fp8", "known: auto, bf16, fp32, tf32"]),
    ("--arch resnet", ["--arch resnet", "pggan, residual"]),
    ("--schedule fast", ["--schedule fast", "pggan"]),
    ("--device foo", ["--device foo: use auto, cpu, mps or cuda:I"]),
    ("--set lamda_x=1", ["'lamda_x'", "did you mean 'lambda_x'?"]),
    ("--set lambda_x=abc", ["lambda_x", "'abc' is not a number"]),
    ("--set lambda_x=-1", ["lambda_x is -1"]),
    ("--set lambda_x", ["NAME=VALUE"]),
    ("--set lambda_x=1 --set lambda_x=2", ["--set lambda_x=1: lambda_x is given twice"]),
    ("--set lambda_x@8=1 --set lambda_x@8=1", ["lambda_x@8 is given twice; leave one out"]),
    ("--objective vae --set rec=l3", ["rec is 'l3'", "mse"]),
    ("--objective vae --set beta_kl=nan", ["beta_kl is nan"]),
    ("--no-grow --start-resolution 4", ["--no-grow", "--start-resolution 4"]),
    ("--start-resolution 16", ["--start-resolution 16", "final resolution 8"]),
    ("--start-resolution 5", ["--start-resolution 5", "4 or 8"]),
    ("--bogus", ["--bogus"]),
    ("--init-from missing.safetensors", ["no such snapshot: missing.safetensors"]),
    ("--init-from data", ["--init-from data", "no snapshot and no checkpoint"]),
    ("--init-from missing.safetensors --resume", ["no such snapshot: missing.safetensors"]),
    ("--resume missing", ["missing is no run directory"]),
    ("--resume data", ["data is no run directory"]),
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
    message = refused("--resume", "--total-kimg", "9")
    run.close()
    assert f"in use by process {os.getpid()}" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--latent-dim 16", ["--latent-dim (8 there, 16 here)"]),
        ("--mirror --set lambda_z=5", ["--mirror", "--set (the default there, lambda_z=5 here)"]),
        ("--kimg-per-stage 3", ["--kimg-per-stage (0.064 there, 3 here)"]),
    ],
)
@pytest.mark.parametrize("how", ["--resume", "--resume --outdir RUN", "--resume RUN"])
def test_resuming_with_other_options_names_them(options, words, how, refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    message = refused(*how.replace("RUN", str(path)).split(), *options.split())
    for word in (*words, finished.name):
        assert word in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--seed 1", ["cannot change in --seed (the default there, 1 here)"]),
        ("--objective vae", ["cannot change in --objective (pioneer there, vae here)"]),
        ("--total-kimg 0.04", ["--total-kimg 0.04", "is at 0.096 of 0.096 kimg already"]),
        ("--batch 1", ["--batch 1 is too small for pioneer"]),
    ],
)
def test_a_run_that_is_named_goes_on_with_nothing_else(
    options, words, refused, finished, workplace
):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    message = refused("--resume", path, *options.split())
    for word in words:
        assert word in message


def test_resuming_on_other_data_is_refused(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "dataset_digest": "0" * 64}))
    assert "config.json is not as it was written" in refused("--resume", path, code=3)
    (path / "SHA256SUMS").unlink()
    assert "the images, labels or split of tiny are not those of" in refused("--resume", path)


def test_a_run_without_its_checkpoints_is_refused_and_stays_as_it_is(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    for checkpoint in path.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    for how in (["--resume"], ["--resume", path, "--total-kimg", "9"]):
        message = refused(*how)
        assert "at 96 images has no checkpoint any more" in message
        assert "--init-from" in message


def test_a_run_of_an_earlier_version_is_refused(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    for name in ("request.json", "SHA256SUMS"):
        (path / name).unlink()
    assert "made by an earlier version" in refused("--resume", path)


def test_resuming_from_damaged_checkpoints_alone_is_a_corrupt_file(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    for state in path.glob("checkpoint-*/state.safetensors"):
        state.write_bytes(state.read_bytes()[:-1])
    assert "are damaged" in refused("--resume", "--total-kimg", "9", code=3)


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
        ("--latent-dim 16", ["--latent-dim (8 there, 16 here)"]),
        ("--fmap-max 16", ["--fmap-max (8 there, 16 here)"]),
        ("--objective vae", ["head (sphere there, gaussian here)"]),
        ("--start-resolution 4", ["snapshot at 8 px", "start at 4 px", "--start-resolution 8"]),
        ("--no-grow --resolution 16", ["snapshot at 8 px", "start at 16 px"]),
        (
            "--resolution 4",
            ["snapshot at 8 px, above the final resolution 4", "--resolution 8 or more"],
        ),
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


def test_the_plan_of_a_run_that_is_there_is_not_asked_for_anew(refused, finished):
    said = refused("--resume", finished, "--dry-run", alone=True)
    assert "--dry-run shows the plan of a new run" in said
    assert "leave one of --dry-run and --resume out" in said


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_only_looks_like_a_later_checkpoint_says_nothing_of_where_a_run_is(
    what, refused, finished, workplace
):
    shutil.copytree(finished, workplace / "run")
    later = workplace / "run" / "checkpoint-000000999"
    later.mkdir() if what == "folder" else later.touch()
    said = refused("--resume", workplace / "run", "--total-kimg", "0.05", alone=True)
    assert "is at 0.096 of 0.096 kimg already" in said


def test_a_run_that_may_not_be_written_to_is_not_told_to_go_elsewhere_by_outdir(
    refused, finished, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    said = refused("--resume", finished, "--total-kimg", "0.2", alone=True)
    assert "copy the run to another" in said
    assert "--outdir" not in said


def test_both_halves_of_every_switch_are_spelt_with_hyphens():
    for option in train.params:
        for name in (*option.opts, *option.secondary_opts):
            assert "_" not in name
