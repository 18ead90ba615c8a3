"""Encodes events: each encoder reads each event of a batch only once. Also counts answers and failures, and times
encoders.

    EncodingCache.encode_shared_blocks: lower blocks that several encoders share, computed once for all their events
    EncodingCache.vectors --events not encoded yet--> Health.encode_events --> z_BD
    engine, predict --count_answers, count_failure, encode--> Health --report--> ReplicaReport --> rollout

`Health` counts the answers, failures and slow forward passes of each live version, whatever the predictions are. It
keeps the times of the stable encoder's last forward passes, grouped by the number of tokens. A forward pass of another
encoder is slow if it takes longer than the tolerated multiple of their median, for passes of about the same size. If
there are too few such passes, the pass is not timed. Versions that share the stable encoder are never slow, because
they share its passes. If several encoders continue from the same lower blocks, the time of these blocks counts for each
of them.
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
from wire.inputs import is_text, parse_record
from wire.records import TOLERATED_SLOWDOWN, Event, VersionHealth

SIZES_PER_OCTAVE: Final = 4
"""The sizes of forward passes are grouped: there are this many groups for each doubling of the size. So the sizes in a
group differ by at most 19 %."""

NUM_FORWARDS: Final = 64
"""Number of the latest forward passes of the stable encoder that are kept for each group of sizes."""

MIN_FORWARDS: Final = 8
"""Number of forward passes of the stable encoder that a comparison needs."""


class SharedPrefix(NamedTuple):
    """One text's hidden states at the input of block `layer`, which several encoders share.

    `x_LD` has one row for each of the text's L tokens. `took_s` is the text's part of the time that the blocks below
    took.
    """

    layer: int
    x_LD: Tensor
    took_s: float


class Health:
    """Counts answers, failures and slow forward passes of one replica's live versions.

    The thread that swaps weights calls `follow` and `report`; the model's thread calls the other methods.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[int, VersionHealth] = {}
        self._encoders: dict[int, PackedEncoder] = {}
        self._stable_encoder: PackedEncoder | None = None
        self._stable_s: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=NUM_FORWARDS))

    def follow(self, encoders: Mapping[int, PackedEncoder], stable: int) -> None:
        """Counts only for these versions from now on. Keeps the counts of versions that stay live.

        `encoders` has the encoder of each version by its number. `stable` is the number of the stable version.
        """
        with self._lock:
            self._encoders = dict(encoders)
            self._counts = {number: self._counts.get(number, VersionHealth(version=number)) for number in encoders}
            # Times of another encoder are not a baseline for the new one.
            if encoders[stable] is not self._stable_encoder:
                self._stable_encoder = encoders[stable]
                self._stable_s.clear()

    def count_answers(self, number: int, num: int) -> None:
        """Counts `num` answers of version `number`, if it is still live."""
        with self._lock:
            counts = self._counts.get(number)
            if counts is not None:
                self._counts[number] = msgspec.structs.replace(counts, answers=counts.answers + num)

    def count_failure(self, number: int) -> None:
        """Counts an event that version `number` could not answer, but the stable version could."""
        self._add(number, answers=1, errors=1)

    def encode(
        self,
        encoder: PackedEncoder,
        batch: RaggedBatch,
        precision: str,
        *,
        others: Sequence["Health"] = (),
        prefixes: Sequence[SharedPrefix] = (),
    ) -> Tensor:
        """Returns the vectors of a batch, z_BD, and times the forward pass.

        The time counts for the versions with this encoder, here and in `others`. If `prefixes` are given, one for each
        text, the encoder continues from them, and their time is part of the pass.
        """
        began_s = self._clock()
        if prefixes:
            x_TD = batch.layout.join([prefix.x_LD for prefix in prefixes])
            z_BD = encoder.encode_from(prefixes[0].layer, x_TD, batch.layout, precision)
        else:
            z_BD = encoder.encode(batch, precision)
        took_s = self._clock() - began_s + sum(prefix.took_s for prefix in prefixes)
        size = round(SIZES_PER_OCTAVE * math.log2(len(batch.ids_T)))
        for health in (self, *others):
            health._add_forward(encoder, size, took_s)
        return checked(z_BD, len(batch.layout.order), encoder.config)

    def encode_prefixes(
        self, encoder: PackedEncoder, batch: RaggedBatch, precision: str, layer: int
    ) -> list[SharedPrefix]:
        """Returns the output of the blocks below `layer` for each text of a batch, in the caller's order."""
        began_s = self._clock()
        x_TD = encoder.encode_prefix(batch, layer, precision)
        token_s = (self._clock() - began_s) / len(x_TD)
        return [SharedPrefix(layer, x_LD, token_s * len(x_LD)) for x_LD in batch.layout.split(x_TD)]

    def _add_forward(self, encoder: PackedEncoder, size: int, took_s: float) -> None:
        with self._lock:
            forwards = self._stable_s[size]
            # The stable encoder is the baseline: its passes are only recorded.
            if encoder is self._stable_encoder:
                forwards.append(took_s)
                return
            numbers = [number for number, other in self._encoders.items() if other is encoder]
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
        prefixes: Sequence[SharedPrefix] = (),
    ) -> Tensor:
        """Returns the events' vectors, z_BD, and times the forward pass as `encode` does.

        `token_ids[i]` are the tokens of `events[i]`. If an event is more than a text, the encoder's inputs add the
        other parts to its vector.
        """
        z_BD = self.encode(encoder, RaggedBatch.of(token_ids), precision, others=others, prefixes=prefixes)
        if all(map(is_text, events)):
            return z_BD
        return encoder.inputs.joined(z_BD, [parse_record(event) for event in events])

    def report(self) -> tuple[VersionHealth, ...]:
        """Returns the counts of every live version."""
        with self._lock:
            return tuple(self._counts.values())

    def _add(self, number: int, **more: int) -> None:
        """Adds to the counts of a version, if it is still live."""
        with self._lock:
            counts = self._counts.get(number)
            if counts is not None:
                sums = {name: getattr(counts, name) + num for name, num in more.items()}
                self._counts[number] = msgspec.structs.replace(counts, **sums)


class EncodingCache:
    """The vectors of one batch's events, by encoder and precision. Each vector is computed once for all tasks and arms.

    - `health`: the Health of each task. A forward pass counts for the versions of all tasks.
    - `answered_ms`: the time at which the first task answered; 0 before that. The receipts of all tasks have this time.
    """

    def __init__(self, *health: Health) -> None:
        self.answered_ms = 0
        self._first, *self._others = health
        # Both are keyed by the identities of encoder and event, which live as long as the batch.
        self._known: defaultdict[tuple[int, str], dict[int, Tensor]] = defaultdict(dict)
        self._prefixes: dict[tuple[int, str], dict[int, SharedPrefix]] = {}

    def encode_shared_blocks(
        self,
        events: Sequence[Event],
        token_ids: Sequence[list[int]],
        encoders: Sequence[PackedEncoder],
        precision: str,
    ) -> None:
        """Computes the lower blocks that `encoders` have in common, once for all `events`.

        `vectors` continues from there. Raises BadTokens.
        """
        batch = RaggedBatch.of(token_ids)
        prefixes = self._first.encode_prefixes(encoders[0], batch, precision, common_layers(encoders))
        for encoder in encoders:
            self._prefixes[id(encoder), precision] = dict(zip(map(id, events), prefixes, strict=True))

    def vectors(
        self, events: Sequence[Event], token_ids: Sequence[list[int]], encoder: PackedEncoder, precision: str
    ) -> Tensor:
        """Returns the events' vectors, z_BD, and encodes only events that are not in the cache yet. Raises BadTokens.

        The cache recognizes an event by the identity of its object. `token_ids[i]` are the tokens of `events[i]`.
        """
        known = self._known[id(encoder), precision]
        new_rows = [row for row, event in enumerate(events) if id(event) not in known]
        if new_rows:
            new_events, new_tokens = select_rows(new_rows, events, token_ids)
            ids = list(map(id, new_events))
            computed = self._prefixes.get((id(encoder), precision), {})
            prefixes = [computed[event_id] for event_id in ids] if computed.keys() >= set(ids) else ()
            z_BD = self._first.encode_events(
                new_events, new_tokens, encoder, precision, others=self._others, prefixes=prefixes
            )
            known |= zip(ids, z_BD, strict=True)
            if len(new_rows) == len(events):
                return z_BD
        return torch.stack([known[id(event)] for event in events])


def select_rows(
    rows: Sequence[int], events: Sequence[Event], token_ids: Sequence[list[int]]
) -> tuple[list[Event], list[list[int]]]:
    """Returns the events and the token ids at these rows."""
    return [events[row] for row in rows], [token_ids[row] for row in rows]
