"""Receipts: message authentication codes that prove that a label is about an answer of this service. Pure functions.

    Answer   <-- of(event id, time, entity, verdicts)  serving, for every answer
    Feedback --> refusal: "", missing, forged, expired    learner and rollout, before a label has any effect
    receipt  --> verdicts_of                           the judge, once the receipt is known to be ours
    Feedback <-- approved (by an operator)             for a quarantined label that is right
    Feedback <-- with_answer  learner, for a late label whose answer it has found again;  has_answer: whether it did
    TextVector <-- vector                              serving; --> is_code_of_vector    learner

    receipt  = <time of the answer in ms>.<verdicts>.<HMAC-SHA256 over event id, time, entity and verdicts, 128 bits>
    verdicts = <arm>:<version that answered>:<version>-<fingerprint of what it says>:...    numbers hexadecimal
               a fingerprint (`wire.kinds`) is one word of 32 bits, or `+` and several: of a class its hash, of a set
               those of all that are named, of a score its place in the range

The verdicts are what every version would have answered that was at hand when the event was. Whoever gets the label
hashes it too, and so sees which of them were right, however late it is and without the answer.

A receipt holds the time of its answer, so it is checked without that answer. Whether a label is refused therefore does
not depend on which of the two topics is read faster, and a replay of the topics refuses the same labels. `wire.events`
checks that the receipt belongs to the answer with which the label is joined. An event that was answered twice (a
redelivery) has two valid receipts. The digest is truncated to half its length (RFC 2104, section 5). The keys are
derived from a secret by HKDF-Expand (RFC 5869, section 2.3), one for each purpose. There may be several secrets: the
first one makes, all are accepted. None of them signs weights or plans, so replicas may hold them (`wire/keyring.py`).
The codes of a task with a name are over that name, too: a receipt of one task proves nothing to another.

The age is the time of the label minus that in the receipt. Who sends a label may claim an early time for it, and gains
only that a late label counts.

Rejected: unguessable event ids (clients choose ids, and topics show them), and Ed25519 (makers and checkers of receipts
belong to the same installation; HMAC takes 2 us, and every answer has one).
"""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from wire.inputs import content_of, fields_of
from wire.keyring import Key, KeyRing, derived
from wire.kinds import MAX_WORDS, Fingerprint
from wire.records import Answer, ArmName, Feedback, TextVector

MAC_BYTES: Final = 16
MAX_VERDICTS: Final = 8
"""Most versions whose verdicts a receipt holds."""

MAX_CHARS: Final = 1_000
"""Longer than any receipt, with 107 characters for each of the most verdicts; a longer text is not parsed."""

FORGED = "forged"
EXPIRED = "expired"
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the versions name that were resident when `version` answered in `arm`, and share its encoder.

    `names` has pairs of a version and what it names, by ascending version, the version that answered included. There
    are at most MAX_VERDICTS.
    """

    arm: ArmName
    version: int
    names: tuple[tuple[int, Fingerprint], ...]


class _Keys:
    """The keys that are derived from one secret, by purpose."""

    def __init__(self, secret: bytes) -> None:
        self.receipt = derived(secret, b"lifelong receipt v1")
        self.approval = derived(secret, b"lifelong approval v1")
        self.answer = derived(secret, b"lifelong answer v1")
        self.vector = derived(secret, b"lifelong vector v1")
        self.draws = derived(secret, b"lifelong draws v1")


class Receipts:
    """Makes receipts and approvals with the first secret, and accepts those of all.

    Raises ValueError without a secret, and for an empty one, which everybody knows.
    """

    def __init__(self, *secrets: bytes) -> None:
        if not secrets or not all(secrets):
            raise ValueError("receipts need a secret that is not empty")
        self._derived = tuple(map(_Keys, secrets))
        self._ring: KeyRing | None = None
        self._derived_of: tuple[Key, ...] = ()

    @classmethod
    def following(cls, ring: KeyRing) -> "Receipts":
        """Returns those of the secrets of a ring, whatever they change to."""
        receipts = cls(*ring.receipts)
        receipts._ring = ring
        return receipts

    @property
    def _keys(self) -> tuple[_Keys, ...]:
        if self._ring is not None and (keys := self._ring.keys) is not self._derived_of:
            self._derived = tuple(map(_Keys, self._ring.receipts))
            self._derived_of = keys
        return self._derived

    def of(self, event_id: str, *, time_ms: int, entity: str, verdicts: Verdicts, task: str = "") -> str:
        """Returns the receipt of a task's answer at `time_ms` to the event of `entity` (its key; its id without one).

        Raises ValueError where there are more than MAX_VERDICTS names.
        """
        if len(verdicts.names) > MAX_VERDICTS:
            raise ValueError(f"{len(verdicts.names)} verdicts; a receipt holds {MAX_VERDICTS}")
        return _receipt(self._keys[0], task, event_id, time_ms, entity, _encoded(verdicts))

    def approved(self, feedback: Feedback) -> Feedback:
        """Returns the label with an operator's approval: it needs no receipt, and no limit and no alarm holds it."""
        return msgspec.structs.replace(feedback, approval=_approval_of(self._keys[0], feedback))

    def with_answer(self, feedback: Feedback, answer: Answer) -> Feedback:
        """Returns the label with the text of its answer, the label that was answered, and a proof of both."""
        said = msgspec.structs.replace(feedback, **fields_of(answer), answered=answer.named)
        found = msgspec.structs.replace(said, key=answer.key, event_source=answer.source, task=answer.task)
        return msgspec.structs.replace(found, proof=_answer_proof_of(self._keys[0], found))

    def has_answer(self, feedback: Feedback) -> bool:
        """Whether the text of the label is that of its answer, as `with_answer` has proved."""
        proof = feedback.proof
        return bool(proof) and any(_is_same(proof, _answer_proof_of(keys, feedback)) for keys in self._keys)

    def refusal(self, feedback: Feedback, *, is_required: bool, max_age_ms: float) -> str:
        """Returns why the label is refused, one of FORGED, EXPIRED and MISSING; "" where it is accepted."""
        if feedback.approval:
            approved = any(_is_same(feedback.approval, _approval_of(keys, feedback)) for keys in self._keys)
            return "" if approved else FORGED
        if not feedback.receipt:
            return MISSING if is_required else ""
        time_ms = time_of(feedback.receipt)
        if time_ms < 0:
            return FORGED
        verdicts = feedback.receipt.partition(".")[2].rpartition(".")[0]
        answer = (feedback.task, feedback.event_id, time_ms, feedback.answered_entity)
        if not any(_is_same(feedback.receipt, _receipt(keys, *answer, verdicts)) for keys in self._keys):
            return FORGED
        return EXPIRED if feedback.time_ms - time_ms > max_age_ms else ""

    @property
    def draws(self) -> bytes:
        """The secret of the draws of events (`wire.draws`)."""
        return self._keys[0].draws

    def vector(self, content: str, z: bytes, encoding: str) -> TextVector:
        """Returns the vector `z` of what an event says (`wire.inputs`) with its code."""
        return TextVector(z=z, encoding=encoding, code=_mac(self._keys[0].vector, content, encoding, z))

    def is_code_of_vector(self, vector: TextVector, content: str) -> bool:
        """Whether we made `vector`, of `content`."""
        made = (content, vector.encoding, vector.z)
        return any(_is_same(vector.code, _mac(keys.vector, *made)) for keys in self._keys)


def _receipt(keys: _Keys, task: str, event_id: str, time_ms: int, entity: str, verdicts: str) -> str:
    """Returns the receipt with these encoded verdicts."""
    code = _mac(keys.receipt, _event(task, event_id), time_ms, entity, verdicts)
    return f"{time_ms:x}.{verdicts}.{code}"


def _approval_of(keys: _Keys, feedback: Feedback) -> str:
    """Returns the code over the label's fields, and over the event's source and text where the label has them.

    Approvals without them are those of programs that did not have the fields yet.
    """
    event = _event(feedback.task, feedback.event_id)
    fields = (event, feedback.said, feedback.key, feedback.source, feedback.time_ms)
    event_source = () if feedback.event_source is None else (feedback.event_source,)
    content = content_of(feedback.text, feedback.features, feedback.parts)
    text = ("text", content) if content else ()
    return _mac(keys.approval, *fields, *event_source, *text)


def _answer_proof_of(keys: _Keys, feedback: Feedback) -> str:
    event = (_event(feedback.task, feedback.event_id), feedback.event_source or "", feedback.key, feedback.receipt)
    answered = () if feedback.answered is None else (feedback.answered,)
    return _mac(keys.answer, *event, content_of(feedback.text, feedback.features, feedback.parts), *answered)


def _event(task: str, event_id: str) -> str | tuple[str, str]:
    return (task, event_id) if task else event_id


def time_of(receipt: str) -> int:
    """Returns the time of the answer, in ms, that a receipt claims; -1 where the text is no receipt."""
    try:
        return int(receipt.partition(".")[0], 16) if len(receipt) <= MAX_CHARS else -1
    except ValueError:
        return -1


def verdicts_of(receipt: str) -> Verdicts | None:
    """Returns the verdicts that a receipt claims; None if the text is no receipt."""
    if len(receipt) > MAX_CHARS or receipt.count(".") != 2:
        return None
    arm, *numbers = receipt.split(".")[1].split(":")
    try:
        version, *pairs = numbers
        names = [pair.split("-") for pair in pairs[:MAX_VERDICTS]]
        return Verdicts(arm, int(version, 16), tuple((int(number, 16), _decoded(name)) for number, name in names))
    except ValueError:
        return None


def _encoded(verdicts: Verdicts) -> str:
    names = (f"{version:x}-{_encoded_name(named)}" for version, named in verdicts.names)
    return ":".join((verdicts.arm, f"{verdicts.version:x}", *names))


def _encoded_name(named: Fingerprint) -> str:
    return f"{named:08x}" if isinstance(named, int) else "+" + "".join(f"{name:08x}" for name in named)


def _decoded(encoded: str) -> Fingerprint:
    """Returns what a version names. Raises ValueError where the text says nothing."""
    if not encoded.startswith("+"):
        return int(encoded, 16)
    digits = encoded[1 : 1 + 8 * MAX_WORDS]
    return tuple(int(digits[first : first + 8], 16) for first in range(0, len(digits), 8))


def _mac(key: bytes, *parts: str | int | bytes | tuple[str, str]) -> str:
    return hmac.digest(key, msgspec.json.encode(parts), sha256)[:MAC_BYTES].hex()


def _is_same(claimed: str, expected: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(claimed.encode(), expected.encode())
