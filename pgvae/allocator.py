"""Keep freed memory in the process: glibc gives large blocks back and faults them in again.

On a CPU every large activation would otherwise be fresh memory, which the kernel must clear
page by page: up to half of the time of an elementwise operation.
"""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_INT_MAX = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and to keep it; -> whether that was done.

    Called by the commands, not on import. PGVAE_MALLOC=system leaves the allocator alone, and
    so does any system without glibc.
    """
    if not sys.platform.startswith("linux") or os.environ.get("PGVAE_MALLOC") == "system":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _INT_MAX))
