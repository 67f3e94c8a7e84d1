"""`pgvae export`: a part of a model as a file that runs without pgvae."""

from pathlib import Path
from typing import get_args

import click

from pgvae.cli import inputs
from pgvae.config import require
from pgvae.inference import load
from pgvae.interop.export import ENDINGS, Format, Part, export


@click.command("export")
@inputs.SNAPSHOT
@click.option("--format", "form", type=click.Choice(get_args(Format)), default="onnx")
@click.option("--part", type=click.Choice(get_args(Part)), required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="[default: PART.onnx or PART.pt2 here]",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export_command(snapshot: Path, form: Format, part: Part, out: Path | None, force: bool) -> None:
    """Write encoder or generator as ONNX or for torch.export.load, and check it.

    The encoder takes images [N, C, R, R] in [-1, 1] to latents [N, d]; the generator takes latents
    to images. Any N goes. ONNX needs the packages onnx, onnxscript and onnxruntime.

    Example: pgvae export --snapshot PATH --format onnx --part generator
    """
    out = out or Path(f"{part}{ENDINGS[form]}")
    require(out.suffix == ENDINGS[form], f"{out}: a file of format {form} ends in {ENDINGS[form]}")
    inputs.require_writable_file(out, force)
    difference = export(load(snapshot), part, form, out)
    click.echo(f"{out}: at most {difference:.1e} from the model, batches of 1, 2 and 5")
