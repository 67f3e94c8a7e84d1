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

from tests.ops import raw

ROOT = Path(__file__).parents[2]
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


@pytest.fixture(scope="session")
def emulated():
    """The CUDA ops, compiled by g++ and run on a CPU."""
    library = build_or_skip("emulated", CSRC, ROOT / "build" / "native-tests")
    return raw.emulated_ops(str(library))


@pytest.mark.parametrize("case", raw.cases(), ids=str)
@pytest.mark.parametrize("op", raw.ACTIVATION_OPS, ids=lambda f: f.__name__)
def test_a_cuda_kernel_equals_the_reference_on_the_emulator(emulated, op, case):
    torch.manual_seed(0)
    assert op(emulated, case) <= raw.TOLERANCE[case.dtype]


@pytest.mark.parametrize("size", raw.LATENTS, ids=str)
@pytest.mark.parametrize("op", raw.LATENT_OPS, ids=lambda f: f.__name__)
def test_a_cuda_reduction_equals_the_reference_on_the_emulator(emulated, op, size):
    torch.manual_seed(0)
    assert op(emulated, *size) <= 1e-5


def test_fake_and_emulated_outputs_have_the_same_strides(emulated):
    x, bias = torch.randn(2, 8, 4, 6).contiguous(memory_format=raw.CL), torch.zeros(8)
    y, rstd = emulated.bias_act_pixel_norm(x, bias, True, 0.2, 1e-8)
    fake_y, fake_rstd = torch.ops.pgvae.bias_act_pixel_norm(
        x.to("meta"), bias.to("meta"), True, 0.2, 1e-8
    )
    assert (y.stride(), rstd.stride()) == (fake_y.stride(), fake_rstd.stride())


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
    },
    "emulated": {
        "cuda/bias_act.cu": ("v[i] *= out[i] > 0 ? 1", "v[i] *= out[i] > 0 ? 2"),
        "cuda/bias_act_pixel_norm.cu": ("y * inverse_slope) * mean", "y) * mean"),
        "cuda/bias_act_avg_pool2.cu": ("bits[i] >> k & 1", "bits[i] >> (3 - k) & 1"),
        "cuda/interleave2.cu": ("row % 2 * 2 + column % 2", "column % 2 * 2 + row % 2"),
        "cuda/up2_blend.cu": ("v[i] = old + a", "v[i] = old - a"),
        "cuda/moment_kl.cu": ("2 * args.m2_gradient[k]", "1 * args.m2_gradient[k]"),
        "cuda/gaussian_kl_reparam.cu": ("gz + gkl * mu[k]", "gz - gkl * mu[k]"),
    },
}
# What kernels share, broken as only many threads or parts can be: who must notice.
BROKEN_SUMS = [
    ("cpu", "cpu/common.h", "sums[c] += partial", "sums[c] -= partial", "bias_act"),
    ("emulated", "cuda/device.h", "value, mask);", "value, mask / 2);", "bias_act_pixel_norm"),
    ("emulated", "cuda/channel_sum.h", "i += kRows) sum", "i += 2 * kRows) sum", "bias_act"),
]


@pytest.mark.slow
@pytest.mark.parametrize("library", BROKEN_OPS)
def test_a_broken_formula_is_noticed_in_every_kernel(tmp_path, library):
    errors = errors_of_copy(tmp_path, library, BROKEN_OPS[library])
    assert set(errors) == {Path(file).stem for file in BROKEN_OPS[library]}
    assert {op for op, error in errors.items() if error <= 1} == set()


@pytest.mark.slow
@pytest.mark.parametrize(("library", "file", "right", "wrong", "op"), BROKEN_SUMS)
def test_a_broken_sum_is_noticed(tmp_path, library, file, right, wrong, op):
    errors = errors_of_copy(tmp_path, library, {file: (right, wrong)})
    assert not errors[op] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("library", BROKEN_OPS)
def test_an_unbroken_copy_passes(tmp_path, library):
    assert max(errors_of_copy(tmp_path, library, {}).values()) <= 1


def errors_of_copy(tmp_path, library, changes: dict[str, tuple[str, str]]) -> dict[str, float]:
    """Worst error over tolerance of each op, of a copy of csrc/ with texts replaced."""
    csrc = tmp_path / "csrc"
    shutil.copytree(CSRC, csrc)
    for file, (right, wrong) in changes.items():
        text = (csrc / file).read_text(encoding="utf-8")
        assert right in text, f"{file} has changed: {right!r} is gone"
        (csrc / file).write_text(text.replace(right, wrong), encoding="utf-8")
    path = build_or_skip(library, csrc, tmp_path / "build")
    done = subprocess.run(
        [sys.executable, "-m", "tests.ops.raw", library, str(path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {op: float(error) for op, error in json.loads(done.stdout).items()}


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
READS_ACTIVATIONS = {
    "bias_act.cu",
    "bias_act_pixel_norm.cu",
    "bias_act_avg_pool2.cu",
    "interleave2.cu",
    "up2_blend.cu",
}


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
            *(nvcc, "-std=c++17", "-O3", "-arch=sm_90", "-Xptxas", "-v"),
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
