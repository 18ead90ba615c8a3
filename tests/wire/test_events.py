"""Tests which waiting answers a label matches, and the aliases under which an event is stored."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.samples import VERDICTS, answer_to
from wire.events import corrected_alias, encoded_key, key_of, list_aliases, lookup_alias, matching, with_key
from wire.receipts import Receipts
from wire.records import Event, Feedback

RECEIPTS = Receipts(b"a key for tests")


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A waiting answer."""

    source: str = ""
    event_id: str = "1"
    entity: str = "1"
    times_ms: tuple[int, ...] = (1_000,)


def label(*, source: str | None = None, receipt_ms: int | None = None, key: str = "", approval: str = "") -> Feedback:
    receipt = ""
    if receipt_ms is not None:
        receipt = RECEIPTS.of("1", time_ms=receipt_ms, entity=key if key else "1", verdicts=VERDICTS)
    return Feedback(event_id="1", label="refund", key=key, receipt=receipt, approval=approval, event_source=source)


CRM = Given(source="crm", entity="customer-7", times_ms=(2_000, 9_000))
HTTP = Given(source="http", times_ms=(1_000,))
PLAIN = Given(source="", times_ms=(3_000,))
WAITING = [CRM, HTTP, PLAIN, Given(event_id="2", source="crm")]


@pytest.mark.parametrize(
    ("feedback", "waiting", "expected"),
    [
        (label(), [], []),
        (label(), [CRM], [CRM]),
        (label(), WAITING, [CRM, HTTP, PLAIN]),
        (label(source="crm"), WAITING, [CRM]),
        (label(source=""), [CRM, HTTP, PLAIN], [PLAIN]),
        (label(source="desk"), [CRM, HTTP, PLAIN], []),
        (label(receipt_ms=2_000, key="customer-7"), WAITING, [CRM]),
        (label(receipt_ms=9_000, key="customer-7"), WAITING, [CRM]),  # the event was answered twice
        (label(receipt_ms=2_000), WAITING, []),  # of another entity
        (label(receipt_ms=1_001), WAITING, []),  # of another answer
        (label(source="crm", receipt_ms=1_000), WAITING, []),
        (label(source="http", receipt_ms=1_000), WAITING, [HTTP]),
        (label(source="http", receipt_ms=7, approval="by an operator"), [CRM, HTTP], [HTTP]),
    ],
)
def test_a_label_matches_the_answers_that_agree_with_all_its_fields(
    feedback: Feedback, waiting: list[Given], expected: list[Given]
) -> None:
    """B5: an event is (source, id), and a receipt belongs to one answer."""
    assert matching(feedback, waiting) == expected


words = st.text(max_size=4)
givens = st.builds(Given, source=words, event_id=words, entity=words, times_ms=st.tuples(st.integers(0, 2**43)))


@given(st.tuples(words, words), st.tuples(words, words))
def test_different_events_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (encoded_key(one) == encoded_key(other)) == (one == other)


@given(words)
def test_an_event_without_a_source_is_its_id(event_id: str) -> None:
    assert encoded_key(("", event_id)) == event_id.encode()


@given(givens, givens)
def test_aliases_of_different_kinds_are_disjoint(one: Given, other: Given) -> None:
    same = {
        0: (one.source, one.event_id) == (other.source, other.event_id),
        1: one.event_id == other.event_id,
        2: (one.event_id, one.entity, one.times_ms) == (other.event_id, other.entity, other.times_ms),
    }
    for kind, name in enumerate(list_aliases(one)):
        for other_kind, other_name in enumerate(list_aliases(other)):
            assert (name == other_name) == (kind == other_kind and same[kind])


@pytest.mark.parametrize(
    "feedback",
    [label(source="crm"), label(), label(receipt_ms=9_000, key="customer-7"), label(receipt_ms=7, approval="x")],
)
def test_a_label_looks_up_an_alias_of_its_event(feedback: Feedback) -> None:
    assert lookup_alias(feedback) in set(list_aliases(CRM))


def test_a_label_with_more_fields_looks_up_no_other_event() -> None:
    assert lookup_alias(label(receipt_ms=2_000)) not in set(list_aliases(CRM))
    assert lookup_alias(label(source="http")) not in set(list_aliases(CRM))


def test_an_answer_is_to_the_event_of_its_key() -> None:
    event = Event(id="1", text="a", source="crm")
    answer = answer_to("1", text="a", source="crm")
    assert key_of(event) == ("crm", "1")
    assert key_of(answer) == ("crm", "1")


def refusal(feedback: Feedback) -> str:
    return RECEIPTS.refusal(feedback, is_required=False, max_age_ms=1e9)


def test_a_label_gets_the_key_of_its_receipts_answer() -> None:
    """The answer must be waiting, and have the receipt's time and entity."""
    keyed = label(receipt_ms=9_000, key="customer-7")
    bare = msgspec.structs.replace(keyed, key="")
    assert with_key(bare, WAITING, refusal) == keyed
    assert with_key(keyed, (), refusal) == keyed
    assert with_key(bare, (HTTP, PLAIN), refusal) == bare
    other = msgspec.structs.replace(label(receipt_ms=9_001, key="customer-7"), key="")
    assert with_key(other, WAITING, refusal) == other
    own = label(receipt_ms=1_000)  # of an answer without a key
    assert with_key(own, WAITING, refusal) == own


@pytest.mark.parametrize(
    ("approval", "replaces", "source", "expected"),
    [
        ("", False, "crm", None),
        ("a", False, None, None),
        ("a", True, None, None),
        ("a", False, "crm", ("crm", "1")),
        ("", True, "crm", ("crm", "1")),
        ("", True, None, ("", "1")),
    ],
)
def test_a_label_replaces_the_label_of_one_event(
    approval: str, replaces: bool, source: str | None, expected: tuple[str, str] | None
) -> None:
    feedback = msgspec.structs.replace(label(source=source, approval=approval), replaces=replaces)
    assert corrected_alias(feedback) == (None if expected is None else encoded_key(expected))
