"""Tests the helpers of settings: trees and dotted names, and rules that are all reported at once."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from wire.sections import INTERNAL, constants, flat, nested, require


@dataclass(frozen=True)
class Inner:
    bound: Annotated[int, INTERNAL] = 3


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    known: int = 1
    period_s: Annotated[float, INTERNAL] = 0.5


def test_the_constants_of_all_sections_are_found() -> None:
    sections = {"outer": Outer(inner=Inner(bound=4)), "seed": 0}
    assert constants(sections) == {"outer.inner.bound": 4, "outer.period_s": 0.5}


def test_a_tree_has_its_values_by_dotted_name_and_back() -> None:
    tree = {"seed": 1, "bus": {"partitions": 8, "client": {"batch_size": 5}}, "store": {}}
    assert flat(tree) == {"seed": 1, "bus.partitions": 8, "bus.client.batch_size": 5, "store": {}}
    assert nested(flat(tree)) == tree


def test_a_value_with_the_name_of_a_section_replaces_it() -> None:
    assert nested({"bus": 3, "bus.partitions": 8}) == {"bus": 3}


def test_all_broken_rules_are_reported() -> None:
    require((True, "never"))
    with pytest.raises(ValueError, match="one; two"):
        require((False, "one"), (True, "never"), (False, "two"))
