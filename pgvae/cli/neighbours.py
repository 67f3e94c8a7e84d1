"""`pgvae generate neighbours`: does the model repeat its training images?"""

from pathlib import Path

import click

from pgvae.checks import require
from pgvae.choices import Likeness, Prior
from pgvae.cli import options
from pgvae.cli.options import POSITIVE, option
from pgvae.cli.session import Session, in_session


@click.command()
@options.DATASET
@options.DATA_ROOT
@option("--count", "How many samples.", POSITIVE, default=8)
@option("--nearest kept", "Images for each.", POSITIVE, default=3)
@option(
    "--by measures",
    "L1 of pixels, SSIM, or cosine of features; may be repeated.  [default: l1]",
    Likeness,
    multiple=True,
    default=("l1",),
    show_default=False,
)
@options.INCEPTION_WEIGHTS
@options.PRIOR
@in_session
def neighbours(
    session: Session,
    dataset: str,
    data_root: Path,
    count: int,
    kept: int,
    measures: tuple[Likeness, ...],
    inception_weights: Path | None,
    prior: Prior | None,
) -> None:
    """The training images nearest to samples, to see that these are no copies.

    In each row a sample, then its neighbours, nearest first.

    Example: python generate.py --snapshot PATH neighbours --dataset faces --by l1 --by features
    """
    import torch
    from tqdm import tqdm

    from pgvae.cli import inputs
    from pgvae.data import read_images
    from pgvae.inference.images import batches_for
    from pgvae.metrics.features import extractor
    from pgvae.metrics.neighbours import nearest

    model = session.model
    features = extractor(inception_weights, model.device) if "features" in measures else None
    store = inputs.open_for(model, dataset, data_root)
    training = store.split("train")
    require(
        kept <= len(training),
        f"--nearest {kept}: {store.name} has {len(training)} training images; ask for fewer",
    )
    queries = model.decode(session.draw(count, prior))
    for measure in measures:
        name = features.name if features and measure == "features" else measure
        parts = batches_for(model, store, training)
        batches = -(-len(training) // model.batch_size)
        candidates = tqdm(parts, name, batches, leave=False, disable=None, unit="batch")
        scores, places = nearest(queries, candidates, measure, kept, features)
        best = ", ".join(f"{score:.3g}" for score in scores[:, 0].tolist())
        click.echo(f"{name}, nearest of {len(training):,} training images: {best}")
        found = read_images(store, training[places.flatten().numpy()], model.resolution)
        found = found.unflatten(0, (count, -1))
        rows = torch.cat([queries[:, None].cpu(), found.cpu()], dim=1)
        session.save_grid(f"neighbours-{measure}.png", rows.flatten(0, 1), rows.shape[1])
