"""Choosing an implementation: order, force, reasons."""

from collections.abc import Iterator

import pytest

from kernels import dispatch
from kernels.dispatch import Impl, best_seconds, choose

IMPLS = (
    Impl("library/even", lambda n: [] if n % 2 == 0 else [f"n={n} is odd"], lambda n: "even"),
    Impl("library/small", lambda n: [] if n < 9 else [f"n={n} is not below 9"], lambda n: "small"),
    Impl("reference", lambda n: [], lambda n: "any"),
)


@pytest.fixture(autouse=True)
def _unread() -> Iterator[None]:
    dispatch.forced.cache_clear()
    yield
    dispatch.forced.cache_clear()


@pytest.mark.parametrize(("n", "name"), [(10, "library/even"), (7, "library/small"), (11, "reference")])
def test_first_without_a_reason_against_it(n: int, name: str) -> None:
    assert choose("op", IMPLS, n).name == name


@pytest.mark.parametrize(("force", "name"), [("reference", "reference"), ("library", "library/small")])
def test_force_admits_a_name_or_a_family(force: str, name: str) -> None:
    assert choose("op", IMPLS, 7, force=force).name == name


def test_every_reason_is_named() -> None:
    expected = r"op: nothing can run this \(library/even: n=11 is odd \| library/small: n=11 is not below 9\)"
    with pytest.raises(NotImplementedError, match=expected):
        choose("op", IMPLS, 11, force="library")


def test_unknown_force_is_named() -> None:
    with pytest.raises(NotImplementedError, match="no impl named 'gpu'"):
        choose("op", IMPLS, 1, force="gpu")


@pytest.mark.parametrize("family", ["reference", "library"])
def test_environment_forces_a_family(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, family)
    assert dispatch.forced() == family


def test_environment_unset_forces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    assert dispatch.forced() is None


def test_environment_with_another_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "fast")
    with pytest.raises(ValueError, match="'fast'; expected one of reference, library"):
        dispatch.forced()


def test_stopwatch_stops_at_its_budget() -> None:
    calls: list[int] = []
    assert best_seconds(lambda: calls.append(1), budget_s=0.0, max_calls=50) >= 0.0
    assert len(calls) == 2
