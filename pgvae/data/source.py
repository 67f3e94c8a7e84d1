"""What all sources of images have in common."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pgvae.data import images
from pgvae.data.labels import Columns


class Source(Protocol):
    """Named images. Picklable, so that worker processes can read from it.

    names:   of the images, in their order.
    skipped: {"name", "reason"} of what was passed over on purpose.
    tables:  names of files beside them that may hold labels.
    notes:   what else a user should be told of it.
    held:    uint8 [N], 1 for validation; None where the set does not say.
    """

    names: Sequence[str]
    skipped: list[dict[str, str]]
    tables: Sequence[str]
    notes: Sequence[str]
    held: np.ndarray | None

    def read(self, index: int) -> bytes | images.Decoded:
        """The file of image `index`, or its pixels where there is none.

        RejectError or OSError where it cannot be read.
        """
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Upright width and height from the header of image `index`; raises as `read`."""
        ...

    def side_file(self, name: str) -> bytes | None:
        """A file beside the images, such as dataset.json; None where there is none."""
        ...

    def columns(self) -> Columns | None:
        """What the set says of its images by itself; None where that is nothing."""
        ...

    def fingerprint(self) -> str:
        """Changes when the files do (names, sizes, times)."""
        ...

    def close(self) -> None:
        """Close what is open in this process; reading opens it again."""
        ...
