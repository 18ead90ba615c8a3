"""The last labelled events, and the comparison of versions with the rollout's reference on them.

    same encoder:
    features, labels of new events --newest published head, reference--> which of the two are right, before learning
                                   --ring of the last events: candidate, reference--> different predictions
    another encoder:
    holdout samples --reference, while its encoder was current; candidate--> which of the two are right
    labels of the trial --last head under the reference's encoder, next head--> which of the two are right

The reference is the version with which the rollout compares candidates.

**The same encoder.** On events of classes that the reference knows, the accuracies of two versions cannot differ by
more than the share of events that they predict differently. This share needs no label, so a candidate that only adds
classes is known to be harmless at once. Whether the last published versions are better than the reference, or not
worse, is known as soon as labels come. `rollout.publication_rule` decides by both.

The ring holds the events with their features under one encoder. If a new encoder differs only in the measured scales of
inputs (`learner.standardisation`), it encodes texts as before, and the ring is kept: only events with such inputs are
encoded again. A version from before is then compared by features under its own scales. Under any other encoder the ring
starts empty.

**Another encoder.** The comparison must not encode a text twice. So it counts the holdout samples that each version
predicts rightly, unless the samples that both know are less than half of the holdout, too few to represent the rest.
It also counts the trial of the candidate's encoder (`learner.rounds.trial`), if the trial compared it with the
reference's encoder.

**Renamed classes.** If operators rename or retire classes, everything is compared under the current names. An event
that the reference predicts as a retired class does not count against a version.

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
from learner.quality.name_changes import are_classes, encoder_changes, output_changes, predict, row_changes
from wire.inputs import has_more_than_text
from wire.label_set import LabelSet
from wire.records import NameChanges

NOT_COUNTED: Final = 2
"""The mark of events that came before this reference, or before there was a version to compare with it."""

NO_SAMPLES: Final = Anchor()
"""The holdout results of a version that was not measured."""


class Reference(NamedTuple):
    """The version with which candidates are compared, by its number.

    `version` is None if it has another encoder than the current one, not counting the scales of inputs. Then `encoder`
    is the key of that encoder, and `holdout` has the holdout samples that the version predicted rightly and wrongly.
    """

    number: int
    version: ScoredVersion | None
    encoder: str = ""
    holdout: Anchor = NO_SAMPLES


class RecentEvents:
    """The last labelled events, with the predictions of the reference and the correctness of the newest version."""

    def __init__(self, num_features: int) -> None:
        self._ring = EventRing(num_features)
        self._newest: ScoredVersion | None = None
        # `_reference` has the current names of classes, `_original_reference` the names from its publication.
        self._reference: Reference | None = None
        self._original_reference: Reference | None = None
        self._names = LabelSet()
        self._reset()

    def _reset(self) -> None:
        """Clears the results for an empty ring."""
        num = self._ring.capacity
        # 1 if only the newest version was right on a new event, -1 if only the reference was, 0 if both or neither.
        self._differences_N = torch.full((num,), NOT_COUNTED)
        # The rows that the reference predicts, and whether they are right.
        self._reference_rows_N = torch.full((num,), -1)
        self._is_known_N = torch.zeros(num, dtype=torch.bool)
        # Whether the newest published version is right.
        self._was_right_N = torch.zeros(num, dtype=torch.bool)
        # The candidate that was compared last, and whether its predictions are right.
        self._counted: tuple[ScoredVersion | None, Tensor] = (None, self._was_right_N)
        # The features under the reference's scales, if these differ from the ring's scales and outputs are compared.
        self._reference_phi_NR: Tensor | None = None

    def refer_to(self, reference: Reference | None) -> None:
        """Compares with `reference` from now on; None: with nothing."""
        if not _is_same(reference, self._original_reference):
            self._original_reference = reference
            self._restart_comparison()

    def rename(self, names: LabelSet) -> None:
        """Renames the classes. The results until now are dropped."""
        self._names = names
        self._ring.rename(names.name_of)
        self._restart_comparison()

    def _restart_comparison(self) -> None:
        """Drops the results, and predicts the events of the ring by the reference under the current names."""
        given = self._original_reference
        version = given.version if given is not None else None
        if given is not None and version is not None:
            version = version._replace(classes=tuple(map(self._names.name_of, version.classes)))
            given = given._replace(version=version)
        self._reference = given
        self._differences_N.fill_(NOT_COUNTED)
        if self._reference_version is not None:
            self._predict_by_reference(self._reference_version, torch.arange(len(self._ring)))

    def _predict_by_reference(self, reference_version: ScoredVersion, places_B: Tensor) -> None:
        """Records the reference's predictions for some events."""
        phi_BR = self._ring.features_under(reference_version.served, places_B)
        self._reference_rows_N[places_B], self._is_known_N[places_B] = self._predict(
            reference_version, phi_BR, places_B
        )
        if are_classes(self._ring.labels_at(places_B)) or self._has_scales_of(reference_version):
            return
        if self._reference_phi_NR is None:
            self._reference_phi_NR = torch.zeros(self._ring.capacity, phi_BR.shape[1])
        self._reference_phi_NR[places_B] = phi_BR

    def _predict(self, version: ScoredVersion, phi_BR: Tensor, places_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rows that a version predicts for some events, and whether they are right."""
        return predict(version, phi_BR, self._ring.labels_at(places_B), self._ring.numbers_at(places_B))

    def _has_scales_of(self, version: ScoredVersion) -> bool:
        """Whether the version has the encoder of the ring, including the scales of inputs."""
        return self._ring.served is not None and version.served.key == self._ring.served.key

    def add(self, rows: Rows, served: ServedEncoder, newest: ScoredVersion | None) -> None:
        """Adds events encoded by `served`. `newest` is the last published version, which has not learnt them."""
        self._follow(newest)
        self._follow_encoder(served)
        places_B = self._ring.add(rows)
        self._differences_N[places_B] = NOT_COUNTED
        self._was_right_N[places_B] = False
        reference_version = self._reference_version
        if reference_version is None or not len(places_B):
            return
        self._predict_by_reference(reference_version, places_B)
        if newest is not None and self._ring.is_read_by(newest.served) and newest.classes:
            _, is_right_B = self._predict(newest, self._ring.features_under(newest.served, places_B), places_B)
            self._was_right_N[places_B] = is_right_B
            self._differences_N[places_B] = is_right_B.long() - self._is_known_N[places_B].long()

    def _follow_encoder(self, served: ServedEncoder) -> None:
        before = self._ring.served
        if not self._ring.follow(served):
            self._reset()
        elif before is not served and self._reference_version is not None and not are_classes(self._ring.labels):
            # The reference's predictions stay the same, but its features now have to be stored separately.
            self._predict_by_reference(self._reference_version, torch.arange(len(self._ring)))

    def forget(self) -> None:
        """Forgets all events, because of an erasure."""
        self._ring.forget()
        self._reference_phi_NR = None

    def name_changes(
        self, version: ScoredVersion, holdout: Anchor = NO_SAMPLES, trial: EncoderTrial = NO_TRIAL
    ) -> NameChanges:
        """Returns the comparison of `version` with the reference for the manifest; empty if they are not comparable.

        `holdout` has the holdout samples that `version` predicts rightly and wrongly; `trial` is the result of its
        encoder's trial.
        """
        reference = self._reference
        if reference is None:
            return NameChanges()
        if reference.version is None:
            return _compare_encoders(reference, holdout, trial)
        reference_version = self._reference_version
        ring = self._ring
        if reference_version is None or not self._has_scales_of(version) or not len(ring) or not version.classes:
            return NameChanges()
        retired = self._names.retired
        if are_classes(ring.labels):
            reference_N = self._reference_rows_N[: len(ring)]
            changed = row_changes(version, reference_version, ring.phi_NR, ring.labels, reference_N, retired)
        else:
            own_NR = ring.phi_NR
            before_NR = self._reference_phi_NR
            if before_NR is None or self._has_scales_of(reference_version):
                reference_NR = own_NR
            else:
                reference_NR = before_NR[: len(ring)]
            phi_NR = (own_NR, reference_NR)
            changed = output_changes(version, reference_version, phi_NR, ring.labels, ring.numbers, retired)
        return self._with_line(version, *changed)

    def _with_line(
        self, version: ScoredVersion, changes: NameChanges, right_N: Tensor, is_gone_N: Tensor
    ) -> NameChanges:
        """Adds the counts by labels to `changes`. `right_N`: whether the predictions of `version` are right.

        Events that the reference predicts as a retired class (`is_gone_N`) do not count as forgotten.
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
    def _reference_version(self) -> ScoredVersion | None:
        """The version of the reference, if its features of the events are known."""
        version = self._reference.version if self._reference else None
        return version if version is not None and self._ring.is_read_by(version.served) else None

    def _follow(self, newest: ScoredVersion | None) -> None:
        """Records that `newest` was published: the next candidate is compared with its predictions."""
        counted, right_N = self._counted
        if newest is self._newest:
            return
        self._was_right_N.fill_(False)
        if newest is counted:
            self._was_right_N[: len(right_N)] = right_N
        self._newest = newest

    def __len__(self) -> int:
        return len(self._ring)


def _is_same(one: Reference | None, other: Reference | None) -> bool:
    """Whether two references are the same version, possibly read from the store twice."""
    if one is None or other is None or one.version is None or other.version is None:
        return one is other
    return one.number == other.number and one.version.served.key == other.version.served.key


def _compare_encoders(reference: Reference, holdout: Anchor, trial: EncoderTrial) -> NameChanges:
    """Compares a version with a reference under another encoder, by the holdout and by the trial."""
    holdout_result = reference.holdout.compare_shared(holdout)
    if 2 * holdout_result.num < len(holdout.right) + len(holdout.wrong):
        holdout_result = Paired()
    trial_result = trial.paired if trial.before == reference.encoder else Paired()
    if not holdout_result.num and not trial_result.num:
        return NameChanges()
    return encoder_changes(holdout_result, trial_result, reference=reference.number)


MAX_EVENTS: Final = 2_000
"""The most events in the ring."""

MAX_BYTES: Final = 32 << 20
"""The most bytes of features in the ring. They bound the number of events if a head has many features."""


class EventRing:
    """A ring buffer of the last events with their features under the encoder `served`.

    `served` is None before the first event. `num_added` counts all events so far.
    """

    def __init__(self, num_features: int) -> None:
        self.served: ServedEncoder | None = None
        self.reset(num_features)

    def reset(self, num_features: int) -> None:
        """Empties the ring, and makes it for features of this number."""
        self.capacity = min(MAX_EVENTS, MAX_BYTES // (4 * num_features))
        self._phi_NR = torch.zeros(self.capacity, num_features)
        self.forget()

    def forget(self) -> None:
        """Forgets all events."""
        self._phi_NR.zero_()
        self._labels = [""] * self.capacity
        # The contents of events that have more than a text, for encoding them again.
        self._contents = [""] * self.capacity
        self.num_added = 0

    def follow(self, served: ServedEncoder) -> bool:
        """Changes to another encoder. Returns False if the events could not be kept."""
        before = self.served
        if before is not None and before.key == served.key:
            return True
        goes_on = self.is_read_by(served)
        if goes_on:
            num = len(self)
            self._phi_NR[:num] = self._features_under(served, self._contents[:num], self._phi_NR[:num])
        self.served = served
        if not goes_on:
            self.reset(served.config.head_features)
        return goes_on

    def add(self, rows: Rows) -> Tensor:
        """Adds the last of these events, at most `capacity`; returns their places in the ring, int64 [B]."""
        labels = rows.labels[-self.capacity :]
        places_B = (self.num_added + torch.arange(len(labels))) % self.capacity
        self.num_added += len(labels)
        self._phi_NR[places_B] = rows.phi_BR[-self.capacity :]
        contents = rows.contents[-self.capacity :]
        for place, label, content in zip(places_B.tolist(), labels, contents, strict=True):
            self._labels[place] = label
            self._contents[place] = content if has_more_than_text(content) else ""
        return places_B

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Renames the classes."""
        self._labels = [name_of(label) if label else "" for label in self._labels]

    def is_read_by(self, served: ServedEncoder) -> bool:
        """Whether the features of the events under an encoder are known: it differs at most in the scales of inputs."""
        return self.served is not None and served.text_key == self.served.text_key

    def features_under(self, served: ServedEncoder, places_B: Tensor) -> Tensor:
        """Returns the features phi_BR of some events under an encoder for which `is_read_by` holds."""
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
        """The position of each event in the stream, counted from the first event that was ever added."""
        return self.numbers_at(torch.arange(len(self)))

    def labels_at(self, places_B: Tensor) -> list[str]:
        """Returns the labels of some events."""
        return [self._labels[place] for place in places_B.tolist()]

    def numbers_at(self, places_B: Tensor) -> list[int]:
        """Returns the positions of some events in the stream."""
        last = self.num_added - 1
        numbers: list[int] = (last - (last - places_B) % self.capacity).tolist()
        return numbers

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)
