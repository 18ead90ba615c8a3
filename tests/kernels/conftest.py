"""The ways to compute of our own kernels that run here, and where those for GPUs run.

That is on a GPU where there is one, otherwise in Triton's interpreter, which has to be asked for before Triton is
loaded: so it happens here.
"""

import os

import pytest
import torch

from kernels import native
from tests.required import missing

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The device whose tensors the kernels take here; skips the test where nothing can run them."""
    pytest.importorskip("triton", reason="triton is not installed")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=native.WAYS, scope="module")
def way(request: pytest.FixtureRequest) -> str:
    """Each way to compute that this processor can run."""
    name: str = request.param
    if reasons := native.why_not("plain"):
        missing("compiler", "; ".join(reasons))
    if reasons := native.why_not(name):
        pytest.skip("; ".join(reasons))
    return name
