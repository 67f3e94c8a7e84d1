"""`pgvae explore`: it serves until it is stopped, and what it refuses."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from commands import refusal


def serving(folder: Path, *options: str) -> tuple[subprocess.Popen, str]:
    """The command in a process of its own, and the address that it says."""
    words = [sys.executable, "-m", "pgvae", "explore", *options]
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, cwd=folder, env=own, **pipes)
    said = process.stdout.readline()
    found = re.match(r"(http://\S+)  \(Ctrl-C ends it\)$", said)
    assert found, said + process.communicate()[1]
    return process, found[1]


def test_it_serves_its_page_and_ends_quietly_on_ctrl_c(desk):
    process, address = serving(desk, "--snapshot", "v.safetensors", "--port", "0")
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(address, timeout=60) as page:
            assert b"pgvae explore" in page.read()
    finally:
        process.send_signal(signal.SIGINT)
        said, wrong = process.communicate(timeout=60)
    assert (process.returncode, said, wrong) == (0, "", "")


def test_at_an_address_that_others_reach_a_token_is_printed_and_needed(desk):
    options = ("--host", "0.0.0.0", "--port", "0")
    process, address = serving(desk, "--snapshot", "s.safetensors", *options)
    try:
        plain, token = address.split("?token=")
        assert plain.startswith("http://0.0.0.0:")
        assert len(token) >= 20
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(plain, timeout=60)
        cookies = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with cookies.open(f"{plain}?token={token}", timeout=60) as page:
            assert (page.status, page.url) == (200, plain)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--snapshot", "none.safetensors"], "no such snapshot: none.safetensors"),
        (["--snapshot", "."], "no snapshot-*.safetensors in ."),
        (["--snapshot", "v.safetensors", "--dataset", "nothing"], "no data set 'nothing'"),
        (["--snapshot", "v.safetensors", "--port", "70000"], "70000 is not in the range"),
        (["--snapshot", "v.safetensors", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["--snapshot", "v.safetensors", "--host", "no such host"], "cannot listen on no such"),
        ([], "Missing option '--snapshot'"),
    ],
)
def test_what_cannot_be_served_is_one_line(capsys, desk, options, said):
    assert said in refusal(capsys, desk, ["explore", *options])


def test_a_port_that_is_taken_is_one_line(capsys, desk):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = ["explore", "--snapshot", "s.safetensors", "--port", port]
        said = refusal(capsys, desk, words)
    assert f"cannot listen on 127.0.0.1, port {port}: " in said
    assert "Address already in use" in said
    assert "another --port" in said


def test_without_its_packages_it_says_which_to_install(capsys, desk, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pgvae.explore")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = refusal(capsys, desk, ["explore", "--snapshot", "s.safetensors"])
    assert "needs the package uvicorn: pip install 'pgvae[explore]'" in said
