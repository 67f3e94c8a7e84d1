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


def test_the_package_knows_its_names_alone() -> None:
    import pgvae

    assert all(getattr(pgvae, name) is not None for name in pgvae.__all__)
    assert dir(pgvae) == sorted(pgvae.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pgvae.nothing  # noqa: B018
