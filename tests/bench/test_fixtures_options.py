"""Checks what `--set` changes."""

from dataclasses import dataclass

import pytest

from bench.fixtures import BadOption, parse_assignments, with_options


@dataclass(frozen=True)
class Size:
    seed: int = 0
    rate: float = 1.0
    only: str = ""


def test_fields_are_changed_by_their_types() -> None:
    assert with_options(Size(), parse_assignments(["seed=7", "rate=2.5", "only=kill"])) == Size(7, 2.5, "kill")
    assert with_options(Size(), {}) == Size()


@pytest.mark.parametrize(("options", "message"), [({"sed": "7"}, "only, rate, seed"), ({"seed": "x"}, "int")])
def test_a_wrong_option_is_told(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        with_options(Size(), options)


def test_an_assignment_has_a_value() -> None:
    with pytest.raises(BadOption, match="NAME=VALUE"):
        parse_assignments(["seed"])
