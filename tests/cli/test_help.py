"""Help of every command: at once, without PyTorch, with an example that has only known options."""

import json
import re
import subprocess
import sys

import click
import pytest

from pgvae.cli import cli
from pgvae.cli.groups import tree

COMMANDS = dict(tree(cli))
HELP = """
import json, sys
from pgvae.cli import main

for words, command in json.loads(sys.argv[1]):
    try:
        main([*words, "--help"], command)
    except SystemExit as stop:
        assert stop.code == 0, words
    assert "torch" not in sys.modules, words
"""


def test_help_of_every_command_comes_without_pytorch() -> None:
    lines = [(words, None) for words in COMMANDS]
    lines += [(words[1:], words[0]) for words in COMMANDS if words[:1] == ("generate",)]
    lines.append((("--snapshot", "nothing.safetensors", "walk"), "generate"))
    arguments = [sys.executable, "-c", HELP, json.dumps(lines)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: ") == len(lines) >= 20


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_with_options_that_it_knows(words) -> None:
    example = " ".join(COMMANDS[words].help.split()).split("Example", 1)[1]
    above = [COMMANDS[words[:depth]] for depth in range(len(words) + 1)]
    if isinstance(above[-1], click.Group):  # it shows one of its commands
        above += [c for path, c in COMMANDS.items() if path[: len(words)] == words]
    assert not words or words[-1] in re.split(r"[ .]", example)
    known = {name for command in above for param in command.params for name in param.opts}
    assert set(re.findall(r"--[a-z-]+", example)) <= known
