"""Freed memory stays in the process, and weights are in huge pages."""

import platform
import resource

import pytest
import torch

from kernels.allocator import HUGE_PAGE_BYTES, huge_page_tensor, keep_freed_memory
from tests.required import impossible


def test_freed_blocks_are_not_faulted_in_again() -> None:
    if platform.libc_ver()[0] != "glibc":
        impossible("the setting is glibc's")
    assert keep_freed_memory()
    for _ in range(3):
        torch.ones(1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 20)  # 1024 pages each
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 2048


@pytest.mark.parametrize("num_bytes", [1, HUGE_PAGE_BYTES - 1, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1])
def test_a_huge_page_tensor_is_aligned_and_has_the_requested_size(num_bytes: int) -> None:
    memory = huge_page_tensor(num_bytes)
    assert memory.data_ptr() % HUGE_PAGE_BYTES == 0
    assert (memory.dtype, memory.shape) == (torch.uint8, (num_bytes,))
    assert memory.fill_(7).sum() == 7 * num_bytes
