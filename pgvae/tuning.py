"""What makes PyTorch faster on a CPU without changing a number; PGVAE_CPU_TUNING=0 turns it off.

Called by the commands, not on import of the library: both are settings of a whole process.
"""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_INT_MAX = 2**31 - 1


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
    if not is_on() or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _INT_MAX))
