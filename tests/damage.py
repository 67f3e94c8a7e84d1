"""Damage: what a disk or a copy may make of a file."""

import random
from collections.abc import Iterator


def damaged_copies(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    """One byte flipped at 100 offsets, and the content cut at 20 lengths."""
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= rng.randrange(1, 256)
        yield bytes(damaged)
    for _ in range(20):
        yield whole[: rng.randrange(len(whole))]
