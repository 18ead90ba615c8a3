"""Labels without receipts that wait for their answer, without the texts that came with them. Pure.

    put(alias, label) -> how many others were dropped for it, oldest first        in, get, take

A label may carry a text of 128 KiB, and the judge needs none of it. What is left of a label is bounded by number and by
bytes, since an id or a set of names may be long, too.

Rejected: the learner's window (`learner.labels.window`): rollout does not know the learner, and finds labels by alias.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from wire.records import Feedback

MAX_BYTES: Final = 64 << 20
"""Most bytes of waiting labels, by their encoding and OVERHEAD."""

OVERHEAD: Final = 600
"""Bytes of memory that a waiting label takes besides its encoding."""


class EarlyLabels(OrderedDict[bytes, Feedback]):
    """Holds the labels by alias, in their order. Labels come by `put` and leave by `take` alone."""

    def __init__(self, max_labels: int, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._max_labels = max_labels
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def put(self, alias: bytes, feedback: Feedback) -> int:
        """Lets the label wait, in the place of one under its alias; returns how many others were dropped for it, oldest
        first, so that the bounds hold."""
        if alias in self:
            self.take(alias)
        kept = msgspec.structs.replace(feedback, text="", features={}, proof="")
        self[alias] = kept
        self._num_bytes += _num_bytes(alias, kept)
        num_dropped = 0
        while len(self) > self._max_labels or self._num_bytes > self._max_bytes:
            self.take(next(iter(self)))
            num_dropped += 1
        return num_dropped

    def take(self, alias: bytes) -> Feedback:
        """Removes the label, which is here, and returns it."""
        feedback = self.pop(alias)
        self._num_bytes -= _num_bytes(alias, feedback)
        return feedback


def _num_bytes(alias: bytes, feedback: Feedback) -> int:
    return OVERHEAD + len(alias) + len(msgspec.msgpack.encode(feedback))
