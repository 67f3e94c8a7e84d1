"""Damaged files of all kinds: no traceback, no crash, no hang, and nothing lost without a word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = {"parquet": "pyarrow", "arrow": "pyarrow", "hdf5": "h5py", "tfrecord": "google_crc32c"}
COUNTS = {
    "images": 200,
    "csv_labels": 100,
    "json_labels": 100,
    "manifests": 100,
    "zipped": 20,
    "tar": 20,
    "parquet": 20,
    "arrow": 20,
    "hdf5": 20,
    "npz": 20,
    "tfrecord": 20,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_damaged_files_are_used_or_refused_and_nothing_else(tmp_path, kind):
    if kind in PACKAGES:
        pytest.importorskip(PACKAGES[kind], reason=f"{PACKAGES[kind]} is not installed")
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, here / "fuzzing.py", kind, str(COUNTS[kind]), tmp_path / "place"],
        env={**os.environ, "PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
