"""Receipts: message authentication codes of answers. A label with a receipt proves to which answer it belongs. Pure.

    Answer     <-- of(event id, time, entity, verdicts)    serving makes a receipt for every answer
    Feedback   --> refusal: "", missing, forged, expired   learner and rollout check each label first
    receipt    --> parse_verdicts                          the judge reads the predictions in a checked receipt
    Feedback   <-- approved                                an operator approves a quarantined label
    Feedback   <-- with_answer --> has_answer              the learner has found the answer of a late label
    TextVector <-- vector --> is_own_vector                serving signs a vector, the learner checks it

    receipt  = <time of the answer in ms>.<verdicts>.<HMAC-SHA256 over event id, time, entity and verdicts, 128 bits>
    verdicts = <arm>:<version that answered>:<version>-<fingerprint of its prediction>:...    numbers hexadecimal
               a fingerprint (`wire.kinds`) is a 32-bit word, or `+` and several words: the hash of a class, the hashes
               of the labels of a set, or the place of a score in its range

**Verdicts** are the predictions of all versions that were loaded when the event was answered. A process that reads a
label compares the label's fingerprint with them. So it knows which versions were right without the answer, however late
the label is.

**Independence of the answer.** A receipt contains the time of its answer, so it can be checked without the answer. So
whether a label is refused does not depend on which topic is read faster, and a replay of the topics refuses the same
labels. `wire.events` checks that the receipt belongs to the answer with which the label is joined. An event that was
answered twice (a redelivery) has two valid receipts.

**Keys.** A key for each purpose is derived from a secret by HKDF-Expand (RFC 5869, section 2.3). There may be several
secrets: receipts are made with the first, and accepted from all. They cannot sign weights or plans, so replicas may
have them (`wire/keyring.py`). The code is truncated to half its length (RFC 2104, section 5). The code of a named task
covers the name, so a receipt of one task proves nothing to another task.

**Age.** The age of a receipt is the time of the label minus the time of the answer. A sender may claim an earlier time
for its label. All that it gains is that a label counts that is too late.

Rejected: unguessable event ids (clients choose ids, and topics show them), and Ed25519 (the same installation makes and
checks receipts, an HMAC takes 2 us, and every answer has one).
"""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from wire.inputs import encode_content, fields_of
from wire.keyring import Key, KeyRing, derive_key
from wire.kinds import MAX_WORDS, Fingerprint
from wire.records import Answer, ArmName, Feedback, TextVector

MAC_BYTES: Final = 16
MAX_VERDICTS: Final = 8
"""Highest number of versions whose predictions a receipt contains."""

MAX_CHARS: Final = 1_000
"""A longer text is not parsed as a receipt. Each of the MAX_VERDICTS verdicts has at most 107 characters."""

FORGED = "forged"
EXPIRED = "expired"
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The predictions of the loaded versions for an event that `version` answered in `arm`.

    `names` has pairs (version, fingerprint of its prediction) by ascending version, at most MAX_VERDICTS: the version
    that answered, the other loaded versions with the same encoder, and for some events versions with other encoders.
    """

    arm: ArmName
    version: int
    names: tuple[tuple[int, Fingerprint], ...]


class _Keys:
    """The keys that are derived from one secret, by purpose."""

    def __init__(self, secret: bytes) -> None:
        self.receipt = derive_key(secret, b"lifelong receipt v1")
        self.approval = derive_key(secret, b"lifelong approval v1")
        self.answer = derive_key(secret, b"lifelong answer v1")
        self.vector = derive_key(secret, b"lifelong vector v1")
        self.draws = derive_key(secret, b"lifelong draws v1")


class Receipts:
    """Makes receipts and approvals with the first secret, and accepts the receipts and approvals of all secrets.

    Raises ValueError if there is no secret, or one is empty.
    """

    def __init__(self, *secrets: bytes) -> None:
        if not secrets or not all(secrets):
            raise ValueError("receipts need a secret that is not empty")
        self._derived = tuple(map(_Keys, secrets))
        self._ring: KeyRing | None = None
        self._derived_from: tuple[Key, ...] = ()

    @classmethod
    def following(cls, ring: KeyRing) -> "Receipts":
        """Returns receipts with the secrets of the ring, also after the ring has changed."""
        receipts = cls(*ring.receipts)
        receipts._ring = ring
        return receipts

    @property
    def _keys(self) -> tuple[_Keys, ...]:
        """The derived keys. They are derived again after the ring has changed."""
        if self._ring is not None and (keys := self._ring.keys) is not self._derived_from:
            self._derived = tuple(map(_Keys, self._ring.receipts))
            self._derived_from = keys
        return self._derived

    def of(self, event_id: str, *, time_ms: int, entity: str, verdicts: Verdicts, task: str = "") -> str:
        """Returns the receipt of the answer that `task` gave at `time_ms` to the event `event_id`.

        `entity` is the event's key, or its id if it has no key. Raises ValueError for more than MAX_VERDICTS verdicts.
        """
        if len(verdicts.names) > MAX_VERDICTS:
            raise ValueError(f"a receipt holds at most {MAX_VERDICTS} verdicts, not {len(verdicts.names)}")
        return _receipt(self._keys[0], task, event_id, time_ms, entity, _encode(verdicts))

    def approved(self, feedback: Feedback) -> Feedback:
        """Returns the label with an operator's approval. An approved label needs no receipt, and no limit or alarm
        applies to it."""
        return msgspec.structs.replace(feedback, approval=_approval_code(self._keys[0], feedback))

    def with_answer(self, feedback: Feedback, answer: Answer) -> Feedback:
        """Returns the label with the content of its answer, the label that was answered, and a proof of both."""
        completed = msgspec.structs.replace(
            feedback,
            **fields_of(answer),
            answered=answer.prediction,
            key=answer.key,
            event_source=answer.source,
            task=answer.task,
        )
        return msgspec.structs.replace(completed, proof=_answer_proof(self._keys[0], completed))

    def has_answer(self, feedback: Feedback) -> bool:
        """Whether `with_answer` has added an answer's content to the label, and the label was not changed after
        that."""
        proof = feedback.proof
        return bool(proof) and any(_is_same(proof, _answer_proof(keys, feedback)) for keys in self._keys)

    def refusal(self, feedback: Feedback, *, is_required: bool, max_age_ms: float) -> str:
        """Returns why the label is refused: FORGED, EXPIRED or MISSING; "" if it is accepted.

        `is_required` says whether a label needs a receipt, and `max_age_ms` bounds the receipt's age.
        """
        # An approval replaces the receipt, which is then not checked.
        if feedback.approval:
            is_approved = any(_is_same(feedback.approval, _approval_code(keys, feedback)) for keys in self._keys)
            return "" if is_approved else FORGED
        if not feedback.receipt:
            return MISSING if is_required else ""
        time_ms = receipt_time_ms(feedback.receipt)
        if time_ms < 0:
            return FORGED
        # The code covers the encoded verdicts, so they are not parsed here.
        verdicts = feedback.receipt.partition(".")[2].rpartition(".")[0]
        answer = (feedback.task, feedback.event_id, time_ms, feedback.answered_entity)
        if not any(_is_same(feedback.receipt, _receipt(keys, *answer, verdicts)) for keys in self._keys):
            return FORGED
        return EXPIRED if feedback.time_ms - time_ms > max_age_ms else ""

    @property
    def draws(self) -> bytes:
        """The secret from which random samples of events are drawn (`wire.draws`)."""
        return self._keys[0].draws

    def vector(self, content: str, z: bytes, encoding: str) -> TextVector:
        """Signs the vector `z` of an event's `content` (`wire.inputs`)."""
        return TextVector(z=z, encoding=encoding, code=_mac(self._keys[0].vector, content, encoding, z))

    def is_own_vector(self, vector: TextVector, content: str) -> bool:
        """Whether this service computed `vector` from `content`."""
        fields = (content, vector.encoding, vector.z)
        return any(_is_same(vector.code, _mac(keys.vector, *fields)) for keys in self._keys)


def _receipt(keys: _Keys, task: str, event_id: str, time_ms: int, entity: str, verdicts: str) -> str:
    """Returns the receipt with these encoded verdicts."""
    code = _mac(keys.receipt, _event(task, event_id), time_ms, entity, verdicts)
    return f"{time_ms:x}.{verdicts}.{code}"


def _approval_code(keys: _Keys, feedback: Feedback) -> str:
    """Returns the code over the label's fields, and over the event's source and content if the label has them."""
    event = _event(feedback.task, feedback.event_id)
    fields = (event, feedback.label_string, feedback.key, feedback.source, feedback.time_ms)
    # A missing field is left out, because older programs made approvals before these fields existed.
    event_source = () if feedback.event_source is None else (feedback.event_source,)
    content = encode_content(feedback.text, feedback.features, feedback.parts)
    text = ("text", content) if content else ()
    return _mac(keys.approval, *fields, *event_source, *text)


def _answer_proof(keys: _Keys, feedback: Feedback) -> str:
    """Returns the code over the answer's event, receipt, content and label."""
    event = (_event(feedback.task, feedback.event_id), feedback.event_source or "", feedback.key, feedback.receipt)
    answered = () if feedback.answered is None else (feedback.answered,)
    return _mac(keys.answer, *event, encode_content(feedback.text, feedback.features, feedback.parts), *answered)


def _event(task: str, event_id: str) -> str | tuple[str, str]:
    """Returns the part of a code's input that identifies the event. The default task is left out, because older
    programs know no tasks."""
    return (task, event_id) if task else event_id


def receipt_time_ms(receipt: str) -> int:
    """Returns the time of the answer, in ms, that a receipt claims; -1 if the text is not a receipt."""
    try:
        return int(receipt.partition(".")[0], 16) if len(receipt) <= MAX_CHARS else -1
    except ValueError:
        return -1


def parse_verdicts(receipt: str) -> Verdicts | None:
    """Parses the verdicts that a receipt claims; None if the text is not a receipt."""
    if len(receipt) > MAX_CHARS or receipt.count(".") != 2:
        return None
    arm, *numbers = receipt.split(".")[1].split(":")
    names: list[tuple[int, Fingerprint]] = []
    try:
        version, *pairs = numbers
        for pair in pairs[:MAX_VERDICTS]:
            number, fingerprint = pair.split("-")
            names.append((int(number, 16), _decode_fingerprint(fingerprint)))
        return Verdicts(arm, int(version, 16), tuple(names))
    except ValueError:
        return None


def _encode(verdicts: Verdicts) -> str:
    names = (f"{version:x}-{_encode_fingerprint(fingerprint)}" for version, fingerprint in verdicts.names)
    return ":".join((verdicts.arm, f"{verdicts.version:x}", *names))


def _encode_fingerprint(fingerprint: Fingerprint) -> str:
    if isinstance(fingerprint, int):
        return f"{fingerprint:08x}"
    return "+" + "".join(f"{word:08x}" for word in fingerprint)


def _decode_fingerprint(encoded: str) -> Fingerprint:
    """Parses the fingerprint of a prediction. Raises ValueError if the text is not one."""
    if not encoded.startswith("+"):
        return int(encoded, 16)
    digits = encoded[1 : 1 + 8 * MAX_WORDS]
    return tuple(int(digits[first : first + 8], 16) for first in range(0, len(digits), 8))


def _mac(key: bytes, *parts: str | int | bytes | tuple[str, str]) -> str:
    return hmac.digest(key, msgspec.json.encode(parts), sha256)[:MAC_BYTES].hex()


def _is_same(claimed: str, expected: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(claimed.encode(), expected.encode())
