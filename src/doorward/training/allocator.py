"""Let the C library keep the memory that every training step needs again.

glibc returns large blocks to the kernel when they are freed and asks for them anew at the next
step; the kernel then clears each page again, which the study `training-speed` shows in images per
second. `keep_memory` raises two thresholds of `malloc`, once per process:

>>> keep_memory() in (True, False)
True
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

__all__ = ["keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from <malloc.h>
LARGEST_BLOCK = 1 << 30


@functools.cache
def keep_memory() -> bool:
    """Tell glibc's `malloc` to keep freed blocks of up to 1 GiB for the next step.

    The process then holds on to its peak memory until it ends. Set the environment variable
    ``DOORWARD_KEEP_MEMORY=0`` to leave the allocator alone.

    Returns:
        Whether the setting was made: False where the C library is another one (macOS, musl), or
        where the variable says no.
    """
    if os.environ.get("DOORWARD_KEEP_MEMORY") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)) and bool(
        mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_BLOCK - 1)
    )
