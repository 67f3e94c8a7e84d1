"""What makes PyTorch faster on a CPU without changing a number; PGVAE_CPU_TUNING=0 turns it off.

Called by the commands and by training, not on import of the library: these are settings of a
whole process.
"""

import ctypes
import os
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_INT_MAX, _MAPPED = 2**31 - 1, 65536  # how many blocks glibc maps at most, unless told
_LARGE_BLOCK = 32 * 2**20  # bytes: the highest threshold that glibc takes
LARGE_PX = 512  # from this resolution on, return_large_blocks() is worth its time

_keeps_freed_memory = False


def is_on() -> bool:
    """Whether the user left tuning on."""
    return os.environ.get("PGVAE_CPU_TUNING") != "0"


def shorten_spinning() -> bool:
    """Let OpenMP's idle threads sleep early; -> whether that was done.

    GNU's OpenMP lets them spin 300 times longer, which slows two runs on the same cores down
    several times; not spinning at all costs a run that is alone a third. Only before PyTorch is
    imported, and never against OMP_WAIT_POLICY or GOMP_SPINCOUNT.
    """
    theirs = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if not is_on() or theirs or "torch" in sys.modules:
        return False
    os.environ["GOMP_SPINCOUNT"] = "1000"
    return True


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and to keep it; -> whether that was done.

    Otherwise every large activation is fresh memory, which the kernel must clear page by page: up
    to half of the time of an elementwise operation. Does nothing on a system without glibc.
    """
    global _keeps_freed_memory
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    _keeps_freed_memory = bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _INT_MAX))
    return _keeps_freed_memory


def return_large_blocks() -> bool:
    """Undo keep_freed_memory() for blocks of 32 MiB and more; -> whether that was done.

    For large pictures, and where memory ran out. At 1024 px (16 maps, batch 4) the gaps between
    such blocks held 3 of the heap's 7 GiB; to clear fresh pages instead costs a step there 60 %.
    Does nothing where freed memory is not kept.
    """
    global _keeps_freed_memory
    mallopt, trim = _glibc("mallopt"), _glibc("malloc_trim")
    if not _keeps_freed_memory or mallopt is None or trim is None:
        return False
    _keeps_freed_memory = False
    done = bool(mallopt(_M_MMAP_MAX, _MAPPED) and mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK))
    trim(0)  # what smaller stages left
    return done


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc, or None where there is none or tuning is off."""
    if not is_on() or not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
