"""The window of what waits for its other half: its order, its bounds in bytes, and its bound for one id."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from learner.samples import OVERHEAD, SAME_ID, Waiting, Window
from tests.learner.intake.joins import answer

LARGE = 1 << 20


def item(event_id: str, text: str = "a text", source: str = "") -> Waiting:
    return Waiting.from_answer(answer(event_id, text, source=source))


def window(*items: Waiting, max_bytes: int = LARGE) -> Window[Waiting]:
    return Window(Waiting, max_bytes, items)


def test_items_of_an_id_are_found_oldest_first() -> None:
    one, other = item("e", "one"), item("e", "other")
    found = window(one, item("f"), other)
    assert found.of("e") == [one, other]
    assert found.of("nothing") == []
    assert len(found) == 3


def test_the_id_that_was_added_to_longest_ago_is_evicted_first() -> None:
    size = OVERHEAD + len(msgspec.msgpack.encode(item("a")))
    full = window(item("a"), item("b"), item("a"), max_bytes=3 * size)
    assert full.add(item("c")) == [item("b")]
    assert {each.event_id for each in full} == {"a", "c"}


def test_one_id_evicts_its_own_items_first_those_of_the_source_that_has_most() -> None:
    crowded = window(item("e", source="quiet"), item("f"))
    for number in range(SAME_ID - 1):
        assert crowded.add(item("e", str(number), source="loud")) == []
    assert crowded.add(item("e", "one more", source="loud")) == [item("e", "0", source="loud")]
    assert crowded.of("f") == [item("f")]
    assert len(crowded.of("e")) == SAME_ID


def test_an_item_is_replaced_in_its_place_and_removed() -> None:
    changed = window(item("e", "one"), item("e", "two"))
    changed.replace(item("e", "one"), item("e", "three"))
    assert [each.text for each in changed.of("e")] == ["three", "two"]
    changed.remove(item("e", "three"))
    changed.remove(item("e", "two"))
    assert (len(changed), changed.level.fill) == (0, 0.0)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.text(max_size=20)), max_size=30), st.integers(500, 5_000))
def test_its_export_is_its_items_and_its_bound_holds(added: list[tuple[str, str]], max_bytes: int) -> None:
    held = window(max_bytes=max_bytes)
    evicted: list[Waiting] = []
    for event_id, text in added:
        evicted += held.add(item(event_id, text))
    assert held.level.fill <= 1.0
    assert len(held) + len(evicted) == len(added)
    exported = msgspec.msgpack.decode(held.export(), type=list[Waiting])
    assert exported == list(held)
    assert list(window(*exported, max_bytes=max_bytes)) == list(held)
    assert held.newest(2) == list(held)[-2:]
