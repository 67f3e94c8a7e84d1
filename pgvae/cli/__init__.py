"""The commands: `pgvae train`, `pgvae generate`, and so on. Errors are one line, see `main`."""

import sys
from collections.abc import Sequence

from pgvae import tuning

tuning.shorten_spinning()  # before anything imports PyTorch

import click  # noqa: E402

from pgvae.cli.convert import convert  # noqa: E402
from pgvae.cli.data import data  # noqa: E402
from pgvae.cli.directions import directions_command  # noqa: E402
from pgvae.cli.evaluate import evaluate_command  # noqa: E402
from pgvae.cli.export import export_command  # noqa: E402
from pgvae.cli.generate import generate  # noqa: E402
from pgvae.cli.report import report_command  # noqa: E402
from pgvae.cli.train import train  # noqa: E402
from pgvae.errors import PgvaeError, Preempted  # noqa: E402

# What `pgvae` and `pgvae data` alone raise, with the help as its message; click 8.1 prints it.
_NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())
_CONTEXT = {"show_default": True, "max_content_width": 100}


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="pgvae")
def cli() -> None:
    """Generative autoencoders that grow from 4x4 to 1024x1024."""


for _command in (
    train,
    generate,
    evaluate_command,
    directions_command,
    convert,
    export_command,
    report_command,
    data,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None, command: str | None = None) -> None:
    """Run and exit: 0 ok, 2 bad input, 3 corrupt file, 4 out of a resource, 75 stopped and saved.

    arguments: without the program's name; default those of the process.
    command:   the one subcommand to run, as train.py and generate.py do.
    """
    tuning.keep_freed_memory()
    chosen = cli.commands[command] if command else cli
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
        code = _fail(error.format_message(), 2)
    except Preempted as stop:  # asked for, so not an error
        click.echo(str(stop), err=True)
        code = stop.exit_code
    except PgvaeError as error:
        code = _fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = _fail("stopped", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code
