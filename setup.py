"""The build of the native ops, by csrc/build.py; metadata is in pyproject.toml.

pip install .                       builds what this machine has the compilers for
PGVAE_BUILD=none pip install .      a pure Python wheel; the reference ops serve
PGVAE_CUDA=0 pip install .          no CUDA library, even where nvcc is found (1: insist on it)
PGVAE_CUDA_ARCH=90 pip install .    for one architecture (default: 80;90;100;120 and PTX)

Where a library cannot be built the install succeeds without it, and `pgvae.ops.status()` says
why. torch's headers come from the torch that is installed, else from a build requirement.
"""

import os
import re
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "csrc"))

import build  # noqa: E402  csrc/build.py

WANTED = os.environ.get("PGVAE_BUILD", "auto") != "none"


def build_requirements() -> list[str]:
    """torch for its headers, at the version of the constraints, where none is installed."""
    if not WANTED or build.installed_torch() is not None:
        return []
    constraints = (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8")
    return re.findall(r"^torch==.*$", constraints, flags=re.MULTILINE)


class BuildNative(build_ext):
    """Puts the libraries, and notes on what is missing, into the package."""

    def run(self) -> None:
        """Build into the wheel, or for an editable install into the checkout."""
        package = ROOT if self.inplace else Path(self.build_lib)
        build.install(package / "pgvae" / "ops" / "lib")

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
