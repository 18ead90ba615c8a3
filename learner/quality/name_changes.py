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
the moment that they come. `rollout.publication_rule` decides by both. Events are counted under one encoder; with the
next one, the ring begins anew.

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

from learner.fast.row_log import Rows
from learner.quality.comparison import NO_TRIAL, Anchor, EncoderTrial, Paired
from learner.quality.evaluation import ScoredVersion
from learner.quality.named_rows import row_changes
from learner.quality.set_changes import are_classes, named, set_changes
from wire.label_set import LabelSet
from wire.records import NameChanges

MAX_EVENTS: Final = 2_000
"""Most events in the ring."""

MAX_BYTES: Final = 32 << 20
"""Most bytes of features in the ring, which bounds the events where a head has many features."""

NOT_COUNTED: Final = 2
"""Stands in place of a difference where the event came before this reference, or anything to compare with it."""


NO_SAMPLES: Final = Anchor()


class Reference(NamedTuple):
    """The version that candidates are compared with, by its number.

    `version` is None where it has another encoder than the one in use. Then `encoder` is the key of that, and `held`
    says which holdout samples it named rightly.
    """

    number: int
    version: ScoredVersion | None
    encoder: str = ""
    held: Anchor = NO_SAMPLES


class RecentEvents:
    """A ring of labelled events under one encoder, and how `reference` names them."""

    def __init__(self, num_features: int) -> None:
        self._before: ScoredVersion | None = None
        self._encoder = ""
        self._reference: Reference | None = None  # by the names of now
        self._given: Reference | None = None  # as it was given
        self._names = LabelSet()
        self._begin(num_features)

    def _begin(self, num_features: int) -> None:
        """Begins anew, for events of so many features."""
        self._max_events = min(MAX_EVENTS, MAX_BYTES // (4 * num_features))
        self._phi_NR = torch.zeros(self._max_events, num_features)
        self._labels = [""] * self._max_events
        self._differences_N = torch.full((self._max_events,), NOT_COUNTED)
        self._referred_N = torch.full((self._max_events,), -1)  # rows of the reference
        self._is_known_N = torch.zeros(self._max_events, dtype=torch.bool)  # whether the reference names the label
        self._was_right_N = torch.zeros(self._max_events, dtype=torch.bool)  # whether the version before names it
        self._counted: tuple[ScoredVersion | None, Tensor] = (None, self._was_right_N)  # the last one, as it names them
        self._num_added = 0

    def refer_to(self, reference: Reference | None) -> None:
        """Compares with `reference` from now on (None: with nothing)."""
        if reference is not self._given:
            self._given = reference
            self._begin_comparison()

    def rename(self, names: LabelSet) -> None:
        """Goes on under other names of the classes: what was counted until now counts no more."""
        self._names = names
        self._labels = [names.name_of(label) if label else "" for label in self._labels]
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
        referred = self._referred
        if referred is not None:
            num = len(self)
            rows_N, is_known_N = named(referred, self._phi_NR[:num], self._labels[:num], self._numbers)
            self._referred_N[:num] = rows_N
            self._is_known_N[:num] = is_known_N

    def add(self, rows: Rows, encoder: str, newest: ScoredVersion | None) -> None:
        """Adds events under `encoder`. `newest` is the version published last, which has not learnt them."""
        self._follow(newest)
        if encoder != self._encoder:
            self._encoder = encoder
            self._begin(rows.phi_BR.shape[1])
        phi_BR = rows.phi_BR[-self._max_events :]
        labels = rows.labels[-self._max_events :]
        numbers = range(self._num_added, self._num_added + len(labels))
        places_B = (self._num_added + torch.arange(len(labels))) % self._max_events
        self._num_added += len(labels)
        self._phi_NR[places_B] = phi_BR
        for place, label in zip(places_B.tolist(), labels, strict=True):
            self._labels[place] = label
        self._differences_N[places_B] = NOT_COUNTED
        self._was_right_N[places_B] = False
        referred = self._referred
        if referred is None or not labels:
            return
        self._referred_N[places_B], is_known_B = named(referred, phi_BR, labels, numbers)
        self._is_known_N[places_B] = is_known_B
        if newest is not None and newest.served.key == encoder and newest.classes:
            _, is_right_B = named(newest, phi_BR, labels, numbers)
            self._was_right_N[places_B] = is_right_B
            self._differences_N[places_B] = is_right_B.long() - is_known_B.long()

    def forget(self) -> None:
        """Forgets all events: somebody was erased."""
        self._num_added = 0
        self._phi_NR.zero_()
        self._labels = [""] * self._max_events

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
        num = len(self)
        if referred is None or version.served.key != self._encoder or not num or not version.classes:
            return NameChanges()
        ring = (self._phi_NR[:num], self._labels[:num])
        if are_classes(ring[1]):
            changed = row_changes(version, referred, *ring, self._referred_N[:num], self._names.retired)
        else:
            changed = set_changes(version, referred, *ring, self._numbers, self._names.retired)
        return self._with_line(version, *changed)

    def _with_line(
        self, version: ScoredVersion, changes: NameChanges, right_N: Tensor, is_gone_N: Tensor
    ) -> NameChanges:
        """Returns the changes with what else is known of the version, which names `right_N` rightly.

        What the reference names as a class that was retired (`is_gone_N`) is not forgotten.
        """
        self._counted = (version, right_N)
        num = len(self)
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
    def _numbers(self) -> list[int]:
        """The number of each event in the ring, counted from the first one that was ever added."""
        last = self._num_added - 1
        return [last - (last - place) % self._max_events for place in range(len(self))]

    @property
    def _referred(self) -> ScoredVersion | None:
        """The version that is referred to, if it has the encoder of the events."""
        version = self._reference.version if self._reference else None
        return version if version is not None and version.served.key == self._encoder else None

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
        return min(self._num_added, self._max_events)


def _changes_beside(reference: Reference, held: Anchor, trial: EncoderTrial) -> NameChanges:
    """Returns how a version does beside a reference under another encoder: on the holdout, and while it was tried."""
    on_holdout = reference.held.beside(held)
    if 2 * on_holdout.num < len(held.right) + len(held.wrong):
        on_holdout = Paired()
    tried = trial.paired if trial.before == reference.encoder else Paired()
    if not on_holdout.num and not tried.num:
        return NameChanges()
    return encoder_changes(on_holdout, tried, reference=reference.number)


def encoder_changes(held: Paired, tried: Paired, *, reference: int = 0) -> NameChanges:
    """Returns what a manifest says of a version whose encoder was compared by these counts."""
    return NameChanges(
        reference=reference,
        held_wins=held.won,
        held_ties=held.ties,
        held_losses=held.lost,
        trial_wins=tried.won,
        trial_ties=tried.ties,
        trial_losses=tried.lost,
    )
