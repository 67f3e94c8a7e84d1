"""The kernels of csrc/: CUDA sources on an emulator, broken copies of all, nvcc's output."""

import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.ops.cases import OPS, ROOT

CSRC = ROOT / "csrc"
TORCH = Path(torch.__file__).parent


def build_module(csrc: Path) -> ModuleType:
    """csrc/build.py, of this or of a copied tree."""
    spec = importlib.util.spec_from_file_location("csrc_build", csrc / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_or_skip(library: str, csrc: Path, folder: Path) -> Path:
    build = build_module(csrc)
    try:
        build.cpp_compiler()
    except build.CannotBuildError as problem:
        pytest.skip(str(problem))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build.build([library], TORCH, folder)[0]


def failures(library: str, path: Path) -> dict[str, str]:
    """What is wrong with the kernels of a library; they run in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.ops.kernels", str(path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {Path(file).stem for file in BROKEN_OPS[library]}
    return {kernel: problem for kernel, problem in found.items() if problem}


def test_cuda_kernels_equal_their_equations_on_the_emulator():
    path = build_or_skip("emulated", CSRC, ROOT / "build" / "native-tests")
    assert failures("emulated", path) == {}


# One formula of every kernel, broken: {file: (right, wrong)}.
BROKEN_OPS = {
    "cpu": {
        "cpu/bias_act.cpp": ("> 0 ? Wide<T>(1) : slope", "< 0 ? Wide<T>(1) : slope"),
        "cpu/bias_act_pixel_norm.cpp": ("r * (g - y * m)", "r * (g + y * m)"),
        "cpu/bias_act_avg_pool2.cpp": ("signs & 4 ? quarter", "signs & 8 ? quarter"),
        "cpu/interleave2.cpp": ("phases[2 * a + 1]", "phases[2 - a]"),
        "cpu/up2_blend.cpp": ("(1 - alpha) * ((g0", "(2 - alpha) * ((g0"),
        "cpu/moment_kl.cpp": ("1 - count / sums[k]", "1 + count / sums[k]"),
        "cpu/gaussian_kl_reparam.cpp": ("std * std - 1)) / 2", "std - 1)) / 2"),
        "cpu/winograd.cpp": ("K, Side, true, Bytes>", "K, Side, false, Bytes>"),
        "cpu/winograd_conv3x3.cpp": (
            "sum[r][j] += left * right[j]",
            "sum[r][j] -= left * right[j]",
        ),
    },
    "emulated": {
        "cuda/bias_act.cu": ("v[i] *= out[i] > 0 ? 1", "v[i] *= out[i] > 0 ? 2"),
        "cuda/bias_act_pixel_norm.cu": ("y * inverse_slope) * mean", "y) * mean"),
        "cuda/bias_act_avg_pool2.cu": ("bits[i] >> k & 1", "bits[i] >> (3 - k) & 1"),
        "cuda/interleave2.cu": ("row % 2 * 2 + column % 2", "column % 2 * 2 + row % 2"),
        "cuda/up2_blend.cu": ("v[i] = old + a", "v[i] = old - a"),
        "cuda/moment_kl.cu": ("2 * of.m2[k]", "1 * of.m2[k]"),
        "cuda/gaussian_kl_reparam.cu": ("of_z + of_kl * mu[k]", "of_z - of_kl * mu[k]"),
    },
}
# What kernels share, broken as only many threads or parts can be: who must notice.
BROKEN_SUMS = [
    ("cpu", "cpu/common.h", "sums[c] += partial", "sums[c] -= partial", "bias_act"),
    ("emulated", "cuda/device.h", "value, mask);", "value, mask / 2);", "bias_act_pixel_norm"),
    ("emulated", "cuda/channel_sum.h", "i += kRows) sum", "i += 2 * kRows) sum", "bias_act"),
    ("emulated", "cuda/device.h", "wanted && row < Rows", "wanted && row < 7", "moment_kl"),
]


@pytest.mark.slow
@pytest.mark.parametrize("library", BROKEN_OPS)
def test_a_broken_formula_is_noticed_in_every_kernel(tmp_path, library):
    assert set(failures_of_copy(tmp_path, library, BROKEN_OPS[library])) == {
        Path(file).stem for file in BROKEN_OPS[library]
    }


@pytest.mark.slow
@pytest.mark.parametrize(("library", "file", "right", "wrong", "op"), BROKEN_SUMS)
def test_a_broken_sum_is_noticed(tmp_path, library, file, right, wrong, op):
    assert op in failures_of_copy(tmp_path, library, {file: (right, wrong)})


@pytest.mark.slow
@pytest.mark.parametrize("library", BROKEN_OPS)
def test_an_unbroken_copy_passes(tmp_path, library):
    assert failures_of_copy(tmp_path, library, {}) == {}


def failures_of_copy(tmp_path, library, changes: dict[str, tuple[str, str]]) -> dict[str, str]:
    """`failures` of a copy of csrc/ with texts replaced."""
    csrc = tmp_path / "csrc"
    shutil.copytree(CSRC, csrc)
    for file, (right, wrong) in changes.items():
        text = (csrc / file).read_text(encoding="utf-8")
        assert right in text, f"{file} has changed: {right!r} is gone"
        (csrc / file).write_text(text.replace(right, wrong), encoding="utf-8")
    return failures(library, build_or_skip(library, csrc, tmp_path / "build"))


def test_the_emulator_stops_where_a_thread_misses_a_barrier(tmp_path):
    source = tmp_path / "stuck.cu"
    source.write_text(
        f'#include "{CSRC}/cuda/simt.h"\n'
        "__global__ void k() { if (threadIdx.x < 32) { while (true) __syncthreads(); }\n"
        "  else simt::wait(simt::state().warps[0], simt::state().live); }\n"
        "int main() { PGVAE_LAUNCH(k, dim3(1), dim3(64), nullptr); }\n"
    )
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    program = tmp_path / "stuck"
    subprocess.run([compiler, "-x", "c++", "-std=c++20", source, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "barrier" in done.stderr


KERNELS = sorted(path.name for path in (CSRC / "cuda").glob("*.cu"))
READS_ACTIVATIONS = {f"{op.kernel}.cu" for op in OPS.values() if not op.widens}


@pytest.fixture(scope="session")
def nvcc() -> Path:
    build = build_module(CSRC)
    try:
        return build.nvcc()
    except build.CannotBuildError as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize("kernel", KERNELS)
def test_nvcc_compiles_without_spills_and_loads_16_bytes_at_once(nvcc, tmp_path, kernel):
    done = subprocess.run(
        [
            *(nvcc, "-std=c++20", "-O3", "-arch=sm_90", "-Xptxas", "-v"),
            *("-isystem", TORCH / "include", "-DTORCH_TARGET_VERSION=0x020a000000000000ULL"),
            *("--keep", "--keep-dir", tmp_path),
            *("-cubin", CSRC / "cuda" / kernel, "-o", tmp_path / "kernel.cubin"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
    assert spills, "ptxas said nothing"
    assert set(spills) == {"0"}
    if kernel in READS_ACTIVATIONS:
        ptx = next(tmp_path.glob("*.ptx")).read_text(encoding="utf-8")
        assert re.search(r"ld\.global(\.nc)?\.v4", ptx)
