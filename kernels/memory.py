"""How memory is got and kept.

**Kept.** glibc returns freed blocks of some 100 KB and more to the system at once, and the next tensor of that size is
faulted in again, page by page. An encoder that frees and allocates a few megabytes at every operation loses a third of
its time to that. After `keep_freed_memory` such blocks come from the heap and stay there.

**In large pages.** Weights that are read from front to back for every batch touch thousands of pages of 4 KB, more than
a processor remembers the places of: a text of 16 tokens takes 1.03 times as long as with pages of 2 MB.

Rejected: preallocated buffers for every intermediate tensor (half of torch's operations cannot write into one, and two
threads could not share an encoder), and environment variables (whoever starts the process would have to know).
"""

import ctypes
import functools

import torch
from torch import Tensor

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

KEPT_BYTES = 128 << 20
"""Free memory at the end of the heap that is kept; more is given back."""

HEAP_BLOCK_BYTES = 32 << 20
"""Blocks up to this size come from the heap: the largest value glibc allows."""

LARGE_PAGE_BYTES = 2 << 20
MADV_HUGEPAGE = 14


@functools.cache
def keep_freed_memory() -> bool:
    """Set both thresholds, once per process. False where the C library has no such setting."""
    libc = ctypes.CDLL(None)
    try:
        mallopt = libc.mallopt
    except AttributeError:  # not glibc
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))


def in_large_pages(num_bytes: int) -> Tensor:
    """Memory for `num_bytes`, uint8, from the beginning of a large page on; small pages where there are no large."""
    whole = -(-num_bytes // LARGE_PAGE_BYTES) * LARGE_PAGE_BYTES
    room = torch.empty(whole + LARGE_PAGE_BYTES, dtype=torch.uint8)
    skip = -room.data_ptr() % LARGE_PAGE_BYTES
    if madvise := getattr(ctypes.CDLL(None), "madvise", None):  # advice: what it answers changes nothing
        madvise(ctypes.c_void_p(room.data_ptr() + skip), ctypes.c_size_t(whole), MADV_HUGEPAGE)
    return room[skip : skip + num_bytes]
