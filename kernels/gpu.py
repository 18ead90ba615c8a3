"""The reasons against running on a GPU, the same for every operation.

The Triton kernels of an operation are in its `gpu.py`, which its `Impl` imports when it runs: a process without a GPU
never loads Triton, which need not be installed.
"""

import functools
import importlib.util

import torch
from torch import Tensor

MIN_CAPABILITY = (8, 0)
"""The lowest compute capability of NVIDIA's GPUs: on older ones the compiler refuses products of int8."""


def why_not(tensor: Tensor) -> list[str]:
    """Reasons why the tensor cannot go to a Triton kernel; empty when it can."""
    reasons = [] if _has_triton() else ["triton is not installed"]
    if not tensor.is_cuda:
        reasons.append("the tensors are not on a GPU")
    elif torch.version.cuda:
        capability = torch.cuda.get_device_capability(tensor.device)
        if capability < MIN_CAPABILITY:
            reasons.append(f"the GPU has compute capability {capability}; expected {MIN_CAPABILITY} at least")
    return reasons


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
