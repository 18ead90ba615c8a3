"""Tests receipts: only receipts of the service are accepted."""

import hmac
from hashlib import sha256

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.wire.samples import VERDICTS, answer_to
from wire.envelope import MAX_FIELD_BYTES
from wire.kinds import MAX_WORDS, name_hash
from wire.receipts import (
    FORGED,
    MAX_CHARS,
    MAX_VERDICTS,
    Receipts,
    Verdicts,
    parse_verdicts,
    receipt_time_ms,
)
from wire.records import Feedback
from wire.timestamps import MAX_TIME_MS

RECEIPTS = Receipts(b"a key for tests")
DAY_MS = 86_400_000

ids = st.text(max_size=20)
times = st.integers(0, MAX_TIME_MS)
hashes = st.integers(0, 2**32 - 1)
versions = st.integers(1, 2**63 - 1)
names = st.dictionaries(versions, hashes, min_size=1, max_size=MAX_VERDICTS)
verdicts = st.builds(
    lambda arm, names: Verdicts(arm, max(names), tuple(sorted(names.items()))),
    st.sampled_from(("stable", "candidate", "newest", "stand-in")),
    names,
)


def label(event_id: str = "e", key: str = "", receipt: str = "", time_ms: int = 2_000) -> Feedback:
    return Feedback(event_id=event_id, label="refund", key=key, receipt=receipt, source="desk", time_ms=time_ms)


def refusal(feedback: Feedback, *, is_required: bool = True, max_age_ms: int = DAY_MS) -> str:
    return RECEIPTS.refusal(feedback, is_required=is_required, max_age_ms=max_age_ms)


def make_receipt(event_id: str = "e", time_ms: int = 1_000, entity: str = "e", verdicts: Verdicts = VERDICTS) -> str:
    return RECEIPTS.of(event_id, time_ms=time_ms, entity=entity, verdicts=verdicts)


def compute_mac(*parts: str | int) -> str:
    key = hmac.digest(b"a key for tests", b"lifelong receipt v1\x01", sha256)
    return hmac.digest(key, msgspec.json.encode(parts), sha256).hex()[:32]


def test_receipts_do_not_change() -> None:
    """Labels of answers from before an update are still accepted after it."""
    given_verdicts = Verdicts("candidate", 12, ((9, name_hash("refund")), (12, name_hash("card_declined"))))
    text = "candidate:c:9-e12cf6e3:c-a750374a"
    mac = compute_mac("e-17", 1_700_000_000_456, "customer-9", text)
    receipt = make_receipt("e-17", 1_700_000_000_456, "customer-9", given_verdicts)
    assert receipt == f"18bcfe569c8.{text}.{mac}"
    assert parse_verdicts(receipt) == given_verdicts


def test_a_receipt_without_verdicts_is_forged() -> None:
    receipt = f"3e8.{compute_mac('e', 1_000, 'e')}"
    assert refusal(label(receipt=receipt)) == "forged"
    assert parse_verdicts(receipt) is None


@given(ids, times, ids, verdicts)
def test_the_label_of_a_given_answer_is_accepted(event_id: str, time_ms: int, key: str, made: Verdicts) -> None:
    receipt = make_receipt(event_id, time_ms, key if key else event_id, made)
    assert refusal(label(event_id, key, receipt, time_ms)) == ""
    assert (receipt_time_ms(receipt), parse_verdicts(receipt)) == (time_ms, made)
    assert len(receipt) <= MAX_CHARS


@given(verdicts, verdicts)
def test_other_verdicts_are_forged(made: Verdicts, claimed: Verdicts) -> None:
    assume(made != claimed)
    time, _, mac = make_receipt(verdicts=made).split(".")
    other = make_receipt(verdicts=claimed).split(".")[1]
    assert refusal(label(receipt=f"{time}.{other}.{mac}")) == "forged"
    assert refusal(label(receipt=f"{time}.{mac}")) == "forged"


@given(st.text(max_size=400) | st.from_regex(r"[0-9a-f]{1,11}\.[a-z:0-9-]{0,300}\.[0-9a-f]{32}", fullmatch=True))
def test_a_text_that_is_no_receipt_has_no_verdicts_or_few(text: str) -> None:
    claimed = parse_verdicts(text)
    assert claimed is None or len(claimed.names) <= MAX_VERDICTS


def test_the_number_of_verdicts_is_bounded() -> None:
    too_many = tuple((version, 0) for version in range(1, MAX_VERDICTS + 2))
    with pytest.raises(ValueError, match="8 verdicts, not 9"):
        make_receipt(verdicts=Verdicts("stable", 1, too_many))


@given(st.tuples(ids, times, ids), st.tuples(ids, times, ids))
def test_a_receipt_is_valid_for_one_answer(made: tuple[str, int, str], used: tuple[str, int, str]) -> None:
    assume(made != used)
    signed = make_receipt(*made).partition(".")[2]
    assert f"{used[1]:x}.{signed}" != make_receipt(*used)


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{1,11}\.[0-9a-f]{32}", fullmatch=True))
def test_any_other_text_is_forged(receipt: str) -> None:
    assume(receipt)
    assert refusal(label(receipt=receipt), is_required=False) == "forged"


@pytest.mark.parametrize("written", ["+{}", " {}", "0{}", "0x{}", "{} "])
def test_another_spelling_of_a_receipt_is_forged(written: str) -> None:
    assert refusal(label(receipt=written.format(make_receipt()))) == "forged"


def test_a_receipt_of_another_key_entity_or_event_is_forged() -> None:
    theirs = Receipts(b"another key").of("e", time_ms=1_000, entity="e", verdicts=VERDICTS)
    ours = make_receipt(entity="customer-9")
    assert refusal(label(receipt=theirs)) == "forged"
    assert refusal(label(receipt=ours, key="customer-8")) == "forged"
    assert refusal(label("f", receipt=ours, key="customer-9")) == "forged"
    assert refusal(label(receipt=ours, key="customer-9")) == ""


def test_a_label_without_a_receipt_is_refused_only_if_one_is_required() -> None:
    assert refusal(label()) == "missing"
    assert refusal(label(), is_required=False) == ""


def test_a_receipt_expires_for_late_labels() -> None:
    receipt = make_receipt()
    assert refusal(label(receipt=receipt, time_ms=1_000 + DAY_MS)) == ""
    assert refusal(label(receipt=receipt, time_ms=1_001 + DAY_MS)) == "expired"
    assert refusal(label(receipt=receipt, time_ms=0)) == ""


def test_an_approval_is_for_one_label() -> None:
    approved = RECEIPTS.approved(label(receipt="5.ab"))
    assert refusal(approved) == ""
    assert refusal(msgspec.structs.replace(approved, label="delivery")) == "forged"
    assert refusal(msgspec.structs.replace(label(), approval="ab" * 16)) == "forged"


def test_an_approval_covers_the_source_of_the_event_if_it_is_named() -> None:
    """B5: an approval is for one event. Approvals of labels without an event source stay valid."""
    key = hmac.digest(b"a key for tests", b"lifelong approval v1\x01", sha256)
    before = hmac.digest(key, b'["e","refund","","desk",2000]', sha256).hex()[:32]
    assert RECEIPTS.approved(label()).approval == before
    approved = RECEIPTS.approved(msgspec.structs.replace(label(), event_source="crm"))
    assert refusal(approved) == ""
    for source in (None, "", "http"):
        assert refusal(msgspec.structs.replace(approved, event_source=source)) == "forged"


def test_an_empty_key_makes_no_receipts() -> None:
    with pytest.raises(ValueError, match="a secret that is not empty"):
        Receipts(b"")


def test_a_vector_has_a_code_that_binds_it_to_its_text_and_encoding() -> None:
    receipts = Receipts(b"a key for the tests")
    vector = receipts.vector("hi", b"\x00\x01", "as ours")
    assert receipts.is_own_vector(vector, "hi")
    assert not receipts.is_own_vector(vector, "ho")
    for changed in ({"z": b"\x00\x02"}, {"encoding": "other"}, {"code": ""}):
        assert not receipts.is_own_vector(msgspec.structs.replace(vector, **changed), "hi")


def test_receipts_of_every_secret_are_accepted_and_made_with_the_first() -> None:
    before = Receipts(b"the old secret")
    new = Receipts(b"the new secret")
    both = Receipts(b"the new secret", b"the old secret")
    made = [each.of("e", time_ms=1_000, entity="e", verdicts=VERDICTS) for each in (before, new, both)]
    assert made[2] == made[1]
    for receipt in made:
        label = Feedback(event_id="e", label="yes", time_ms=2_000, receipt=receipt)
        assert both.refusal(label, is_required=True, max_age_ms=1e9) == ""
    label = Feedback(event_id="e", label="yes", time_ms=2_000, receipt=made[0])
    assert new.refusal(label, is_required=True, max_age_ms=1e9) == FORGED
    assert both.refusal(before.approved(label), is_required=True, max_age_ms=1e9) == ""
    assert both.is_own_vector(before.vector("text", b"12345678", "e"), "text")


sets = st.dictionaries(
    versions, st.lists(hashes, max_size=MAX_WORDS, unique=True).map(tuple), min_size=1, max_size=MAX_VERDICTS
)


@given(sets)
def test_predicted_sets_are_decoded_and_fit_a_field(named: dict[int, tuple[int, ...]]) -> None:
    verdicts = Verdicts("candidate", max(named), tuple(sorted(named.items())))
    receipt = make_receipt(verdicts=verdicts)
    assert parse_verdicts(receipt) == verdicts
    assert len(receipt) < min(MAX_CHARS, MAX_FIELD_BYTES)


def test_no_class_has_a_hash_of_its_own() -> None:
    assert name_hash(None) == 0


def test_an_approval_of_a_set_of_labels_is_for_that_set_only() -> None:
    approved = RECEIPTS.approved(Feedback(event_id="e", labels=("a", "b")))
    assert refusal(approved) == ""
    assert refusal(msgspec.structs.replace(approved, labels=("b", "a"))) == "", "it is the same set"
    for other in (("a",), ("a", "b", "c"), None):
        assert refusal(msgspec.structs.replace(approved, labels=other)) == FORGED


@given(ids, ids, verdicts, st.text(min_size=1, max_size=20))
def test_a_receipt_is_for_one_task(event_id: str, entity: str, given_verdicts: Verdicts, task: str) -> None:
    """A receipt is invalid if parts of it, or the name of its task, are moved to other parts."""
    receipt = RECEIPTS.of(event_id, time_ms=1_000, entity=entity, verdicts=given_verdicts, task=task)
    of_task = Feedback(event_id=event_id, label="refund", key=entity or event_id, receipt=receipt, task=task)
    assume(entity)
    assert refusal(of_task) == ""
    assert refusal(msgspec.structs.replace(of_task, task="")) == FORGED
    assert refusal(msgspec.structs.replace(of_task, task=f"{task}2")) == FORGED
    time, *parts, code = receipt.split(".")
    moved = ".".join((time, *parts, "task", task, code))
    assert refusal(msgspec.structs.replace(of_task, task="", receipt=moved)) == FORGED


def test_an_approval_and_a_found_answer_are_for_one_task() -> None:
    approved = RECEIPTS.approved(msgspec.structs.replace(label(), task="urgency"))
    assert refusal(approved) == ""
    assert refusal(msgspec.structs.replace(approved, task="")) == FORGED
    found = RECEIPTS.with_answer(label(), answer_to("e", task="urgency"))
    assert found.task == "urgency"
    assert RECEIPTS.has_answer(found)
    assert not RECEIPTS.has_answer(msgspec.structs.replace(found, task=""))
