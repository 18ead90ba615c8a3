"""The shared object is loaded, and one warning reports why it is missing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels import native
from kernels.native import build


@pytest.fixture
def _unloaded() -> Iterator[None]:
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def isas() -> list[str]:
    return [isa for isa in native.ISAS if not native.why_unavailable(isa)]


def test_plain_c_always_runs() -> None:
    assert isas()[-1] == "plain"
    loaded = native.library()
    assert loaded is not None
    assert list(loaded.kernels) == isas()


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("no-such-compiler", "no C compiler"), ("false", "false -std=gnu11")],
)
@pytest.mark.usefixtures("_unloaded")
def test_without_an_object_torch_answers_and_one_warning_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, reason: str
) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    with pytest.warns(native.NativeKernelsMissing, match=f"no native kernels: {reason}.*gcc"):
        assert native.library() is None
    assert native.why_unavailable("plain") == ["the native kernels could not be built"]
