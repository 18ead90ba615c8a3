"""Makes the C library keep memory that tensors gave back.

glibc returns freed blocks of some 100 KB and more to the system at once, and the next tensor of that size is faulted in
again, page by page. An encoder that frees and allocates a few megabytes at every operation loses a third of its time to
that. After this call such blocks come from the heap and stay there.

Rejected: preallocated buffers for every intermediate tensor (half of torch's operations cannot write into one, and two
threads could not share an encoder), and environment variables (whoever starts the process would have to know).
"""

import ctypes
import functools

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

KEPT_BYTES = 128 << 20
"""Free memory at the end of the heap that is kept; more is given back."""

HEAP_BLOCK_BYTES = 32 << 20
"""Blocks up to this size come from the heap: the largest value glibc allows."""


@functools.cache
def keep_freed_memory() -> bool:
    """Set both thresholds, once per process. False where the C library has no such setting."""
    libc = ctypes.CDLL(None)
    try:
        mallopt = libc.mallopt
    except AttributeError:  # not glibc
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
