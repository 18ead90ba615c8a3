"""Where the kernels for GPUs run: on a GPU where there is one, otherwise in Triton's interpreter.

The interpreter has to be asked for before Triton is loaded, which is why it happens here.
"""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The device whose tensors the kernels take here; skips the test where nothing can run them."""
    pytest.importorskip("triton", reason="triton is not installed")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
