"""Vectors that came with answers, so that the learner need not encode texts which a replica has just encoded.

    Answer.vector --same weights, same arithmetic, our code--> KnownVectors of the encoder --text--> z_BD

Equal names of encodings give equal vectors, to the last bit (`QuantizedEncoder.encoding`): what is learnt is the same
with and without them, and so is what is unlearnt later. They are in no checkpoint.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from wire.events import content
from wire.receipts import Receipts
from wire.records import Answer, Feedback, TextVector

MAX_BYTES: Final = 8 << 20
"""Bytes of the vectors that are held, and of their texts: those of the answers of 20 s at 200 a second, at D = 384."""


class KnownVectors:
    """Holds the last vectors by `encoding`, by text. The learner's thread adds and clears; any may look them up."""

    def __init__(self, encoding: str, width: int) -> None:
        self.encoding = encoding
        self._num_bytes = 4 * width
        self._z_by_text: dict[str, bytes] = {}
        self._held_bytes = 0

    def add(self, text: str, vector: TextVector) -> None:
        """Adds the vector of `text`, if it was made as ours are."""
        is_ours = bool(self.encoding) and vector.encoding == self.encoding
        if not is_ours or len(vector.z) != self._num_bytes or text in self._z_by_text:
            return
        self._z_by_text[text] = vector.z
        self._held_bytes += self._size_of(text)
        while self._held_bytes > MAX_BYTES:
            oldest = next(iter(self._z_by_text))
            del self._z_by_text[oldest]
            self._held_bytes -= self._size_of(oldest)

    def of(self, texts: Sequence[str]) -> dict[int, Tensor]:
        """Returns the vectors z_D that are known, by the place of their text."""
        found = [self._z_by_text.get(text) for text in texts]
        return {
            place: torch.from_numpy(np.frombuffer(z, "<f4").astype(np.float32))
            for place, z in enumerate(found)
            if z is not None
        }

    def clear(self) -> None:
        """Forgets all texts: somebody was erased."""
        self._z_by_text = {}
        self._held_bytes = 0

    def _size_of(self, text: str) -> int:
        return sys.getsizeof(text) + self._num_bytes


def take_vectors(records: Iterable[Answer | Feedback], known: KnownVectors, receipts: Receipts | None) -> None:
    """Adds the vectors of the answers among `records` whose code is ours; without `receipts` none is believed."""
    for record in records:
        if receipts is None or not isinstance(record, Answer) or record.vector is None:
            continue
        if receipts.is_code_of_vector(record.vector, content(record)):
            known.add(content(record), record.vector)
