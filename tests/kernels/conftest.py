"""Fixtures: the instruction sets of our own kernels that run here."""

import pytest

from kernels import native
from tests.required import impossible, missing


@pytest.fixture(params=native.ISAS, scope="module")
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set that this processor can run."""
    name: str = request.param
    if reasons := native.why_unavailable("plain"):
        missing("compiler", "; ".join(reasons))
    if reasons := native.why_unavailable(name):
        impossible("; ".join(reasons))
    return name
