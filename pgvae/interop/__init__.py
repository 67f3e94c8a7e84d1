"""Files of other programs: checkpoints read as our snapshots, models written for runtimes."""

from pgvae.interop.pioneer import read_pioneer, vectors_beside

__all__ = ["read_pioneer", "vectors_beside"]
