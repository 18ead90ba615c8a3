"""Freed memory stays in the process, and weights lie in large pages."""

import platform
import resource

import pytest
import torch

from kernels.memory import LARGE_PAGE_BYTES, in_large_pages, keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_blocks_are_not_faulted_in_again() -> None:
    assert keep_freed_memory()
    for _ in range(3):
        torch.ones(1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 20)  # 1024 pages each
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 2048


@pytest.mark.parametrize("num_bytes", [1, LARGE_PAGE_BYTES - 1, LARGE_PAGE_BYTES, LARGE_PAGE_BYTES + 1])
def test_memory_in_large_pages_begins_with_one_and_is_as_long_as_asked(num_bytes: int) -> None:
    memory = in_large_pages(num_bytes)
    assert memory.data_ptr() % LARGE_PAGE_BYTES == 0
    assert (memory.dtype, memory.shape) == (torch.uint8, (num_bytes,))
    assert memory.fill_(7).sum() == 7 * num_bytes
