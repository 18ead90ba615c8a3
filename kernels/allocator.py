"""Two memory settings: freed blocks stay in the process, and weights are in huge pages.

**malloc thresholds.** glibc returns freed blocks of about 100 KB and more to the system at once, and the next tensor of
this size is faulted in again, page by page. An encoder that frees and allocates a few megabytes at every operation
loses a third of its time to page faults. After `keep_freed_memory`, such blocks come from the heap and stay there.

**Huge pages.** Weights are read from front to back for every batch. In pages of 4 KB they need thousands of entries of
the translation lookaside buffer (TLB), more than a processor has: a text of 16 tokens takes 1.03 times as long as with
pages of 2 MB.
"""

import ctypes
import functools

import torch
from torch import Tensor

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

TRIM_THRESHOLD_BYTES = 128 << 20
"""Free memory at the end of the heap up to this size is kept. Beyond it, memory is returned to the system."""

MMAP_THRESHOLD_BYTES = 32 << 20
"""Blocks up to this size come from the heap. It is the largest value that glibc allows."""

HUGE_PAGE_BYTES = 2 << 20
MADV_HUGEPAGE = 14


@functools.cache
def keep_freed_memory() -> bool:
    """Sets both thresholds, once per process. Returns whether the C library has accepted them."""
    libc = ctypes.CDLL(None)
    try:
        mallopt = libc.mallopt
    except AttributeError:
        # The C library is not glibc.
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) and mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES))


def huge_page_tensor(num_bytes: int) -> Tensor:
    """Returns an uninitialised uint8 tensor [num_bytes] that starts at the boundary of a huge page.

    The system uses small pages if it has no huge pages.
    """
    rounded_bytes = -(-num_bytes // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    allocation = torch.empty(rounded_bytes + HUGE_PAGE_BYTES, dtype=torch.uint8)
    skip = -allocation.data_ptr() % HUGE_PAGE_BYTES
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise:
        # The result is ignored: without huge pages everything works, only slower.
        madvise(ctypes.c_void_p(allocation.data_ptr() + skip), ctypes.c_size_t(rounded_bytes), MADV_HUGEPAGE)
    return allocation[skip : skip + num_bytes]
