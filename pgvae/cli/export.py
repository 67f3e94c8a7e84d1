"""`pgvae export`: a part of a model as a file that runs without pgvae."""

from pathlib import Path

import click

from pgvae.checks import require
from pgvae.choices import ExportFormat, ExportPart
from pgvae.cli import options
from pgvae.cli.options import PATH, option


@click.command("export")
@options.SNAPSHOT
@option("--format form", "", ExportFormat, default="onnx")
@option("--part", "", ExportPart, required=True)
@option("--out FILE", "[default: PART.onnx or PART.pt2 here]", PATH)
@option("--force", "Replace a file that is there.", is_flag=True)
def export_command(
    snapshot: Path, form: ExportFormat, part: ExportPart, out: Path | None, force: bool
) -> None:
    """Write encoder or generator as ONNX or for torch.export.load, and check it.

    The encoder takes images [N, C, R, R] in [-1, 1] to latents [N, d]; the generator takes latents
    to images. Any N goes. ONNX needs the packages onnx, onnxscript and onnxruntime.

    Example: pgvae export --snapshot PATH --format onnx --part generator
    """
    from pgvae.inference import load
    from pgvae.interop.export import ENDINGS, export

    out = out or Path(f"{part}{ENDINGS[form]}")
    require(out.suffix == ENDINGS[form], f"{out}: a file of format {form} ends in {ENDINGS[form]}")
    options.require_writable_file(out, force)
    difference = export(load(snapshot), part, form, out)
    click.echo(f"{out}: at most {difference:.1e} from the model, batches of 1, 2 and 5")
