"""Tests of importing classes by their paths."""

import json

import pytest

from learner.errors import DataError
from learner.plugins import import_any


@pytest.mark.parametrize(
    "name, arguments",
    [("json:JSONDecoder", {}), ("json.JSONDecoder(strict=False)", {"strict": False})],
)
def test_a_path_names_a_class_and_its_arguments(name: str, arguments: dict[str, bool]) -> None:
    assert import_any(name) == (json.JSONDecoder, arguments)


@pytest.mark.parametrize(
    "name, message",
    [
        ("nowhere_at_all:It", "does not import: No module named 'nowhere_at_all'. PYTHONPATH must name the folder of"),
        ("json:Nothing", "does not import: module 'json' has no attribute 'Nothing'"),
        ("avalanche-ewc", "avalanche-ewc does not import"),
        ("json:JSONDecoder(1.0)", "Python literals with their names"),
        ("json:JSONDecoder(strict=print())", "Python literals with their names"),
        ("json:JSONDecoder(strict=1) or it(strict=2)", "Python literals with their names"),
        ("..x:Y", "is not an import path"),
    ],
)
def test_a_path_that_names_nothing_is_refused_with_the_fix(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        import_any(name)
