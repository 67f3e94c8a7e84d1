"""The build of the native ops; metadata is in pyproject.toml.

pip install .                           builds what this machine has the compilers for
PGVAE_BUILD=none pip install .          a pure Python wheel; the reference ops serve
PGVAE_CUDA=0 pip install .              no CUDA library, even where nvcc is found (1: insist on it)
PGVAE_CUDA_ARCH=90 pip install .        for one architecture (default: 80;90;100;120 and PTX)
python setup.py build_ext --inplace     for developers: builds into pgvae/ops/lib

Where a library cannot be built the install succeeds without it, and `pgvae.ops.status()` says
why. torch's headers come from the torch that is installed, else from a build requirement.
"""

import importlib.util
import json
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "csrc"))

import build  # noqa: E402  csrc/build.py

WANTED = os.environ.get("PGVAE_BUILD", "auto") != "none"


def installed_torch() -> Path | None:
    """The folder of torch: of this process, or of the environment that pip installs into."""
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    path = Path(sysconfig.get_path("purelib")) / "torch"
    return path if path.is_dir() else None


def build_requirements() -> list[str]:
    """torch for its headers, at the version of the constraints, where none is installed."""
    if not WANTED or installed_torch() is not None:
        return []
    constraints = (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8")
    return re.findall(r"^torch==.*$", constraints, flags=re.MULTILINE)


class BuildNative(build_ext):
    """Runs csrc/build.py and puts the libraries, and notes on what is missing, into the package."""

    def run(self) -> None:
        """Build what can be built. Nothing that is missing stops the install, but PGVAE_CUDA=1."""
        package = ROOT if self.inplace else Path(self.build_lib)
        folder = package / "pgvae" / "ops" / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        notes = {}
        for library in ("cpu", "cuda"):
            path = folder / f"libpgvae_{library}.so"
            path.unlink(missing_ok=True)
            try:
                shutil.copy2(self.build_library(library), path)
                notes[library] = ""
            except build.CannotBuildError as problem:
                if library == "cuda" and os.environ.get("PGVAE_CUDA") == "1":
                    raise SystemExit(f"PGVAE_CUDA=1, but {problem}") from None
                print(f"pgvae: no native ops for {library}: {problem}", file=sys.stderr)
                notes[library] = str(problem).splitlines()[0]
        (folder / "build.json").write_text(json.dumps(notes), encoding="utf-8")

    def build_library(self, library: str) -> Path:
        """Build "cpu" or "cuda"; -> its path. Raises CannotBuildError."""
        if library == "cuda" and os.environ.get("PGVAE_CUDA") == "0":
            raise build.CannotBuildError("left out: PGVAE_CUDA=0")
        torch_root = installed_torch()
        if torch_root is None:
            raise build.CannotBuildError("torch's headers not found: install torch first")
        return build.build([library], torch_root, ROOT / "build" / "native")[0]

    def get_outputs(self) -> list[str]:
        """Nothing for setuptools to look after: the libraries are not Python modules."""
        return []

    def get_output_mapping(self) -> dict[str, str]:
        """As above."""
        return {}


class AnyPythonWheel(bdist_wheel):
    """A wheel for every Python 3 of this platform: the libraries do not know Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tag, such as py3-none-linux_x86_64."""
        platform = super().get_tag()[2]
        return "py3", "none", platform if WANTED else "any"


setup(
    ext_modules=[Extension("pgvae.ops.lib", [])] if WANTED else [],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": AnyPythonWheel},
    setup_requires=build_requirements(),
)
