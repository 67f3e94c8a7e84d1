"""Settings of the process: in time, off by a flag, never against the user's own."""

import os
import subprocess
import sys

import pytest

from pgvae import tuning

REPORT = "import os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"


def run(code: str, **environment: str) -> list[str]:
    """The words that a fresh process prints."""
    clean = {k: v for k, v in os.environ.items() if "OMP_" not in k and k != "PGVAE_CPU_TUNING"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_the_commands_shorten_spinning_before_torch_is_there() -> None:
    assert run(f"import pgvae.cli; {REPORT}") == ["1000", "False"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PGVAE_CPU_TUNING": "0"}, "None"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "None"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_what_the_user_has_set_stays(environment, expected) -> None:
    assert run(f"import pgvae.cli; {REPORT}", **environment)[0] == expected


def test_importing_the_library_changes_nothing_and_is_light() -> None:
    assert run(f"import pgvae; {REPORT}") == ["None", "False"]
    assert run(f"import pgvae; pgvae.ops; pgvae.load; {REPORT}") == ["None", "True"]


def test_too_late_is_not_pretended() -> None:
    import torch  # noqa: F401

    assert not tuning.shorten_spinning()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_kept_unless_told_otherwise() -> None:
    code = "from pgvae import tuning; print(tuning.keep_freed_memory())"
    assert run(code) == ["True"]
    assert run(code, PGVAE_CPU_TUNING="0") == ["False"]


PEAK = """
import ctypes, resource
from pgvae import tuning
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def used():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
def round_trip():
    before, blocks = used(), []
    for _ in range(4):
        blocks.append(libc.malloc(40 * 2**20))
        libc.memset(blocks[-1], 1, 40 * 2**20)
    small = libc.malloc(2**10)  # above the blocks: the heap cannot shrink past it
    for block in blocks:
        libc.free(block)
    return used() - before > 100
tuning.keep_freed_memory() if KEEP else None
print(round_trip(), tuning.return_large_blocks(), tuning.return_large_blocks(), round_trip())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_large_blocks_go_back_to_the_system_once_told() -> None:
    assert run(PEAK.replace("KEEP", "True")) == ["True", "True", "False", "False"]
    assert run(PEAK.replace("KEEP", "False")) == ["False", "False", "False", "False"]


def test_the_package_knows_its_names_alone() -> None:
    import pgvae

    assert all(getattr(pgvae, name) is not None for name in pgvae.__all__)
    assert dir(pgvae) == sorted(pgvae.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pgvae.nothing  # noqa: B018
