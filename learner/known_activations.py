"""Activations below the trained blocks, kept by text, so that a round need not encode the frozen bottom again.

    text --frozen blocks, INT8--> x_TD --float16--> kept, the oldest dropped beyond a bound --> the trained blocks

They are rounded to float16 whether they are kept or not, so what a round learns is the same with and without them, and
they are in no checkpoint. The key holds the boundary and the weights below it, so another bottom finds nothing of this
one, and rounds of every tier (`learner.tiers`) keep their own. All boundaries share one bound: what a boundary that is
not used any more has kept is the oldest.

Measured with 32 texts of CLINC150 and two trained blocks, on one thread of a Zen 4: a step takes 0.113 s with them and
0.146 s without; a step on the whole encoder takes 0.53 s.

Rejected: float32 (half as many texts; the rounding of INT8 is far coarser than that of float16), INT8 (a scale for each
token, and another rounding to train through), and encoding from a lower boundary that is kept up to a higher one (the
bits would depend on what was kept).

Shape suffixes: T tokens of a text, D width.
"""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

MAX_BYTES: Final = 32 << 20
"""Bytes of the activations that are kept: those of 3,600 texts of 12 tokens at D = 384."""


class KnownActivations:
    """Keeps activations by the digest of the weights that made them, and by text: `num_bytes` of them.

    Slow work adds them; the learner's thread clears them, and not while a unit is under way.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0
        self._x_by_text: dict[tuple[str, str], Tensor] = {}

    def __len__(self) -> int:
        return len(self._x_by_text)

    def add(self, below: str, text: str, x_TD: Tensor) -> Tensor:
        """Keeps the activations of a text, and drops the oldest beyond the bound; returns them rounded."""
        rounded_TD = x_TD.half()
        key = (below, text)
        self._drop(key)
        self._x_by_text[key] = rounded_TD.clone()  # and not a view of those of all texts
        self.num_bytes += rounded_TD.nbytes
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._x_by_text)))
        return rounded_TD

    def of(self, below: str, texts: Sequence[str]) -> dict[str, Tensor]:
        """Returns the activations x_TD that are kept, float16, by text."""
        found = ((text, self._x_by_text.get((below, text))) for text in texts)
        return {text: x_TD for text, x_TD in found if x_TD is not None}

    def clear(self) -> None:
        """Forgets all texts: somebody was erased."""
        self._x_by_text = {}
        self.num_bytes = 0

    def _drop(self, key: tuple[str, str]) -> None:
        dropped = self._x_by_text.pop(key, None)
        self.num_bytes -= 0 if dropped is None else dropped.nbytes
