"""What `--set` changes."""

from dataclasses import dataclass

import pytest

from bench.options import BadOption, changed, read


@dataclass(frozen=True)
class Size:
    seed: int = 0
    rate: float = 1.0
    only: str = ""


def test_fields_are_changed_by_their_types() -> None:
    assert changed(Size(), read(["seed=7", "rate=2.5", "only=kill"])) == Size(7, 2.5, "kill")
    assert changed(Size(), {}) == Size()


@pytest.mark.parametrize(("options", "said"), [({"sed": "7"}, "only, rate, seed"), ({"seed": "x"}, "int")])
def test_a_wrong_option_is_told(options: dict[str, str], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        changed(Size(), options)


def test_an_assignment_has_a_value() -> None:
    with pytest.raises(BadOption, match="NAME=VALUE"):
        read(["seed"])
