"""Freed memory stays in the process: a large tensor costs its pages once."""

import platform
import resource

import pytest
import torch

from kernels.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_blocks_are_not_faulted_in_again() -> None:
    assert keep_freed_memory()
    for _ in range(3):
        torch.ones(1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 20)  # 1024 pages each
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 2048
