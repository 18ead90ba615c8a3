"""The kind `multilabel`: the string of a set does not depend on the order of its names, and keeps all names."""

from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.kinds.sets import MAX_NAMES, MULTILABEL, names_of, set_of
from wire.kinds import MARKS, kind_of

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="".join(MARKS)), min_size=1)


@given(st.lists(NAMES))
def test_the_string_of_a_set_does_not_depend_on_the_order_and_keeps_the_names(names: list[str]) -> None:
    target = set_of(names)
    assert set_of(reversed(names)) == target == set_of(names + names)
    assert names_of(target) == tuple(sorted(set(names)))
    assert kind_of(target) is MULTILABEL


@given(NAMES)
def test_a_class_is_not_read_as_a_set(name: str) -> None:
    assert kind_of(name).class_names(name) == (name,)
    assert set_of([name]) != name


def test_a_set_with_too_many_names_or_a_blank_name_is_refused() -> None:
    assert "at most 64" in MULTILABEL.problem(tuple(map(str, range(MAX_NAMES + 1))))
    assert "leave it out" in MULTILABEL.problem(("refund", ""))
    assert not MULTILABEL.problem(())
