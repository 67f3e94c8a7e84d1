"""Options that several commands have. Nothing here imports PyTorch, so that help comes at once."""

from pathlib import Path

import click

from pgvae.cli.types import WordList
from pgvae.config import require

PATH = click.Path(path_type=Path)
POSITIVE, SEVERAL, NATURAL = click.IntRange(min=1), click.IntRange(min=2), click.IntRange(min=0)
PROBABILITY = click.FloatRange(0, 1, min_open=True, max_open=True)

_SNAPSHOT = "A .safetensors snapshot, or a run directory: its newest."
_DATASET = "Prepared set, or a folder or zip of images (prepared on first use)."
_THRESHOLDS = "A label below LOW says no, above HIGH yes; between them it is unknown and left out."
_WEIGHTS = (
    "pt_inception-2015-12-05-6726825d.pth, for the features of the published FID and KID.  "
    "[default: EfficientNet-Lite0's, said so in the names]"
)


def snapshot(required: bool):
    """The option --snapshot; `generate` takes it in two places, and neither is the one."""
    return click.option("--snapshot", required=required, type=PATH, metavar="PATH", help=_SNAPSHOT)


SNAPSHOT = snapshot(required=True)
DATASET = click.option("--dataset", required=True, metavar="NAME|PATH", help=_DATASET)
DATA_ROOT = click.option(
    "--data-root", type=PATH, default=Path("datasets"), help="Where prepared sets are."
)
LABEL_THRESHOLDS = click.option(
    "--label-thresholds",
    type=WordList(click.FLOAT, 2),
    default="0.5,0.5",
    metavar="LOW,HIGH",
    help=_THRESHOLDS,
)
INCEPTION_WEIGHTS = click.option("--inception-weights", type=PATH, metavar="FILE", help=_WEIGHTS)
DEVICE = click.option("--device", default="auto", metavar="auto|cpu|cuda[:I]")
SEED = click.option("--seed", type=NATURAL, default=0)
FORCE = click.option("--force", is_flag=True, help="Replace a file that is there.")
PATHS = click.argument("paths", nargs=-1, required=True, type=PATH)


def require_writable_file(path: Path, replace: bool = True) -> None:
    """Raise InputError unless a file may be written there, in the place of another or not."""
    require(path.parent.is_dir(), f"no such folder: {path.parent}; make it, or give another file")
    require(not path.is_dir(), f"{path} is a folder: give a file")
    require(replace or not path.exists(), f"{path} is there already: give another file, or --force")
