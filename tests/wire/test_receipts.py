"""Tests receipts: only those that the service made are accepted."""

import hmac
from hashlib import sha256

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wire.receipts import Receipts
from wire.records import Feedback
from wire.timestamps import MAX_TIME_MS

RECEIPTS = Receipts(b"a key for tests")
DAY_MS = 86_400_000

ids = st.text(max_size=20)
times = st.integers(0, MAX_TIME_MS)


def label(event_id: str = "e", key: str = "", receipt: str = "", time_ms: int = 2_000) -> Feedback:
    return Feedback(event_id=event_id, label="refund", key=key, receipt=receipt, source="desk", time_ms=time_ms)


def refusal(feedback: Feedback, *, is_required: bool = True, max_age_ms: int = DAY_MS) -> str:
    return RECEIPTS.refusal(feedback, is_required=is_required, max_age_ms=max_age_ms)


def test_receipts_do_not_change() -> None:
    """Labels of answers that were given before an update are still believed after it."""
    key = hmac.digest(b"a key for tests", b"lifelong receipt v1\x01", sha256)
    mac = hmac.digest(key, b'["e-17",1700000000456,"customer-9"]', sha256).hex()[:32]
    assert RECEIPTS.of("e-17", time_ms=1_700_000_000_456, entity="customer-9") == f"18bcfe569c8.{mac}"


@given(ids, times, ids)
def test_the_label_of_a_given_answer_is_believed(event_id: str, time_ms: int, key: str) -> None:
    receipt = RECEIPTS.of(event_id, time_ms=time_ms, entity=key if key else event_id)
    assert refusal(label(event_id, key, receipt, time_ms)) == ""


@given(st.tuples(ids, times, ids), st.tuples(ids, times, ids))
def test_a_receipt_is_good_for_one_answer(made: tuple[str, int, str], used: tuple[str, int, str]) -> None:
    assume(made != used)
    mac = RECEIPTS.of(made[0], time_ms=made[1], entity=made[2]).partition(".")[2]
    other = RECEIPTS.of(used[0], time_ms=used[1], entity=used[2])
    assert f"{used[1]:x}.{mac}" != other


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{1,11}\.[0-9a-f]{32}", fullmatch=True))
def test_what_nobody_made_is_forged(receipt: str) -> None:
    assume(receipt)
    assert refusal(label(receipt=receipt), is_required=False) == "forged"


@pytest.mark.parametrize("written", ["+{}", " {}", "0{}", "0x{}", "{} "])
def test_another_way_to_write_a_receipt_is_forged(written: str) -> None:
    assert refusal(label(receipt=written.format(RECEIPTS.of("e", time_ms=1_000, entity="e")))) == "forged"


def test_a_receipt_of_another_key_entity_or_event_is_forged() -> None:
    theirs = Receipts(b"another key").of("e", time_ms=1_000, entity="e")
    ours = RECEIPTS.of("e", time_ms=1_000, entity="customer-9")
    assert refusal(label(receipt=theirs)) == "forged"
    assert refusal(label(receipt=ours, key="customer-8")) == "forged"
    assert refusal(label("f", receipt=ours, key="customer-9")) == "forged"
    assert refusal(label(receipt=ours, key="customer-9")) == ""


def test_a_label_without_a_receipt_is_missing_one_only_where_it_is_required() -> None:
    assert refusal(label()) == "missing"
    assert refusal(label(), is_required=False) == ""


def test_a_label_said_too_long_after_its_answer_is_expired() -> None:
    receipt = RECEIPTS.of("e", time_ms=1_000, entity="e")
    assert refusal(label(receipt=receipt, time_ms=1_000 + DAY_MS)) == ""
    assert refusal(label(receipt=receipt, time_ms=1_001 + DAY_MS)) == "expired"
    assert refusal(label(receipt=receipt, time_ms=0)) == ""


def test_an_operator_vouches_for_one_label() -> None:
    approved = RECEIPTS.approved(label(receipt="5.ab"))
    assert refusal(approved) == ""
    assert refusal(msgspec.structs.replace(approved, label="delivery")) == "forged"
    assert refusal(msgspec.structs.replace(label(), approval="ab" * 16)) == "forged"


def test_an_approval_covers_the_source_of_the_event_where_it_is_named() -> None:
    """B5: an approval is for one event. Approvals of labels without an event source stay valid."""
    key = hmac.digest(b"a key for tests", b"lifelong approval v1\x01", sha256)
    before = hmac.digest(key, b'["e","refund","","desk",2000]', sha256).hex()[:32]
    assert RECEIPTS.approved(label()).approval == before
    approved = RECEIPTS.approved(msgspec.structs.replace(label(), event_source="crm"))
    assert refusal(approved) == ""
    for source in (None, "", "http"):
        assert refusal(msgspec.structs.replace(approved, event_source=source)) == "forged"


def test_an_empty_key_makes_no_receipts() -> None:
    with pytest.raises(ValueError, match="signing key"):
        Receipts(b"")
