"""The labelled events that came last, and what a version names differently on them from the reference of the rollout.

    the same encoder:

    features, labels of new events --newest published head, reference--> who named them rightly, before they are learnt
                                   --ring of the last events--> candidate, reference --> changed names
    another encoder:
    holdout samples --reference, while its encoder was in use; candidate--> who named them rightly
    labels of the trial --last head under the encoder of the reference, head under the new one--> who named them rightly

On events of classes that the reference knows, the accuracies of two versions cannot differ by more than the share of
events that they name differently. That share needs no label, so that what only adds classes is known to be harmless at
once; and whether the versions that were published last are better than the reference, or not worse, is known by labels
the moment that they come. `rollout.publication_rule` decides by both.

The ring holds the events with their features under one encoder. An encoder that differs from the one before in what
was measured of inputs alone (`learner.standardisation`) reads texts as that did. Then the ring goes on: events
with such values are encoded again, as `learner.standardisation` does with the memory, and what a version names can be
compared with one from before, which is read under its own scales. Under any other encoder the ring begins anew.

A version with another encoder than the reference is compared with it by what is known of both without encoding a text
twice: which holdout samples each names rightly. Nothing is said of these if they are less than half of the holdout: so
little would not speak for the rest. And by the trial of its encoder (`learner.rounds.trial`), if that was beside the
encoder of the reference.

Operators rename classes, and retire some: then all are compared by the names of now, and what the reference names as a
class that was retired says nothing against a version.

Shapes: N events in the ring, B new events, R features, C classes.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import torch
from torch import Tensor

from learner.encoder.served import ServedEncoder
from learner.fast.fast_head import Rows
from learner.quality.comparison import NO_TRIAL, Anchor, EncoderTrial, Paired
from learner.quality.evaluation import ScoredVersion
from learner.quality.name_changes import are_classes, encoder_changes, named, output_changes, row_changes
from wire.inputs import has_more
from wire.label_set import LabelSet
from wire.records import NameChanges

NOT_COUNTED: Final = 2
"""Stands in place of a difference where the event came before this reference, or anything to compare with it."""


NO_SAMPLES: Final = Anchor()


class Reference(NamedTuple):
    """The version that candidates are compared with, by its number.

    `version` is None where it has another encoder than the one in use, and not only other scales of numbers. Then
    `encoder` is the key of that, and `held` says which holdout samples it named rightly.
    """

    number: int
    version: ScoredVersion | None
    encoder: str = ""
    held: Anchor = NO_SAMPLES


class RecentEvents:
    """The labelled events that came last, and how `reference` names them."""

    def __init__(self, num_features: int) -> None:
        self._ring = EventRing(num_features)
        self._before: ScoredVersion | None = None
        self._reference: Reference | None = None  # by the names of now
        self._given: Reference | None = None  # as it was given
        self._names = LabelSet()
        self._begin()

    def _begin(self) -> None:
        """Begins anew: no event is there."""
        num = self._ring.capacity
        self._differences_N = torch.full((num,), NOT_COUNTED)
        self._referred_N = torch.full((num,), -1)  # rows of the reference
        self._is_known_N = torch.zeros(num, dtype=torch.bool)  # whether the reference names the label
        self._was_right_N = torch.zeros(num, dtype=torch.bool)  # whether the version before names it
        self._counted: tuple[ScoredVersion | None, Tensor] = (None, self._was_right_N)  # the last one, as it names them
        self._phi_of_referred_NR: Tensor | None = None  # of outputs, under other scales than those of the ring

    def refer_to(self, reference: Reference | None) -> None:
        """Compares with `reference` from now on (None: with nothing)."""
        if not _is_same(reference, self._given):
            self._given = reference
            self._begin_comparison()

    def rename(self, names: LabelSet) -> None:
        """Goes on under other names of the classes: what was counted until now counts no more."""
        self._names = names
        self._ring.rename(names.name_of)
        self._begin_comparison()

    def _begin_comparison(self) -> None:
        """Compares the events with the reference by the names of now."""
        given = self._given
        version = given.version if given is not None else None
        if given is not None and version is not None:
            version = version._replace(classes=tuple(map(self._names.name_of, version.classes)))
            given = given._replace(version=version)
        self._reference = given
        self._differences_N.fill_(NOT_COUNTED)
        if self._referred is not None:
            self._refer(self._referred, torch.arange(len(self._ring)))

    def _refer(self, referred: ScoredVersion, places_B: Tensor) -> None:
        """Notes what the reference names some events."""
        phi_BR = self._ring.features_under(referred.served, places_B)
        self._referred_N[places_B], self._is_known_N[places_B] = self._named(referred, phi_BR, places_B)
        if are_classes(self._ring.labels_at(places_B)) or self._has_scales_of(referred):
            return
        if self._phi_of_referred_NR is None:
            self._phi_of_referred_NR = torch.zeros(self._ring.capacity, phi_BR.shape[1])
        self._phi_of_referred_NR[places_B] = phi_BR

    def _named(self, version: ScoredVersion, phi_BR: Tensor, places_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rows that a version names for some events, and whether they are right."""
        return named(version, phi_BR, self._ring.labels_at(places_B), self._ring.numbers_at(places_B))

    def _has_scales_of(self, version: ScoredVersion) -> bool:
        """Whether the version has the encoder of the events, scales and all."""
        return self._ring.served is not None and version.served.key == self._ring.served.key

    def add(self, rows: Rows, served: ServedEncoder, newest: ScoredVersion | None) -> None:
        """Adds events under the encoder `served`. `newest` is the version published last, which has not learnt them."""
        self._follow(newest)
        self._follow_encoder(served)
        places_B = self._ring.add(rows)
        self._differences_N[places_B] = NOT_COUNTED
        self._was_right_N[places_B] = False
        referred = self._referred
        if referred is None or not len(places_B):
            return
        self._refer(referred, places_B)
        if newest is not None and self._ring.is_read_by(newest.served) and newest.classes:
            _, is_right_B = self._named(newest, self._ring.features_under(newest.served, places_B), places_B)
            self._was_right_N[places_B] = is_right_B
            self._differences_N[places_B] = is_right_B.long() - self._is_known_N[places_B].long()

    def _follow_encoder(self, served: ServedEncoder) -> None:
        before = self._ring.served
        if not self._ring.follow(served):
            self._begin()
        elif before is not served and self._referred is not None and not are_classes(self._ring.labels):
            self._refer(
                self._referred, torch.arange(len(self._ring))
            )  # it names them as before, by features of its own

    def forget(self) -> None:
        """Forgets all events: somebody was erased."""
        self._ring.forget()
        self._phi_of_referred_NR = None

    def name_changes(
        self, version: ScoredVersion, held: Anchor = NO_SAMPLES, trial: EncoderTrial = NO_TRIAL
    ) -> NameChanges:
        """Returns what `version` names differently from the reference; nothing where there is none to compare with.

        `held` says which holdout samples `version` names rightly, and `trial` how its encoder did.
        """
        reference = self._reference
        if reference is None:
            return NameChanges()
        if reference.version is None:
            return _changes_beside(reference, held, trial)
        referred = self._referred
        ring = self._ring
        if referred is None or not self._has_scales_of(version) or not len(ring) or not version.classes:
            return NameChanges()
        retired = self._names.retired
        if are_classes(ring.labels):
            of_reference_N = self._referred_N[: len(ring)]
            changed = row_changes(version, referred, ring.phi_NR, ring.labels, of_reference_N, retired)
        else:
            own_NR = ring.phi_NR
            before_NR = self._phi_of_referred_NR
            both = (own_NR, own_NR if before_NR is None or self._has_scales_of(referred) else before_NR[: len(ring)])
            changed = output_changes(version, referred, both, ring.labels, ring.numbers, retired)
        return self._with_line(version, *changed)

    def _with_line(
        self, version: ScoredVersion, changes: NameChanges, right_N: Tensor, is_gone_N: Tensor
    ) -> NameChanges:
        """Returns the changes with what else is known of the version, which names `right_N` rightly.

        What the reference names as a class that was retired (`is_gone_N`) is not forgotten.
        """
        self._counted = (version, right_N)
        num = len(self._ring)
        differences_N = self._differences_N[:num]
        return msgspec.structs.replace(
            changes,
            reference=self._reference.number if self._reference else 0,
            forgotten=int((self._is_known_N[:num] & ~right_N & ~is_gone_N).sum()),
            lost=int((self._was_right_N[:num] & ~right_N).sum()),
            wins=int((differences_N == 1).sum()),
            ties=int((differences_N == 0).sum()),
            losses=int((differences_N == -1).sum()),
        )

    @property
    def _referred(self) -> ScoredVersion | None:
        """The version that is referred to, if its encoder reads the events."""
        version = self._reference.version if self._reference else None
        return version if version is not None and self._ring.is_read_by(version.served) else None

    def _follow(self, newest: ScoredVersion | None) -> None:
        """Takes note that `newest` was published: the next version is compared with what it names."""
        counted, right_N = self._counted
        if newest is self._before:
            return
        self._was_right_N.fill_(False)
        if newest is counted:
            self._was_right_N[: len(right_N)] = right_N
        self._before = newest

    def __len__(self) -> int:
        return len(self._ring)


def _is_same(one: Reference | None, other: Reference | None) -> bool:
    """Whether two references are the same version, which was perhaps read twice."""
    if one is None or other is None or one.version is None or other.version is None:
        return one is other
    return one.number == other.number and one.version.served.key == other.version.served.key


def _changes_beside(reference: Reference, held: Anchor, trial: EncoderTrial) -> NameChanges:
    """Returns how a version does beside a reference under another encoder: on the holdout, and while it was tried."""
    on_holdout = reference.holdout.compare_shared(held)
    if 2 * on_holdout.num < len(held.right) + len(held.wrong):
        on_holdout = Paired()
    tried = trial.paired if trial.before == reference.encoder else Paired()
    if not on_holdout.num and not tried.num:
        return NameChanges()
    return encoder_changes(on_holdout, tried, reference=reference.number)


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
        self._contents = [""] * self.capacity  # of events that say more than a text
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
            self._contents[place] = content if has_more(content) else ""
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
