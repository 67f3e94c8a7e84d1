"""Damage: what a disk or a copy may make of a file."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from pgvae.errors import PgvaeError

TIMES = 1000  # that a file is damaged
TOKENS = [*b'{}[]",:\n\0\xff-.eE0123456789', *b"NaN", *b"null", *b"1e999"]


def damaged_copies(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    """One byte flipped at 100 offsets, and the content cut at 20 lengths."""
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= rng.randrange(1, 256)
        yield bytes(damaged)
    for _ in range(20):
        yield whole[: rng.randrange(len(whole))]


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, cut, doubled, put in, or exchanged for what formats are made of."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 30))
        change = rng.randrange(5)
        if change == 0 and at < len(data):
            data[at] ^= rng.randrange(1, 256)
        elif change == 1:
            del data[at : at + length]
        elif change == 2:
            data[at:at] = data[at : at + length]
        elif change == 3:
            data[at : at + length] = rng.randbytes(length)
        else:
            data[at : at + length] = bytes(rng.choices(TOKENS, k=length))
    return bytes(data)


def fuzz(file: Path, read: Callable[[], object], times: int = TIMES) -> int:
    """Read a file as it may come, never as it was; -> how often it was refused.

    Any other error is raised.
    """
    whole, rng, refused = file.read_bytes(), random.Random(file.name), 0
    for _ in range(times):
        damaged = mutated(whole, rng)
        while damaged == whole:
            damaged = mutated(whole, rng)
        file.write_bytes(damaged)
        try:
            read()
        except PgvaeError:
            refused += 1
    file.write_bytes(whole)
    return refused
