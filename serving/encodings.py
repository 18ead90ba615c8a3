"""The vectors of events: each encoder reads each event of a batch once, and its forwards are timed.

    EncodingCache.share: the lower blocks that several encoders have in common, once for the events of all of them
    EncodingCache.vectors --what is not known yet--> Health.encode_events --> z_BD
    engine, predict --answered, failed, encode--> Health --report--> ReplicaReport --> rollout

`Health` says how the versions that answer do beside each other, whatever they name: answers, failures, slow forwards.
The last forwards of the stable version's encoder are known by their number of tokens. A forward of another encoder is
compared with the median of those of about as many tokens: it is slow beyond the tolerated multiple of that. If there
are too few of them, it is not timed. Versions that share the stable encoder share its forwards, and so its latency.
If several encoders go on from the same lower blocks, the time of these counts for each as if it had computed them.
"""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

import msgspec
import torch
from torch import Tensor

from model.packed import PackedEncoder, checked
from model.quantized import common_layers
from model.ragged import RaggedBatch
from wire.inputs import is_text, said_by
from wire.records import TOLERATED_SLOWDOWN, Event, VersionHealth

SIZES_PER_OCTAVE: Final = 4
"""Forwards are compared with those of as many tokens, up to a fourth of an octave (19 %)."""

NUM_FORWARDS: Final = 64
"""Last forwards of the stable encoder that are known for each size."""

MIN_FORWARDS: Final = 8
"""Fewest of them that others are compared with."""


class LowerRows(NamedTuple):
    """The rows of a text's tokens at the input of block `layer`, which several encoders share, and its part of their
    time."""

    layer: int
    x_LD: Tensor
    took_s: float


class Health:
    """The counts of one replica, of the versions that answer now.

    Verbs: follow, answered, failed, encode_lower, encode, report.
    The thread that swaps weights calls `follow` and `report`, the model's thread the others.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[int, VersionHealth] = {}
        self._encoders: dict[int, PackedEncoder] = {}
        self._stable_encoder: PackedEncoder | None = None
        self._stable_s: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=NUM_FORWARDS))

    def follow(self, encoders: Mapping[int, PackedEncoder], stable: int) -> None:
        """Counts for these versions from now on, by their numbers; what is known of them stays."""
        with self._lock:
            self._encoders = dict(encoders)
            self._counts = {number: self._counts.get(number, VersionHealth(version=number)) for number in encoders}
            if encoders[stable] is not self._stable_encoder:
                self._stable_encoder = encoders[stable]
                self._stable_s.clear()

    def answered(self, number: int, num: int) -> None:
        """Counts answers of a version, unless it answers no longer."""
        with self._lock:
            counts = self._counts.get(number)
            if counts is not None:
                self._counts[number] = msgspec.structs.replace(counts, answers=counts.answers + num)

    def failed(self, number: int) -> None:
        """Counts an event that the version could not answer, and the stable one could."""
        self._add(number, answers=1, errors=1)

    def encode(
        self,
        encoder: PackedEncoder,
        batch: RaggedBatch,
        precision: str,
        *,
        others: Sequence["Health"] = (),
        lower: Sequence[LowerRows] = (),
    ) -> Tensor:
        """Returns the vectors of a batch, z_BD; counts the forward for the versions that have this encoder, here and in
        the `others`. With `lower`, of each text, it goes on from there, and their time is part of its own."""
        began_s = self._clock()
        if lower:
            x_TD = batch.layout.join([rows.x_LD for rows in lower])
            z_BD = encoder.encode_from(lower[0].layer, x_TD, batch.layout, precision)
        else:
            z_BD = encoder.encode(batch, precision)
        took_s = self._clock() - began_s + sum(rows.took_s for rows in lower)
        size = round(SIZES_PER_OCTAVE * math.log2(len(batch.ids_T)))
        for health in (self, *others):
            health._took(encoder, size, took_s)
        return checked(z_BD, len(batch.layout.order), encoder.config)

    def encode_lower(self, encoder: PackedEncoder, batch: RaggedBatch, precision: str, layer: int) -> list[LowerRows]:
        """Returns what the blocks below `layer` give for each text of a batch, in the caller's order."""
        began_s = self._clock()
        x_TD = encoder.encode_prefix(batch, layer, precision)
        token_s = (self._clock() - began_s) / len(x_TD)
        return [LowerRows(layer, x_LD, token_s * len(x_LD)) for x_LD in batch.layout.split(x_TD)]

    def _took(self, encoder: PackedEncoder, size: int, took_s: float) -> None:
        with self._lock:
            forwards = self._stable_s[size]
            if encoder is self._stable_encoder:
                forwards.append(took_s)
                return
            numbers = [number for number, each in self._encoders.items() if each is encoder]
            is_comparable = len(forwards) >= MIN_FORWARDS
            is_slow = is_comparable and took_s > TOLERATED_SLOWDOWN * median(forwards)
        for number in numbers if is_comparable else ():
            self._add(number, timed=1, slow=int(is_slow))

    def encode_events(
        self,
        events: Sequence[Event],
        token_ids: Sequence[list[int]],
        encoder: PackedEncoder,
        precision: str,
        *,
        others: Sequence["Health"] = (),
        lower: Sequence[LowerRows] = (),
    ) -> Tensor:
        """Returns z_BD of events, of which the encoder reads these tokens. Counts as `encode`."""
        z_BD = self.encode(encoder, RaggedBatch.of(token_ids), precision, others=others, lower=lower)
        if all(map(is_text, events)):
            return z_BD
        return encoder.inputs.joined(z_BD, [said_by(event) for event in events])

    def report(self) -> tuple[VersionHealth, ...]:
        with self._lock:
            return tuple(self._counts.values())

    def _add(self, number: int, **more: int) -> None:
        """Adds to the counts of a version, unless it answers no longer."""
        with self._lock:
            counts = self._counts.get(number)
            if counts is not None:
                sums = {name: getattr(counts, name) + num for name, num in more.items()}
                self._counts[number] = msgspec.structs.replace(counts, **sums)


class EncodingCache:
    """The vectors of the events of one batch, by encoder and precision: each is computed once, whoever asks.

    The forwards count for the versions of all tasks, in the `health` of each. `answered_ms` is when the first task
    answered its events, 0 before: the receipts of all tasks have that time.
    """

    def __init__(self, *health: Health) -> None:
        self.answered_ms = 0
        self._first, *self._others = health
        self._known: defaultdict[tuple[int, str], dict[int, Tensor]] = defaultdict(dict)
        self._lower: dict[tuple[int, str], dict[int, LowerRows]] = {}

    def share(
        self,
        events: Sequence[Event],
        token_ids: Sequence[list[int]],
        encoders: Sequence[PackedEncoder],
        precision: str,
    ) -> None:
        """Computes the lower blocks that these encoders have in common, once for all of these events: `vectors` goes on
        from there. Raises BadTokens."""
        batch = RaggedBatch.of(token_ids)
        lower = self._first.encode_lower(encoders[0], batch, precision, common_layers(encoders))
        for encoder in encoders:
            self._lower[id(encoder), precision] = dict(zip(map(id, events), lower, strict=True))

    def vectors(
        self, events: Sequence[Event], token_ids: Sequence[list[int]], encoder: PackedEncoder, precision: str
    ) -> Tensor:
        """Returns z_BD of events, which are known by their identity, and have these tokens. Raises BadTokens."""
        known = self._known[id(encoder), precision]
        new = [row for row, event in enumerate(events) if id(event) not in known]
        if new:
            picked, tokens = of_rows(new, events, token_ids)
            names = list(map(id, picked))
            lower = self._lower.get((id(encoder), precision), {})
            rows = [lower[name] for name in names] if lower.keys() >= set(names) else ()
            z_BD = self._first.encode_events(picked, tokens, encoder, precision, others=self._others, lower=rows)
            known |= zip(names, z_BD, strict=True)
            if len(new) == len(events):
                return z_BD
        return torch.stack([known[id(event)] for event in events])


def of_rows(
    rows: Sequence[int], events: Sequence[Event], token_ids: Sequence[list[int]]
) -> tuple[list[Event], list[list[int]]]:
    """Returns these rows of both."""
    return [events[row] for row in rows], [token_ids[row] for row in rows]
