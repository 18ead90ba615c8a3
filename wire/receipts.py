"""Receipts: a label names an answer that the service really gave, and shows it. Pure: no clock, no network.

    Answer   <-- of(event id, time, entity)            serving, for every answer
    Feedback --> refusal: "", missing, forged, expired    whoever would believe a label, before it has any effect
    Feedback <-- approved (by an operator)             for a label that was quarantined and is right

    receipt = <time of the answer in ms, hexadecimal>.<HMAC-SHA256 over event id, time and entity, 128 bits>

A receipt says by itself when it was made, so it is checked before the answer is looked for: whether a label is refused
does not depend on which of the two topics is read faster, and a replay of the topics refuses the same labels. That it
is the receipt of the answer with which the label is joined is for `wire.events` to see. An event that was answered
twice (a redelivery) has two receipts, both good. The digest is cut to half (RFC 2104, section 5); the
keys are derived from the signing key by HKDF-Expand (RFC 5869, section 2.3), one for each purpose, so that no receipt
can pass for a signature of weights.

The age is judged by what the records say: the time of the label against the time in the receipt. The time of a label is
its sender's word; whoever may write labels may claim an early one, and gains only that a late label counts.

Rejected: event ids that nobody can guess (ids belong to the client, and lie in topics and logs), and Ed25519 (whoever
checks a receipt is of the same installation as whoever makes it; this takes 2 us and no dependency).
"""

import hmac
from hashlib import sha256
from typing import Final

import msgspec

from wire.records import Feedback

MAC_BYTES: Final = 16
MAX_CHARS: Final = 64
"""Longer than any receipt; nothing longer is looked at."""

FORGED = "forged"
EXPIRED = "expired"
MISSING = "missing"


class Receipts:
    """Makes and checks receipts and approvals. ValueError for an empty key, under which everybody could make them."""

    def __init__(self, signing_key: bytes) -> None:
        if not signing_key:
            raise ValueError("receipts need a signing key")
        self._receipt_key = derived(signing_key, b"lifelong receipt v1")
        self._approval_key = derived(signing_key, b"lifelong approval v1")

    def of(self, event_id: str, *, time_ms: int, entity: str) -> str:
        """The receipt of the answer given at `time_ms` to the event of `entity` (its key, or the id if it has none)."""
        return f"{time_ms:x}.{_mac(self._receipt_key, event_id, time_ms, entity)}"

    def approved(self, feedback: Feedback) -> Feedback:
        """The label as an operator vouches for it: no limit and no alarm holds it, and no receipt is asked for."""
        return msgspec.structs.replace(feedback, approval=self._approval_of(feedback))

    def refusal(self, feedback: Feedback, *, is_required: bool, max_age_ms: float) -> str:
        """Why the label is not to be believed, one of FORGED, EXPIRED, MISSING; "" where nothing speaks against it."""
        if feedback.approval:
            return "" if _is_same(feedback.approval, self._approval_of(feedback)) else FORGED
        if not feedback.receipt:
            return MISSING if is_required else ""
        time_ms = time_of(feedback.receipt)
        ours = self.of(feedback.event_id, time_ms=time_ms, entity=feedback.answered_entity)
        if time_ms < 0 or not _is_same(feedback.receipt, ours):
            return FORGED
        return EXPIRED if feedback.time_ms - time_ms > max_age_ms else ""

    def _approval_of(self, feedback: Feedback) -> str:
        """Covers the event's source where the label names it, and is what it was before labels could."""
        said = (feedback.event_id, feedback.label, feedback.key, feedback.source, feedback.time_ms)
        named = () if feedback.event_source is None else (feedback.event_source,)
        return _mac(self._approval_key, *said, *named)


def derived(signing_key: bytes, purpose: bytes) -> bytes:
    """The key for one purpose."""
    return hmac.digest(signing_key, purpose + b"\x01", sha256)


def time_of(receipt: str) -> int:
    """The time of the answer, in ms, that a receipt claims; -1 where it is none."""
    try:
        return int(receipt.partition(".")[0], 16) if len(receipt) <= MAX_CHARS else -1
    except ValueError:
        return -1


def _mac(key: bytes, *parts: str | int) -> str:
    return hmac.digest(key, msgspec.json.encode(parts), sha256)[:MAC_BYTES].hex()


def _is_same(given: str, ours: str) -> bool:
    """In a time that does not tell where the first difference is."""
    return hmac.compare_digest(given.encode(), ours.encode())
