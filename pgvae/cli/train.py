"""`pgvae train`: start a run, or go on with one."""

from typing import Any, get_args, get_origin

import click

from pgvae.cli.types import ByStage, WordList
from pgvae.request import NEWEST, Request, helps, kinds
from pgvae.terminal import check_interrupts, say
from pgvae.training.stops import Stop, nothing_to_save
from pgvae.values import BY_STAGE, metavar, option

_TYPES: dict[Any, click.ParamType] = {int: click.INT, float: click.FLOAT, str: click.STRING}


def _declared(name: str, kind: Any, text: str) -> click.Option:
    """The option of one field of `Request`; what it may be is checked there."""
    text = f"{text[0].upper()}{text[1:]}"
    if kind is bool:
        return click.Option([f"{option(name)}/--no-{option(name)[2:]}"], default=None, help=text)
    about: dict[str, Any] = {"help": text, "metavar": metavar(name)}
    if name == "settings":
        return click.Option([option(name), name], multiple=True, **about)
    if name == "resume":
        return click.Option([option(name)], is_flag=False, flag_value=NEWEST, **about)
    if get_origin(kind) is tuple:
        return click.Option([option(name)], type=WordList(_TYPES[get_args(kind)[0]]), **about)
    single = _TYPES[kind]
    return click.Option(
        [option(name)], type=ByStage(single) if name in BY_STAGE else single, **about
    )


@click.command()
@click.option("--dry-run", "-n", is_flag=True, help="Print the plan and stop.")
def train(dry_run: bool, **options: Any) -> None:
    """Train a growing generative autoencoder on a set of images.

    Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 or --max-hours saves and exits with code 75;
    --resume RUN goes on exactly where it stopped, with more images (--total-kimg) or another
    --batch, --lr or --device too.

    Example: python train.py --dataset photos/ --grow --resolution 64 --mirror
    """
    request = Request(**options)
    stop = Stop(request.max_hours)
    with nothing_to_save(stop):
        from pgvae.training import start  # not before the help is out: it brings PyTorch

        check_interrupts()
        if dry_run:
            start.dry_run(request, click.echo)
        else:
            start.train(request, say, stop)


_ABOUT = helps()
train.params[:0] = [_declared(name, kind, _ABOUT.get(name, name)) for name, kind in kinds().items()]
