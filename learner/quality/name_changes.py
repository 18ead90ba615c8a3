"""What a version names differently from the reference of the rollout, on the labelled events that came last.

    the same encoder:

    features, labels of new events --newest published head, reference--> who named them rightly, before they are learnt
                                   --ring of the last events--> candidate, reference --> changed names
    another encoder:
    holdout samples --reference, while its encoder was in use; candidate--> who named them rightly
    labels of the trial --last head under the encoder of the reference, head under the new one--> who named them rightly

On events of classes that the reference knows, the accuracies of two versions cannot differ by more than the share of
events that they name differently. That share needs no label, so that what only adds classes is known to be harmless at
once; and whether the versions that were published last are better than the reference, or not worse, is known by labels
the moment that they come. `rollout.publication_rule` decides by both. Events are counted under one encoder, and go on
under other scales of numbers; with any other encoder, the ring begins anew (`learner.quality.event_ring`).

A version with another encoder than the reference is compared with it by what is known of both without encoding a text
twice: which holdout samples each names rightly. Nothing is said of these where they are less than half of the holdout:
so little would not speak for the rest. And by the trial of its encoder (`learner.slow.trial`), if that was beside the
encoder of the reference.

Shapes: N events in the ring, B new events, R features, C classes.

Operators rename classes, and retire some: then all are compared by the names of now, and what the reference names as a
class that was retired says nothing against a version.

Rejected: the names of holdout samples where the encoder is the same (they are balanced by class, events are not), and
the events of the encoder before (all of them would have to be encoded again).
"""

from typing import Final, NamedTuple

import msgspec
import torch
from torch import Tensor

from learner.export import ServedEncoder
from learner.fast.row_log import Rows
from learner.quality.comparison import NO_TRIAL, Anchor, EncoderTrial, Paired
from learner.quality.evaluation import ScoredVersion
from learner.quality.event_ring import EventRing
from learner.quality.named_rows import encoder_changes, row_changes
from learner.quality.set_changes import are_classes, named, set_changes
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
        self._phi_of_referred_NR: Tensor | None = None  # of sets and scores, under other scales than those of the ring

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
            changed = set_changes(version, referred, both, ring.labels, ring.numbers, retired)
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
    on_holdout = reference.held.beside(held)
    if 2 * on_holdout.num < len(held.right) + len(held.wrong):
        on_holdout = Paired()
    tried = trial.paired if trial.before == reference.encoder else Paired()
    if not on_holdout.num and not tried.num:
        return NameChanges()
    return encoder_changes(on_holdout, tried, reference=reference.number)
