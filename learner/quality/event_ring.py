"""The labelled events that came last, with their features under one encoder.

    rows of the fast head's log --add--> ring: features, labels, contents --features_under--> those of another encoder

An encoder that differs from the one before in the scales of numbers alone (`learner.standardisation`) reads texts as
that did. Then the ring goes on: events with numbers are encoded again, as `learner.standardisation` does with the
memory. So what a version names can be compared with one from before, which is read under its own scales. Under any
other encoder the ring begins anew.

Rejected: the ring anew under other scales, too (numbers are standardised whenever there are twice as many labels, and
each time traffic would wait for the evidence that the versions after it are as good).

Shapes: N events in the ring, B new events, R features.
"""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from learner.export import ServedEncoder
from learner.fast.row_log import Rows
from wire.features import has_features

MAX_EVENTS: Final = 2_000
"""Most events in the ring."""

MAX_BYTES: Final = 32 << 20
"""Most bytes of features in the ring, which bounds the events where a head has many features."""


class EventRing:
    """Holds the events under the encoder `served` (None: there are none yet). `num_added` counts all so far."""

    def __init__(self, num_features: int) -> None:
        self.served: ServedEncoder | None = None
        self.begin(num_features)

    def begin(self, num_features: int) -> None:
        """Begins anew, for events of so many features."""
        self.capacity = min(MAX_EVENTS, MAX_BYTES // (4 * num_features))
        self._phi_NR = torch.zeros(self.capacity, num_features)
        self.forget()

    def forget(self) -> None:
        """Forgets all events."""
        self._phi_NR.zero_()
        self._labels = [""] * self.capacity
        self._contents = [""] * self.capacity  # of events with features
        self.num_added = 0

    def follow(self, served: ServedEncoder) -> bool:
        """Goes on under another encoder, where the events can; False where they were forgotten."""
        before = self.served
        if before is not None and before.key == served.key:
            return True
        goes_on = self.is_read_by(served)
        if goes_on:
            num = len(self)
            self._phi_NR[:num] = self._features_under(served, self._contents[:num], self._phi_NR[:num])
        self.served = served
        if not goes_on:
            self.begin(served.config.head_features)
        return goes_on

    def add(self, rows: Rows) -> Tensor:
        """Adds the last of these events; returns their places in the ring, int64 [B]."""
        labels = rows.labels[-self.capacity :]
        places_B = (self.num_added + torch.arange(len(labels))) % self.capacity
        self.num_added += len(labels)
        self._phi_NR[places_B] = rows.phi_BR[-self.capacity :]
        contents = rows.contents[-self.capacity :]
        for place, label, content in zip(places_B.tolist(), labels, contents, strict=True):
            self._labels[place] = label
            self._contents[place] = content if has_features(content) else ""
        return places_B

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Goes on under other names of the classes."""
        self._labels = [name_of(label) if label else "" for label in self._labels]

    def is_read_by(self, served: ServedEncoder) -> bool:
        """Whether an encoder can tell the features of the events: it is theirs, but for the scales of numbers."""
        return self.served is not None and served.text_key == self.served.text_key

    def features_under(self, served: ServedEncoder, places_B: Tensor) -> Tensor:
        """Returns the features phi_BR of events as an encoder that reads them sees them."""
        return self._features_under(
            served, [self._contents[place] for place in places_B.tolist()], self._phi_NR[places_B]
        )

    def _features_under(self, served: ServedEncoder, contents: Sequence[str], phi_BR: Tensor) -> Tensor:
        assert self.served is not None
        rows = [row for row, content in enumerate(contents) if content]
        if served.key == self.served.key or not rows:
            return phi_BR
        phi_BR = phi_BR.clone()
        phi_BR[rows] = served.features(served.z_many([contents[row] for row in rows]))
        return phi_BR

    @property
    def phi_NR(self) -> Tensor:
        """The features of the events."""
        return self._phi_NR[: len(self)]

    @property
    def labels(self) -> list[str]:
        """The labels of the events."""
        return self._labels[: len(self)]

    @property
    def numbers(self) -> list[int]:
        """The number of each event, counted from the first one that was ever added."""
        return self.numbers_at(torch.arange(len(self)))

    def labels_at(self, places_B: Tensor) -> list[str]:
        """Returns the labels of some events."""
        return [self._labels[place] for place in places_B.tolist()]

    def numbers_at(self, places_B: Tensor) -> list[int]:
        """Returns the numbers of some events."""
        last = self.num_added - 1
        numbers: list[int] = (last - (last - places_B) % self.capacity).tolist()
        return numbers

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)
