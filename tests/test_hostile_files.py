"""Hostile files of every kind: nothing in them is run, little memory, one line each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import FILES

HERE = Path(__file__).parent
OURS = ("InputError", "CorruptFileError", "ResourceError")


@pytest.mark.slow
def test_of_hostile_files_nothing_is_run_and_none_takes_much_memory(tmp_path):
    assert len(FILES) >= 40
    result = subprocess.run(
        [sys.executable, "hostile.py", str(tmp_path)],
        cwd=HERE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}:{HERE}"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert [row["name"] for row in rows] == [*FILES], result.stderr
    assert not [row["name"] for row in rows if row["executed"]]
    assert {row["name"]: row["came"] for row in rows if row["came"] not in (*OURS, "taken")} == {}
    much = {row["name"]: row["mb"] for row in rows if row["mb"] > row["size_mb"] + 200}
    assert much == {}
