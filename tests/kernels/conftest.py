"""Fixtures: the instruction sets of our own kernels that run here, and the device of the kernels for GPUs.

Those run on a GPU if there is one, otherwise in Triton's interpreter, which `tests/conftest.py` asks for.
"""

import pytest
import torch

from kernels import native
from tests.required import missing


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The device whose tensors the kernels take here; skips the test if nothing can run them."""
    pytest.importorskip("triton", reason="triton is not installed")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=native.ISAS, scope="module")
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set that this processor can run."""
    name: str = request.param
    if reasons := native.why_not("plain"):
        missing("compiler", "; ".join(reasons))
    if reasons := native.why_not(name):
        pytest.skip("; ".join(reasons))
    return name
