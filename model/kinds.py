"""Converts labels of each kind (classes, sets, scores, ...) to rows of a head, and logits to predictions.

    labels --entries--> sparse targets, which the exact sums add       logits --rank--> answers, for replicas
           --targets--> TargetBatch --right(logits)--> bool [N]        outputs --calibrate--> temperature, threshold

A kind of labels is defined in `wire.kinds`. Its tensor half, which is here, is the part that needs tensors. The kind
names its import path as `tensors`. The tensor half is imported once and tried on the examples of the kind. If it lacks
a member, fails, or returns another shape, it is refused before it is used to learn or answer. Each method is called
once for a batch.

Shape suffixes: B texts, N samples, E entries (an entry is a sample and one of its rows), C rows of a head, K rows of a
reference version's head, R random features.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import torch
from torch import Tensor

from model.errors import WrongConfig
from wire.plugins import TorchFreeHalf, TorchHalves

DEFAULT_TEMPERATURE: Final = 0.05
"""The temperature of the softmax until the holdout has enough samples to fit it. For CLINC150, 0.04 to 0.06 is best."""


class Space(Protocol):
    """The range of labels that are numbers, from the settings."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class _Unit(NamedTuple):
    low: float = 0.0
    high: float = 1.0


UNIT: Final = _Unit()
"""The range from 0 to 1."""


class Entries(NamedTuple):
    """The regression targets of B samples as a sparse matrix (COO): the entries (sample, row of the head, value).

    All other targets are 0. A sample has one entry for each class in its label: one for a single class, several for a
    set of classes.

    - `rows_E`, int64: the row of each entry.
    - `places_E`, int64: the index of each entry's sample; None if each sample has one entry, in order.
    - `values_E`, float64: the value to which the row is fitted; None if all are 1, as for classes.
    """

    rows_E: Tensor
    places_E: Tensor | None = None
    values_E: Tensor | None = None

    @property
    def are_classes(self) -> bool:
        """Whether each label is one class."""
        return self.places_E is None and self.values_E is None

    def of(self, x_BD: Tensor) -> Tensor:
        """Returns for each entry the row of x_BD that belongs to its sample, [E, D]."""
        return x_BD if self.places_E is None else x_BD[self.places_E]

    def head_sums(self, phi_BR: Tensor) -> Tensor:
        """Returns what each entry adds to the sums of its row: the features of its sample times its value, [E, R]."""
        phi_ER = self.of(phi_BR)
        return phi_ER if self.values_E is None else phi_ER * self.values_E[:, None]

    def targets(self, num_samples: int, num_classes: int) -> Tensor:
        """Returns the regression targets, float32 [B, C]: the value of each entry, and 0 where there is no entry."""
        places_E = torch.arange(num_samples) if self.places_E is None else self.places_E
        targets_BC = torch.zeros(num_samples, num_classes)
        targets_BC[places_E, self.rows_E] = 1.0 if self.values_E is None else self.values_E.float()
        return targets_BC


class Predicted(NamedTuple):
    """The prediction of a version for a text.

    - `value`: the predicted label, as in the answer; None while nothing is learnt.
    - `score`: the highest probability.
    - `scores`: the best classes with their probabilities, best first.
    """

    value: Any
    score: float = 0.0
    scores: tuple[tuple[str, float], ...] = ()


class Ranked(Protocol):
    """The predictions of a version for a batch of texts, in a form that is converted when it is needed."""

    def predictions(self, indices: Sequence[int]) -> list[Predicted]:
        """Returns the predictions for these texts. Raises ValueError if a score is not finite."""

    def fingerprints(self) -> list[int | tuple[int, ...]]:
        """Returns each text's prediction in the compact form for receipts; 0 while nothing is learnt."""


class Calibration(NamedTuple):
    """The calibration of a head: logits = (outputs - threshold) / temperature."""

    temperature: float
    threshold: float = 0.0


class Changes(NamedTuple):
    """Counts of the events for which a version predicts something else than the reference version.

    - `between_old`: changes between classes that both versions know.
    - `to_new`: changes to classes that the reference lacks.
    - `named_C`, `labelled_C`: the numbers of events that are predicted, and labelled, as each class of the version.
    """

    between_old: int
    to_new: int
    named_C: Tensor
    labelled_C: Tensor


class TargetBatch(Protocol):
    """The labels of N samples, compared with the outputs of the C rows of a head.

    - `rows_N`, int64: the row by which each sample is grouped; -1 if it has none.
    - `is_exclusive`: whether every label is exactly one class.
    - `default_temperature`: the temperature of a head that is not calibrated.
    """

    @property
    def rows_N(self) -> Tensor: ...
    @property
    def is_exclusive(self) -> bool: ...
    @property
    def default_temperature(self) -> float: ...
    @property
    def calibrates_N(self) -> Tensor:
        """Whether each sample is used for calibration, bool [N]."""

    def right(self, logits_NC: Tensor) -> Tensor:
        """Returns whether the prediction for each sample is right, bool [N]."""

    def num_named(self, logits_NC: Tensor) -> int:
        """Returns the number of rows that are predicted for at least one sample."""

    def only(self, where_N: Tensor) -> "TargetBatch":
        """Returns the targets of some samples. `where_N` is a bool mask, or indices."""

    def among(self, num_classes: int) -> "TargetBatch":
        """Returns the targets for a head that has only the first `num_classes` rows."""

    def figures(self, logits_NC: Tensor, space: Space) -> dict[str, float]:
        """Returns the metrics that are reported in addition to accuracy, by name."""

    def changes(
        self,
        logits_NC: Tensor,
        before_NK: Tensor,
        classes: Sequence[str],
        before: Sequence[str],
        retired: frozenset[str],
    ) -> Changes:
        """Compares the predictions of a version with those of a reference version.

        The version has the rows `classes` and the logits `logits_NC`; the reference has the rows `before` and the
        logits `before_NK`. The reference does not predict classes that are `retired`.
        """


class KindTensors(Protocol):
    """The tensor half of a kind of labels."""

    def rank(self, logits_BC: Tensor, labels: Sequence[str], space: Space, top_scores: int) -> Ranked:
        """Returns the predictions of a version whose rows are `labels`, with its `top_scores` best classes."""

    def entries(self, labels: Sequence[str], rows: Mapping[str, int]) -> Entries:
        """Returns the labels as sparse regression targets, which the exact sums add.

        `rows` maps the names of the head's rows to their indices. Raises KeyError for a label without a row.
        """

    def targets(self, labels: Sequence[str], seeds: Sequence[str], classes: Sequence[str]) -> TargetBatch:
        """Returns the labels as targets of a head with the rows `classes`.

        `seeds[i]` seeds the random number of sample i. It decides whether a partly right prediction counts as right
        (randomised rounding).
        """

    def calibrate(self, outputs_NC: Tensor, targets: Any) -> Calibration:
        """Fits the calibration of a head to its outputs for N samples. `targets` are the targets of these samples."""

    def agreement(self, full_NC: Tensor, served_NC: Tensor, threshold: float) -> float:
        """Returns how well two sets of predictions for the same texts agree, in [0, 1].

        One is made from outputs in full precision (`full_NC`), the other from the served logits (`served_NC`).
        """


class Kind(TorchFreeHalf, Protocol):
    """The part of `wire.kinds.LabelKind` that this file uses."""

    @property
    def examples(self) -> tuple[str, ...]: ...
    @property
    def row_names(self) -> Callable[[str], tuple[str, ...]]: ...


def best_rows(logits_NC: Tensor) -> Tensor:
    """Returns the row with the highest logit for each sample [N]; -2, which is no row, if there are no classes."""
    return logits_NC.argmax(dim=1) if logits_NC.shape[1] else torch.full((len(logits_NC),), -2)


def rows_in(classes: Sequence[str], labels: Sequence[str]) -> Tensor:
    """Returns the row of each label among `classes`, int64, and at the end another -1 for "no label".

    The row is the first row with the label's name; -1 if there is none.
    """
    rows = dict[str, int]()
    for row, label in enumerate(classes):
        rows.setdefault(label, row)
    return torch.tensor([*(rows.get(label, -1) for label in labels), -1])


def is_new(classes: Sequence[str], before: Sequence[str]) -> Tensor:
    """Returns whether each class is new, that is, not among the classes `before`; bool [C]."""
    known = set(before)
    return torch.tensor([label not in known for label in classes], dtype=torch.bool)


def _broken_laws(tensors: KindTensors, kind: Kind) -> Iterator[str]:
    """Tries a tensor half on the examples of its kind; yields the requirements of the protocol that it violates."""
    labels = kind.examples
    num = len(labels)
    rows = {name: None for label in labels for name in kind.row_names(label)}
    classes = tuple(rows)
    logits_NC = torch.zeros(num, len(classes))
    entries = tensors.entries(labels, {name: row for row, name in enumerate(classes)})
    if len(entries.of(logits_NC)) != len(entries.rows_E):
        yield "entries returns different numbers of rows and places"
    targets = tensors.targets(labels, labels, classes)
    if targets.rows_N.shape != (num,):
        yield "rows_N of targets does not have one row for each sample"
    right_N = targets.right(logits_NC)
    if right_N.shape != (num,) or right_N.dtype != torch.bool:
        yield "targets.right does not return one bool for each sample"
    if len(targets.only(right_N).rows_N) != int(right_N.sum()):
        yield "targets.only does not return the samples of the mask"
    ranked = tensors.rank(logits_NC, classes, UNIT, 2)
    if len(ranked.predictions(range(num))) != num or len(ranked.fingerprints()) != num:
        yield "rank does not return one prediction and one fingerprint for each text"
    calibration = tensors.calibrate(logits_NC, targets)
    if not calibration.temperature > 0:
        yield f"calibrate returns the temperature {calibration.temperature}; expected a positive number"
    if (agreement := tensors.agreement(logits_NC, logits_NC, 0.0)) != 1:
        yield f"agreement of equal outputs is {agreement}, not 1"


tensors_of = TorchHalves[Kind, KindTensors]("labels.kind", _broken_laws, WrongConfig).of
"""Returns the tensor half of a kind, imported and tried once. Raises WrongConfig."""
