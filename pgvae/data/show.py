"""A prepared set as one picture: images of each split, labels, sizes, what was left out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pgvae.data.balance import decide
from pgvae.data.store import SPLITS, Store
from pgvae.files import atomic_path
from pgvae.sizes import size_at

MARK = b"pgvae data show"  # at the start of the file, so that it is known among other pictures
_SHOWN = 64  # images of a split, eight in a row
_CELL = 64  # px a side
_WIDTH, _MARGIN, _LINE = 8 * _CELL, 16, 18
_INK, _BAR, _BACK = (30, 30, 30), (70, 130, 180), (225, 228, 232)
_MOST_LABELS, _MOST_REJECTS = 40, 5


def save_picture(path: Path, store: Store, similar: Sequence[tuple[int, int]]) -> None:
    """Write `picture_of` as a PNG that says `MARK`."""
    about = PngInfo()
    about.add_text("Software", MARK.decode())
    with atomic_path(path) as aside:
        picture_of(store, similar).save(aside, "PNG", pnginfo=about)


def picture_of(store: Store, similar: Sequence[tuple[int, int]]) -> Image.Image:
    """RGB: up to 64 images of each split on the left and right, and what there is to say below.

    similar: pairs of `near_duplicates`.
    """
    lines = lines_of(store, similar)
    labels = store.attributes[:_MOST_LABELS]
    height = 3 * _MARGIN + _LINE + _WIDTH + _LINE * (len(lines) + len(labels) + 2)
    page = Image.new("RGB", (2 * _WIDTH + 3 * _MARGIN, height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for column, split in enumerate(SPLITS):
        left = _MARGIN + column * (_WIDTH + _MARGIN)
        indices = store.split(split)
        draw.text((left, _MARGIN), f"{split}: {len(indices):,} images", _INK, font)
        page.paste(_sheet(store, indices), (left, _MARGIN + _LINE))
    top = 2 * _MARGIN + _LINE + _WIDTH
    for line in lines:
        draw.text((_MARGIN, top), line, _INK, font)
        top += _LINE
    for index, name in enumerate(labels):
        _draw_balance(draw, store, index, name, top, font)
        top += _LINE
    return page


def lines_of(store: Store, similar: Sequence[tuple[int, int]]) -> list[str]:
    """What there is to say of a set, a line each: sizes, what was left out, what is similar."""
    manifest, names = store.manifest, store.names()
    sides = manifest.get("sides", {})
    shown = ", ".join(f"{count:,} from {side} px" for side, count in sides.items())
    lines = [f"{store.name}: up to {store.size} px, crop {manifest['crop']}"]
    lines += [f"shorter sides of the files: {shown}"] if shown else []
    lines += [f"{manifest['duplicates']:,} files are the same as another, byte for byte"]
    lines += [f"{len(similar):,} images of val are nearly the same as one of train"]
    lines += [f"    {names[i]} ~ {names[k]}" for i, k in similar[:_MOST_REJECTS]]
    lines += [f"{manifest['rejected']:,} left out"]
    rejects = store.rejects()[:_MOST_REJECTS]
    lines += [f"    {entry['name']}: {entry['reason']}" for entry in rejects]
    return [line if len(line) <= 130 else f"{line[:129]}…" for line in lines]


def balance_of(store: Store, index: int) -> dict[str, tuple[int, int]]:
    """(yes, no) of a label by split: above and below a half; what is neither counts as neither."""
    said = decide(store.labels[:, [index]], 0.5, 0.5)[:, 0]
    of_split = {split: said[store.split(split)] for split in SPLITS}
    return {split: (int((s == 1).sum()), int((s == 0).sum())) for split, s in of_split.items()}


def _sheet(store: Store, indices: np.ndarray) -> Image.Image:
    """Images spread over a split, in eight rows."""
    chosen = indices[np.linspace(0, len(indices) - 1, min(_SHOWN, len(indices))).astype(int)]
    resolution = min(max(r for r in store.resolutions if r <= _CELL), _CELL)
    sheet = Image.new("RGB", (_WIDTH, _WIDTH), _BACK)
    for place, pixels in enumerate(store.get_many(chosen, resolution)):
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        height, width = size_at(store.base, _CELL)
        cell = image.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(cell, (place % 8 * _CELL, place // 8 * _CELL))
    return sheet


def _draw_balance(
    draw: ImageDraw.ImageDraw, store: Store, index: int, name: str, top: int, font: object
) -> None:
    """A bar for each split: how many say yes."""
    for column, (yes, no) in enumerate(balance_of(store, index).values()):
        left = _MARGIN + column * (_WIDTH + _MARGIN)
        share = yes / max(yes + no, 1)
        draw.text((left, top), f"{name[:24]}: {yes:,} of {yes + no:,}", _INK, font)
        bar = left + _WIDTH // 2
        draw.rectangle((bar, top + 3, left + _WIDTH, top + _LINE - 5), _BACK)
        if share:
            end = bar + share * (_WIDTH // 2)
            draw.rectangle((bar, top + 3, end, top + _LINE - 5), _BAR)
