"""Sets to bring up to date and to merge."""

from making import noise_files, prepared, write_files

from pgvae.data import Store, growing
from pgvae.data.prepare import Options
from pgvae.data.recipes import Split, folder


def sides_of(store: Store) -> dict[str, bool]:
    """Whether each image is held out, by name."""
    held = {*store.split("val").tolist()}
    return {name: index in held for index, name in enumerate(store.names())}


def updated(store: Store, path, split=None, labels=None, drop_labels=False, **options) -> Store:
    """The set brought up to date with a folder."""
    split = split or Split()
    recipe = folder(store.name, path, split, labels)
    settings = Options(**{"workers": 0, **options})
    return growing.update(
        store, recipe, settings, split, drop_labels=drop_labels, say=lambda _: None
    )


def labelled(tmp_path, name: str, seed: int, columns: tuple[str, ...], **options) -> Store:
    """A set of 20 images with labels, 4 of them held out."""
    files = noise_files(20, seed=seed, size=32)
    path, csv = write_files(tmp_path / name, files), tmp_path / f"{name}.csv"
    rows = [
        ",".join([n, *(f"{(i + k) % 2}" for k in range(len(columns)))]) for i, n in enumerate(files)
    ]
    csv.write_text("\n".join([",".join(["name", *columns]), *rows]) + "\n")
    return prepared(folder(name, path, Split(0.2), csv), tmp_path / "sets", **options)
