"""The state of a join as a checkpoint holds it."""

import msgspec

from learner.labels.late_labels import LateState
from learner.labels.sample import Waiting
from wire.records import Feedback


class JoinState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds everything that a `Join` knows, in window order.

    `pending` is encoded as list[Waiting], `parked` as list[Feedback]. `labelled`, `expired` and `erased` are hashes of
    aliases, `said` the labels of the last of them; `ends` has the last outcomes; `late` the labels whose answers are
    looked for.
    """

    pending: msgspec.Raw
    parked: msgspec.Raw
    labelled: list[int]
    said: dict[int, int] = {}
    expired: list[int]
    counts: dict[str, int]
    ends: list[str] = []
    erased: list[int] = []
    late: LateState = LateState()

    @property
    def answers(self) -> list[Waiting]:
        """The answers that wait for their label."""
        return msgspec.msgpack.decode(self.pending, type=list[Waiting])

    @property
    def labels(self) -> list[Feedback]:
        """The labels that wait for their answer."""
        return msgspec.msgpack.decode(self.parked, type=list[Feedback])
