"""The kind `multilabel`: the string of a set does not depend on the order of its names, and keeps all names."""

from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.kinds.sets import MAX_NAMES, MULTILABEL, join_names, unpack_names
from wire.kinds import MARKS, find_kind

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="".join(MARKS)), min_size=1)


@given(st.lists(NAMES))
def test_the_string_of_a_set_does_not_depend_on_the_order_and_keeps_the_names(names: list[str]) -> None:
    target = join_names(names)
    assert join_names(reversed(names)) == target == join_names(names + names)
    assert unpack_names(target) == tuple(sorted(set(names)))
    assert find_kind(target) is MULTILABEL


@given(NAMES)
def test_a_class_is_not_read_as_a_set(name: str) -> None:
    assert find_kind(name).class_names(name) == (name,)
    assert join_names([name]) != name


def test_a_set_with_too_many_names_or_a_blank_name_is_refused() -> None:
    assert "at most 64" in MULTILABEL.problem(tuple(map(str, range(MAX_NAMES + 1))))
    assert "leave it out" in MULTILABEL.problem(("refund", ""))
    assert not MULTILABEL.problem(())
