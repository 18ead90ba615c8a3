"""Compares candidates with the rollout's reference version on the last labelled events.

    if both have the same encoder:
        new events, before they are learnt --newest published head, reference--> which of the two is right
        ring of the last events            --candidate, reference-------------> different predictions
    if the encoders differ:
        holdout samples     --reference (when its encoder was current), candidate--> which of the two is right
        labels of the trial --last head under the reference's encoder, next head--> which of the two is right

The reference is the version with which the rollout compares candidates.

**The same encoder.** On events of classes that the reference knows, the accuracies of two versions cannot differ by
more than the share of events that they predict differently. This share can be measured without labels. So it is known
at once that a candidate which only adds classes does no harm. As soon as labels come, it is also known whether the last
published versions are better than the reference, or not worse. `rollout.publication_rule` decides by both.

The ring has the events and their features under one encoder. A new encoder may differ only in the measured scales of
inputs (`learner.standardisation`). Then it encodes texts as before, and the ring is kept: only events with such inputs
are encoded again. An older version is then compared by features under its own scales. If the encoder differs otherwise,
the ring is emptied.

**Another encoder.** The comparison must not encode a text twice. So it uses two results that are known anyway. The
first is which holdout samples each version predicts rightly. It is not used if less than half of the holdout is known
for both versions, too little to represent the rest. The second is the trial of the candidate's encoder
(`learner.rounds.trial`), if the trial compared it with the reference's encoder.

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
"""Marks events that came before this reference was chosen, or before there was a version to compare with it."""

NO_SAMPLES: Final = Anchor()
"""Stands for the holdout results of a version that was not measured."""


class Reference(NamedTuple):
    """The version with which candidates are compared. `number` is its version number.

    If the version has the current encoder, apart from the scales of inputs, `version` is set. Otherwise `version` is
    None, `encoder` is the key of its encoder, and `holdout` has the holdout samples that it predicted rightly and
    wrongly.
    """

    number: int
    version: ScoredVersion | None
    encoder: str = ""
    holdout: Anchor = NO_SAMPLES


class RecentEvents:
    """Compares versions with the reference on the last labelled events.

    It has the events, the predictions of the reference, and whether the newest published version was right.
    """

    def __init__(self, num_features: int) -> None:
        self._ring = EventRing(num_features)
        self._newest: ScoredVersion | None = None
        # `_reference` has the current names of classes, `_original_reference` the names from its publication.
        self._reference: Reference | None = None
        self._original_reference: Reference | None = None
        self._names = LabelSet()
        self._reset()

    def _reset(self) -> None:
        """Clears all results, since the ring is empty."""
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
        """From now on compares with `reference`; with None nothing is compared."""
        if not _is_same(reference, self._original_reference):
            self._original_reference = reference
            self._restart_comparison()

    def rename(self, names: LabelSet) -> None:
        """Renames the classes. The results until now are dropped."""
        self._names = names
        self._ring.rename(names.name_of)
        self._restart_comparison()

    def _restart_comparison(self) -> None:
        """Drops the results, and lets the reference predict the events of the ring again, under the current names."""
        reference = self._original_reference
        version = reference.version if reference is not None else None
        if reference is not None and version is not None:
            version = version._replace(classes=tuple(map(self._names.name_of, version.classes)))
            reference = reference._replace(version=version)
        self._reference = reference
        self._differences_N.fill_(NOT_COUNTED)
        if self._reference_version is not None:
            self._predict_by_reference(self._reference_version, torch.arange(len(self._ring)))

    def _predict_by_reference(self, reference_version: ScoredVersion, index_B: Tensor) -> None:
        """Records the reference's predictions for some events."""
        phi_BR = self._ring.features_under(reference_version.served, index_B)
        self._reference_rows_N[index_B], self._is_known_N[index_B] = self._predict(reference_version, phi_BR, index_B)
        if are_classes(self._ring.labels_at(index_B)) or self._has_same_scales(reference_version):
            return
        if self._reference_phi_NR is None:
            self._reference_phi_NR = torch.zeros(self._ring.capacity, phi_BR.shape[1])
        self._reference_phi_NR[index_B] = phi_BR

    def _predict(self, version: ScoredVersion, phi_BR: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rows that a version predicts for some events, and whether they are right."""
        return predict(version, phi_BR, self._ring.labels_at(index_B), self._ring.numbers_at(index_B))

    def _has_same_scales(self, version: ScoredVersion) -> bool:
        """Returns whether a version has exactly the encoder of the ring, with the same scales of inputs."""
        return self._ring.served is not None and version.served.key == self._ring.served.key

    def add(self, rows: Rows, served: ServedEncoder, newest: ScoredVersion | None) -> None:
        """Adds labelled events, encoded by `served`. `newest`, the last published version, has not learnt them."""
        self._follow(newest)
        self._follow_encoder(served)
        index_B = self._ring.add(rows)
        self._differences_N[index_B] = NOT_COUNTED
        self._was_right_N[index_B] = False
        reference_version = self._reference_version
        if reference_version is None or not len(index_B):
            return
        self._predict_by_reference(reference_version, index_B)
        if newest is not None and self._ring.is_read_by(newest.served) and newest.classes:
            _, is_right_B = self._predict(newest, self._ring.features_under(newest.served, index_B), index_B)
            self._was_right_N[index_B] = is_right_B
            self._differences_N[index_B] = is_right_B.long() - self._is_known_N[index_B].long()

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
        if reference_version is None or not self._has_same_scales(version) or not len(ring) or not version.classes:
            return NameChanges()
        retired = self._names.retired
        if are_classes(ring.labels):
            reference_N = self._reference_rows_N[: len(ring)]
            changed = row_changes(version, reference_version, ring.phi_NR, ring.labels, reference_N, retired)
        else:
            own_NR = ring.phi_NR
            before_NR = self._reference_phi_NR
            if before_NR is None or self._has_same_scales(reference_version):
                reference_NR = own_NR
            else:
                reference_NR = before_NR[: len(ring)]
            phi_NR = (own_NR, reference_NR)
            changed = output_changes(version, reference_version, phi_NR, ring.labels, ring.numbers, retired)
        return self._with_label_counts(version, *changed)

    def _with_label_counts(
        self, version: ScoredVersion, changes: NameChanges, right_N: Tensor, is_gone_N: Tensor
    ) -> NameChanges:
        """Adds the counts that need labels to `changes`. `right_N`: whether the predictions of `version` are right.

        An event that the reference predicts as a retired class (`is_gone_N`) does not count as forgotten.
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
        """The reference's version, if the features of the ring's events under its encoder are known."""
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
    """Returns whether two references are the same version, possibly read from the store twice."""
    if one is None or other is None or one.version is None or other.version is None:
        return one is other
    return one.number == other.number and one.version.served.key == other.version.served.key


def _compare_encoders(reference: Reference, holdout: Anchor, trial: EncoderTrial) -> NameChanges:
    """Compares a version with a reference that has another encoder, by the holdout and by the trial."""
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
"""The most bytes of features in the ring. If a head has many features, this bounds the number of events."""


class EventRing:
    """A ring buffer of the last events with their features under the encoder `served`.

    `served` is None before the first event. `num_added` counts all events so far.
    """

    def __init__(self, num_features: int) -> None:
        self.served: ServedEncoder | None = None
        self.reset(num_features)

    def reset(self, num_features: int) -> None:
        """Empties the ring, and prepares it for vectors of `num_features` features."""
        self.capacity = min(MAX_EVENTS, MAX_BYTES // (4 * num_features))
        self._phi_NR = torch.zeros(self.capacity, num_features)
        self.forget()

    def forget(self) -> None:
        """Forgets all events."""
        self._phi_NR.zero_()
        self._labels = [""] * self.capacity
        # The contents of events that have more than a text, which may have to be encoded again.
        self._contents = [""] * self.capacity
        self.num_added = 0

    def follow(self, served: ServedEncoder) -> bool:
        """Changes to another encoder. Returns False if the events could not be kept."""
        before = self.served
        if before is not None and before.key == served.key:
            return True
        can_keep = self.is_read_by(served)
        if can_keep:
            num = len(self)
            self._phi_NR[:num] = self._features_under(served, self._contents[:num], self._phi_NR[:num])
        self.served = served
        if not can_keep:
            self.reset(served.config.head_features)
        return can_keep

    def add(self, rows: Rows) -> Tensor:
        """Adds events, at most the last `capacity` of them; returns their indices in the ring, int64 [B]."""
        labels = rows.labels[-self.capacity :]
        index_B = (self.num_added + torch.arange(len(labels))) % self.capacity
        self.num_added += len(labels)
        self._phi_NR[index_B] = rows.phi_BR[-self.capacity :]
        contents = rows.contents[-self.capacity :]
        for index, label, content in zip(index_B.tolist(), labels, contents, strict=True):
            self._labels[index] = label
            self._contents[index] = content if has_more_than_text(content) else ""
        return index_B

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Renames the labels of the events."""
        self._labels = [name_of(label) if label else "" for label in self._labels]

    def is_read_by(self, served: ServedEncoder) -> bool:
        """Returns whether the events' features by this encoder are known: only scales of inputs may differ."""
        return self.served is not None and served.text_key == self.served.text_key

    def features_under(self, served: ServedEncoder, index_B: Tensor) -> Tensor:
        """Returns the features phi_BR of events of the ring under an encoder for which `is_read_by` is true."""
        return self._features_under(
            served, [self._contents[index] for index in index_B.tolist()], self._phi_NR[index_B]
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

    def labels_at(self, index_B: Tensor) -> list[str]:
        """Returns the labels of the events at these indices."""
        return [self._labels[index] for index in index_B.tolist()]

    def numbers_at(self, index_B: Tensor) -> list[int]:
        """Returns the positions in the stream of the events at these indices."""
        last = self.num_added - 1
        numbers: list[int] = (last - (last - index_B) % self.capacity).tolist()
        return numbers

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)
