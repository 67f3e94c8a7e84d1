"""Checkpoints are whole, or seen to be damaged, whatever happens while they are written."""

import dataclasses
import errno
import json
import multiprocessing
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from runs import (
    CPU,
    NO_STORE,
    PRETRAINED,
    UPDATED,
    all_bytes,
    run_quietly,
    run_to,
    state_after,
    state_bytes,
    tiny_config,
)
from safetensors.torch import load_file, save_file

from pgvae.errors import CorruptFileError, ResourceError
from pgvae.files import SUMS, remove, sums_of
from pgvae.inference import load
from pgvae.objectives import OBJECTIVES
from pgvae.training import checkpoint as checkpoint_module
from pgvae.training.checkpoint import (
    checkpoints_in,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)
from pgvae.training.state import Skips, TrainState

IN_FADE = 64
FILES = ("state.safetensors", "state.json", "SHA256SUMS")


def flip(path: Path, offset: int, bits: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= bits
    path.write_bytes(content)


def damage(checkpoint: Path) -> None:
    flip(checkpoint / "state.safetensors", -1000, 0x10)


def numbers_in(run_dir: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in checkpoints_in(run_dir)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[TrainState, Path]:
    """A state in mid-fade, and its checkpoint."""
    state = state_after(IN_FADE)
    state.skips = Skips(CPU, 5, 2)
    return state, save_checkpoint(tmp_path_factory.mktemp("saved"), state)


BATCH_NORM = {"encoder_norm": "batch", "generator_norm": "batch"}


@pytest.mark.parametrize(
    ("objective", "images", "norms"),
    [
        *((name, IN_FADE, {}) for name in OBJECTIVES),
        *((name, images, {}) for name in ("pioneer", "vae") for images in (4, 48, 84, 160)),
        ("vac", IN_FADE, BATCH_NORM),
    ],
    ids=str,
)
def test_every_tensor_comes_back(objective, images, norms, tmp_path):
    pretrain_kimg = 0.1 if objective in PRETRAINED else 0.0
    model = dataclasses.replace(tiny_config(NO_STORE, objective).model, **norms)
    state = state_after(images, objective, pretrain_kimg=pretrain_kimg, model=model)
    again = load_checkpoint(save_checkpoint(tmp_path, state), state.config, CPU)
    before, after = all_bytes(state), all_bytes(again)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == []
    assert again.resolution == state.resolution
    assert again.nets.generator.fading == state.nets.generator.fading
    assert again.pool.count == state.pool.count


def test_counters_and_memory_formats_come_back(saved):
    state, path = saved
    again = load_checkpoint(path, state.config, CPU)
    assert (again.images_seen, again.skips.read()) == (IN_FADE, (5, 2))
    for part in UPDATED:
        for parameter, moments in again.optimizers[part].state.items():
            assert moments["exp_avg"].stride() == parameter.stride()


def test_a_checkpoint_holds_tensors_json_and_sums_alone(saved):
    _, path = saved
    assert path.name == "checkpoint-000000064"
    assert {p.name for p in path.iterdir()} == {*FILES}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", FILES[2]], cwd=path, check=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in load_file(path / FILES[0]).values())
    text = (path / "state.json").read_text()
    assert json.loads(text)["images_seen"] == IN_FADE
    assert str(path.parent) not in text


def test_one_byte_flipped_at_100_places_is_refused_100_times(saved, tmp_path):
    state, path = saved
    copy, rng = shutil.copytree(path, tmp_path / "copy"), random.Random(0)
    for index in range(100):
        file = copy / FILES[index % 3]
        offset, bits = rng.randrange(file.stat().st_size), rng.randrange(1, 256)
        flip(file, offset, bits)
        with pytest.raises(CorruptFileError):
            load_checkpoint(copy, state.config, CPU)
        flip(file, offset, bits)
    load_checkpoint(copy, state.config, CPU)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda _: b"",
        lambda content: content[:-1],
        lambda content: content + b"\n",
        *(lambda content, end=end: content.replace(b"\n", end, 1) for end in (b"\v", b"\f", b"\r")),
    ],
)
def test_a_file_that_is_missing_or_otherwise_is_refused(name, change, saved, tmp_path):
    """With another kind of line end too."""
    state, path = saved
    copy = shutil.copytree(path, tmp_path / "copy")
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if change:
        assert change(content) != content
        (copy / name).write_bytes(change(content))
    with pytest.raises(CorruptFileError):
        load_checkpoint(copy, state.config, CPU)


def test_a_checkpoint_of_another_format_is_refused(saved, tmp_path, monkeypatch):
    state, _ = saved
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "_FORMAT", 2)
        path = save_checkpoint(tmp_path, state)
    with pytest.raises(CorruptFileError, match="checkpoint format 2, this version reads 1"):
        load_checkpoint(path, state.config, CPU)


def test_checkpoints_are_ordered_by_images_and_not_by_clock(tmp_path):
    for images in (5, 1_000_000_000, 40, 999_999_999):
        (tmp_path / f"checkpoint-{images:09d}").mkdir()
    (tmp_path / ".checkpoint-000000007.tmp").mkdir()
    (tmp_path / "checkpoint-notes").mkdir()
    assert numbers_in(tmp_path) == [1_000_000_000, 999_999_999, 40, 5]


def test_a_run_goes_on_from_the_one_before_to_the_same_bytes_and_needs_one(store, tmp_path):
    config, whole, damaged = tiny_config(store, snapshot_kimg=0.020), tmp_path / "a", tmp_path / "b"
    for run_dir in (whole, damaged):
        run_to(config, store, run_dir, 0.100)
    damage(damaged / "checkpoint-000000100")
    for run_dir in (whole, damaged):
        run_to(config, store, run_dir, 0.120)
    assert state_bytes(damaged, 120) == state_bytes(whole, 120)
    log = (damaged / "log.txt").read_text()
    assert "checkpoint-000000100 is damaged" in log
    assert "at 0.08 of " in log
    assert "is damaged" not in (whole / "log.txt").read_text()
    for path in checkpoints_in(damaged):
        damage(path)
    before = sorted(path.name for path in damaged.iterdir())
    with pytest.raises(CorruptFileError, match=r"all 2 checkpoints .* are damaged") as caught:
        run_to(config, store, damaged, 0.140)
    assert caught.value.exit_code == 3
    assert sorted(path.name for path in damaged.iterdir()) == before


def test_only_the_newest_two_are_kept_and_a_damaged_one_is_replaced(tmp_path):
    state = state_after(4)
    assert load_newest(tmp_path, state.config, CPU, pytest.fail) is None
    for state.images_seen in (4, 8, 12, 16):
        save_checkpoint(tmp_path, state)
    assert numbers_in(tmp_path) == [16, 12]
    damage(tmp_path / "checkpoint-000000016")
    path = save_checkpoint(tmp_path, state)
    assert load_checkpoint(path, state.config, CPU).images_seen == 16


def test_links_to_nowhere_and_damaged_newer_ones_are_no_reserve_and_in_nobodys_way(tmp_path):
    state = state_after(4)
    for number in (8, 99):
        (tmp_path / f"checkpoint-{number:09d}").symlink_to("nowhere")
    for state.images_seen in (4, 8, 12):
        path = save_checkpoint(tmp_path, state)
        assert load_checkpoint(path, state.config, CPU).images_seen == state.images_seen
    assert numbers_in(tmp_path) == [99, 12, 8]


def test_one_that_is_removed_is_not_seen_any_more_before_a_file_of_it_goes(tmp_path, monkeypatch):
    state, removed = state_after(4), []

    def seen(path: Path) -> None:
        removed.append((path.name, numbers_in(tmp_path)))
        remove(path)

    monkeypatch.setattr(checkpoint_module, "remove", seen)
    for state.images_seen in (4, 8, 12):
        save_checkpoint(tmp_path, state)
    assert removed == [(".checkpoint-000000004.tmp", [12, 8])]
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("step", "fault", "error", "words"),
    [
        ("write_tensors", RuntimeError("it is gone"), RuntimeError, "it is gone"),
        ("sums_of", RuntimeError("it is gone"), RuntimeError, "it is gone"),
        (
            "write_tensors",
            OSError(errno.ENOSPC, "no space"),
            ResourceError,
            r"disk full .*checkpoint-000000008: [\d,]+ bytes",
        ),
    ],
    ids=str,
)
def test_a_save_that_fails_leaves_the_old_ones_and_nothing_else(
    step, fault, error, words, tmp_path, monkeypatch
):
    state = state_after(4)
    save_checkpoint(tmp_path, state)
    state.images_seen = 8
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(*arguments, **options):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, step, fail)
        with pytest.raises(error, match=words):
            save_checkpoint(tmp_path, state)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000004"]
    assert load_newest(tmp_path, state.config, CPU, pytest.fail).images_seen == 4


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


# TensorBoard's own thread dies of the full disk beside the run.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_on_a_disk_that_fills_up_stops_with_what_it_had(store, small_disk):
    config = tiny_config(store)
    run_to(config, store, small_disk / "run", 0.048)
    room = shutil.disk_usage(small_disk).free
    (small_disk / "other.bin").write_bytes(bytes(room - 96 * 1024))
    with pytest.raises(ResourceError, match=r"disk full while writing .*run.* bytes") as caught:
        run_to(config, store, small_disk / "run", 0.160)
    assert caught.value.exit_code == 4
    run_dir = small_disk / "run"
    assert list(run_dir.glob(".*.tmp")) == []
    loaded = load_newest(run_dir, config, CPU, pytest.fail)
    assert loaded.images_seen >= 48
    assert load(run_dir / "snapshot-000000048.safetensors").resolution == 4
    (small_disk / "other.bin").unlink()
    run_to(config, store, run_dir, 0.060)  # with room again it goes on
    assert json.loads((run_dir / "status.json").read_text())["status"] == "done"


def newest_of(run_dir: Path) -> int:
    return next(iter(numbers_in(run_dir)), 0)


def kill_while_saving(process, run_dir: Path, rng: random.Random) -> bool:
    """Let the run save a few times, then kill -9 it, mostly in the middle of the next save."""
    goal = newest_of(run_dir) + 4 * rng.randrange(1, 6)
    deadline = time.monotonic() + 60
    while process.is_alive() and newest_of(run_dir) < goal and time.monotonic() < deadline:
        time.sleep(0.001)
    if rng.random() < 0.8:
        while process.is_alive() and not list(run_dir.glob(".checkpoint-*.tmp")):
            pass
    time.sleep(rng.uniform(0, 0.01))
    process.kill()
    process.join(60)
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("kills", "snapshot_kimg"), [(3, 10.0), pytest.param(50, 0.004, marks=pytest.mark.slow)]
)
def test_kills_in_the_middle_of_saving_lose_nothing(kills, snapshot_kimg, whole, store, tmp_path):
    """Each run ends with the bytes of one that was left alone."""
    config, expected = tiny_config(store, snapshot_kimg=snapshot_kimg), state_bytes(whole, 160)
    context, rng = multiprocessing.get_context("forkserver"), random.Random(kills)
    context.set_forkserver_preload(["pgvae.training.engine"])
    done, run_dir = 0, tmp_path / "run-0"
    while done < kills:
        before = newest_of(run_dir)
        process = context.Process(target=run_quietly, args=(config, store.path, run_dir))
        process.start()
        done += kill_while_saving(process, run_dir, rng)
        state = load_newest(run_dir, config, CPU, pytest.fail)
        assert (state.images_seen if state else 0) >= before
        if before >= 120 or done >= kills:  # near its end: finish it, and kill a new one
            run_to(config, store, run_dir, 0.160)
            assert state_bytes(run_dir, 160) == expected
            assert list(run_dir.glob(".*tmp*")) == []
            run_dir = tmp_path / f"run-{done}"


def test_a_checkpoint_without_an_averaged_encoder_has_the_encoder_in_its_place(tmp_path):
    state = state_after(24, ema_kimg=1.0, ema_rampup=1.0)
    save_checkpoint(tmp_path, state)
    (path,) = checkpoints_in(tmp_path)
    tensors = load_file(path / checkpoint_module.STATE)
    older = {k: v for k, v in tensors.items() if not k.startswith("ema_encoder/")}
    assert len(older) < len(tensors)
    save_file(older, path / checkpoint_module.STATE)
    (path / SUMS).write_bytes(sums_of(path, FILES[:2]))
    nets = load_checkpoint(path, state.config, torch.device("cpu")).nets
    encoder, averaged = nets.encoder.state_dict(), nets.ema_encoder.state_dict()
    for name, value in encoder.items():
        assert torch.equal(averaged[name], value)
        assert averaged[name].data_ptr() != value.data_ptr()
