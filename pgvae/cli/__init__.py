"""The commands: `pgvae train`, `pgvae generate`, and so on. Errors are one line, see `main`."""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pgvae import terminal, tuning
from pgvae.cli.groups import Commands, explain
from pgvae.errors import InputError, PgvaeError, Preempted, ResourceError, is_out_of_memory
from pgvae.files import path_of
from pgvae.terminal import outlived

tuning.shorten_spinning()  # no command is imported yet, nor PyTorch

# What `pgvae` and `pgvae data` alone raise, with the help as its message; click 8.1 prints it.
_NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())
_CONTEXT = {"show_default": True, "max_content_width": 100}
_HOMES = {
    "train": "pgvae.cli.train:train",
    "generate": "pgvae.cli.generate:generate",
    "evaluate": "pgvae.cli.evaluate:evaluate_command",
    "directions": "pgvae.cli.directions:directions_command",
    "prior": "pgvae.cli.prior:prior_command",
    "convert": "pgvae.cli.convert:convert",
    "export": "pgvae.cli.export:export_command",
    "publish": "pgvae.cli.publish:publish_command",
    "report": "pgvae.cli.report:report_command",
    "explore": "pgvae.cli.explore:explore_command",
    "check": "pgvae.cli.check:check_command",
    "data": "pgvae.cli.data:data",
}


@click.group(cls=Commands, homes=_HOMES, context_settings=_CONTEXT)
@click.version_option(package_name="pgvae")
def cli() -> None:
    """Generative autoencoders that grow from 4x4 to 1024x1024.

    Example: pgvae train --dataset photos/ --resolution 64
    """


def main(arguments: Sequence[str] | None = None, command: str | None = None) -> None:
    """Run and exit: 0 ok, 2 bad input, 3 corrupt file, 4 out of a resource, 75 stopped and saved.

    arguments: without the program's name; default those of the process.
    command:   the one subcommand to run, as train.py and generate.py do.
    """
    terminal.fill_in()
    terminal.remember_interrupts()
    tuning.keep_freed_memory()
    try:
        Path.cwd()
    except OSError:  # libraries end the process there, in words of their own
        sys.exit(_fail("the working folder is gone: go to another one", InputError.exit_code))
    chosen: Any = cli.get_command(None, command) if command else cli
    try:
        code = chosen.main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name=f"python {command}.py" if command else "pgvae",
            standalone_mode=False,
            **_CONTEXT,
        )
    except _NO_ARGUMENTS as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        code = _fail(explain(error), 2)
    except Preempted as stop:  # asked for, so not an error
        with outlived():
            click.echo(str(stop), err=True)
        code = stop.exit_code
    except PgvaeError as error:
        code = _fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = _fail("stopped", 130)
    except OSError as error:  # of a drive or a system that fails where nothing else says so
        code = _fail(*_of_the_system(error))
    except (RuntimeError, MemoryError) as error:  # the first is CUDA's, and Python's of threads
        words = "out of memory: give it more, or ask for less at once (--count, --resolution)"
        if "can't start new thread" in str(error):
            words = "no more threads may be started: raise the limit (ulimit -u), or end some"
        elif not is_out_of_memory(error):
            raise
        code = _fail(words, ResourceError.exit_code)
    with outlived():  # else Python tells at the end, in many lines, of an output that is full
        sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)


def _of_the_system(error: OSError) -> tuple[str, int]:
    """What to say of it, and the exit code: that of a wrong input where a path cannot be one."""
    where, why = path_of(error), error.strerror or error
    start = f"{where}: {why}" if where else f"{why}"
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return f"{start}; give another path", InputError.exit_code
    return f"{start}; see to the drive and to what this system allows", ResourceError.exit_code


def _fail(message: str, code: int) -> int:
    with outlived():
        click.echo(f"error: {' '.join(message.split())}", err=True)
    return code
