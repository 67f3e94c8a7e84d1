"""A server of the page in a process of its own, and its page in a browser without a window."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def playwright():
    """playwright's interface; skips where it or a browser is absent."""
    found = pytest.importorskip("playwright.sync_api", reason="no playwright is installed")
    if not BROWSER:
        pytest.skip("no Chromium is installed")
    return found


class Server:
    """`pgvae explore`, which can be killed and started again at its address."""

    def __init__(self, snapshot: Path, *options: object) -> None:
        self._words = [sys.executable, "-m", "pgvae", "explore", "--snapshot", snapshot]
        self._words += options
        self.start(0)

    def start(self, port: int | None = None) -> None:
        words = map(str, [*self._words, "--port", self.port if port is None else port])
        own = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen([*words], env=own, text=True, **pipes)
        self.said = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.said)
        assert found, self.said + self.process.stdout.read()
        self.address = found[0]
        self.port = int(re.search(r":(\d+)/", self.address)[1])

    def end(self, how: int = signal.SIGINT) -> tuple[int, str]:
        """-> the exit code, and what was said since it began to serve."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest
