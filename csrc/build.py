"""Builds the native ops with ninja.

    python csrc/build.py           for developers: what can be built, into pgvae/ops/lib

setup.py calls `install`, and the tests build the emulator with `build`. The libraries:

    libpgvae_cpu.so       cpu/*.cpp
    libpgvae_cuda.so      cuda/*.cu, by nvcc
    libpgvae_emulated.so  the same by g++ and cuda/simt.h, run on a CPU

They use torch's stable ABI alone: one build serves every torch from 2.10 on and every Python.
torch's headers are needed, a GPU or a CUDA torch are not. PGVAE_CUDA=0 leaves the CUDA library
out, PGVAE_CUDA=1 insists on it; PGVAE_CUDA_ARCH=90 builds for one architecture.
"""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

CSRC = Path(__file__).resolve().parent
ARCHITECTURES = "80;90;100;120"  # A100, H100, B200, RTX 50; the last also as PTX for what follows
_OF_BOTH = "-std=c++20 -DTORCH_TARGET_VERSION=0x020a000000000000ULL -isystem $headers"
_COMPILE = [  # nvcc hands these on
    *("-fPIC", "-Wall", "-Wextra"),
    f"-ffile-prefix-map={CSRC}=csrc",
    "-ffile-prefix-map=$headers=torch",
]


class CannotBuildError(Exception):
    """Why a library is not built, in a phrase that `pgvae.ops.status()` will show."""


def installed_torch() -> Path | None:
    """The folder of torch: of this process, or of the environment that pip installs into."""
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    path = Path(sysconfig.get_path("purelib")) / "torch"
    return path if path.is_dir() else None


def install(folder: Path) -> None:
    """Build what can be built and put it into `folder`, with notes on what is missing and why.

    Nothing that is missing raises, but CUDA under PGVAE_CUDA=1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notes = {}
    for library in ("cpu", "cuda"):
        path = folder / f"libpgvae_{library}.so"
        try:
            made = _build_installed(library)
            path.unlink(missing_ok=True)  # a process may have it open: never written over
            shutil.copy2(made, path)
            notes[library] = ""
        except CannotBuildError as problem:
            path.unlink(missing_ok=True)
            if library == "cuda" and os.environ.get("PGVAE_CUDA") == "1":
                raise SystemExit(f"PGVAE_CUDA=1, but {problem}") from None
            print(f"pgvae: no native ops for {library}: {problem}", file=sys.stderr)
            notes[library] = str(problem).splitlines()[0]
    (folder / "build.json").write_text(json.dumps(notes), encoding="utf-8")


def _build_installed(library: str) -> Path:
    if library == "cuda" and os.environ.get("PGVAE_CUDA") == "0":
        raise CannotBuildError("left out: PGVAE_CUDA=0")
    torch_root = installed_torch()
    if torch_root is None:
        raise CannotBuildError("torch's headers not found: install torch first")
    return build([library], torch_root, CSRC.parent / "build" / "native")[0]


def cpp_compiler() -> str:
    """$CXX, or g++, or whatever is called c++."""
    for name in (os.environ.get("CXX"), "g++", "c++"):
        path = shutil.which(name) if name else None
        if path:
            return path
    raise CannotBuildError("no C++ compiler found: install g++, or set CXX")


def nvcc() -> Path:
    """nvcc of $CUDA_HOME, of the PATH, or of /usr/local/cuda."""
    folders = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    found = [Path(folder) / "bin" / "nvcc" for folder in folders if folder]
    on_path = shutil.which("nvcc")
    found.insert(1 if os.environ.get("CUDA_HOME") else 0, Path(on_path or "nvcc"))
    for path in found:
        if path.is_file():
            return path.resolve()
    raise CannotBuildError("nvcc not found: install the CUDA toolkit, or set CUDA_HOME")


def build(libraries: list[str], torch_root: Path, folder: Path) -> list[Path]:
    """Build "cpu", "cuda" or "emulated" into `folder`; -> the libraries' paths.

    torch_root: the folder of the installed `torch` package. Raises CannotBuildError, with the
    compiler's words, where that fails.
    """
    if platform.system() != "Linux":
        raise CannotBuildError(f"built on Linux only, this is {platform.system()}")
    ninja = _ninja()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "build.ninja").write_text(_ninja_file(libraries, torch_root), encoding="utf-8")
    targets = [f"libpgvae_{library}.so" for library in libraries]
    done = subprocess.run(
        [ninja, "-C", str(folder), *targets], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CannotBuildError(
            f"compiling failed: see the output of the build\n{done.stdout}{done.stderr}"
        )
    return [folder / target for target in targets]


def _ninja() -> str:
    try:
        import ninja

        return str(Path(ninja.BIN_DIR) / "ninja")
    except ImportError:
        path = shutil.which("ninja")
    if path is None:
        raise CannotBuildError("ninja not found: pip install ninja")
    return path


def _ninja_file(libraries: list[str], torch_root: Path) -> str:
    include = torch_root / "include"
    if not (include / "torch" / "csrc" / "stable" / "library.h").is_file():
        raise CannotBuildError("torch's headers not found, or older than 2.10")
    lines = [
        f"cxx = {cpp_compiler()}",
        f"headers = {include}",
        f"libtorch = -L{torch_root / 'lib'} -ltorch_cpu",
        "rule cpp",
        f"  command = $cxx {_OF_BOTH} {' '.join(_COMPILE)} $flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "rule link",
        "  command = $cxx -shared $in -Wl,--no-as-needed $libtorch -o $out",
    ]
    if "cpu" in libraries:
        lines += _library(
            "cpu",
            sorted(CSRC.glob("cpu/*.cpp")),
            "-O3 -fopenmp-simd -fno-trapping-math -fno-math-errno",
        )
    if "emulated" in libraries:
        flags = "-O1 -x c++ -DPGVAE_EMULATED -Wno-unknown-pragmas"
        lines += _library("emulated", sorted(CSRC.glob("cuda/*.cu")), flags)
    if "cuda" in libraries:
        lines += _cuda_library()
    return "\n".join(lines) + "\n"


def _library(name: str, sources: list[Path], flags: str) -> list[str]:
    objects = [f"{name}/{source.name}.o" for source in sources]
    lines = []
    for source, made in zip(sources, objects, strict=True):
        lines += [f"build {made}: cpp {source}", f"  flags = {flags}"]
    return [*lines, f"build libpgvae_{name}.so: link {' '.join(objects)}"]


def _cuda_library() -> list[str]:
    kernels = sorted(CSRC.glob("cuda/*.cu"))
    objects = [f"cuda/{kernel.name}.o" for kernel in kernels]
    return [
        f"nvcc = {nvcc()}",
        "rule nvcc",
        f"  command = $nvcc -ccbin $cxx {_OF_BOTH} -O3 -Xcompiler {','.join(_COMPILE)} "
        f"{_generate_code()} -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        # By nvcc, which knows where its static runtime is. A device link would be for calls between
        # files, and writes its command line with all paths into the library.
        "rule link_cuda",
        "  command = $nvcc -ccbin $cxx -shared -nodlink -cudart static $in "
        "-Xlinker --no-as-needed $libtorch -o $out",
        *(f"build {made}: nvcc {kernel}" for kernel, made in zip(kernels, objects, strict=True)),
        f"build libpgvae_cuda.so: link_cuda {' '.join(objects)}",
    ]


def _generate_code() -> str:
    """nvcc's flags for $PGVAE_CUDA_ARCH, such as "90" or "80;90", or for `ARCHITECTURES`."""
    names = (os.environ.get("PGVAE_CUDA_ARCH") or ARCHITECTURES).replace(",", ";").split(";")
    flags = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in names[:-1]]
    last = names[-1]
    return " ".join([*flags, f"-gencode='arch=compute_{last},code=[sm_{last},compute_{last}]'"])


if __name__ == "__main__":
    install(CSRC.parent / "pgvae" / "ops" / "lib")
