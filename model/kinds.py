"""The other half of a kind of labels: what its labels say of the rows of a head, and what logits say of them.

    labels --entries--> which rows the exact sums take them into       logits --rank--> answers, for replicas
           --targets--> TargetBatch --right(logits)--> bool [N]        outputs --calibrate--> temperature, threshold

It is imported by the path that the kind names as its `tensors` (`wire.kinds`), once, and tried on the examples of the
kind: one that lacks a member, fails, or returns values of another shape is refused before anything is learnt or
answered by it. Each method is called once for a batch.

Shapes: B texts, N samples, E entries (a pair of a sample and one of its rows), C rows of a head, K best classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import torch
from torch import Tensor

from model.errors import WrongConfig
from wire.plugins import Halves, Symbols

DEFAULT_TEMPERATURE: Final = 0.05
"""That of classes until the holdout has enough samples. The best value for CLINC150 lies between 0.04 and 0.06."""


class Space(Protocol):
    """What the settings say of labels: the range of numbers."""

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
    """The rows that the labels of B samples are learnt by: one of each, or as many as its label has.

    `places_E` are those of the samples; None if each sample has one entry, in their order. `values_E` are what the
    rows are fitted to, float64; None if that is 1, as it is for classes.
    """

    rows_E: Tensor
    places_E: Tensor | None = None
    values_E: Tensor | None = None

    @property
    def are_classes(self) -> bool:
        """Whether each label is one class."""
        return self.places_E is None and self.values_E is None

    def of(self, x_BD: Tensor) -> Tensor:
        """Returns the values of each entry's sample."""
        return x_BD if self.places_E is None else x_BD[self.places_E]

    def sums_of(self, phi_BR: Tensor) -> Tensor:
        """Returns what each entry adds to the column of its row."""
        phi_ER = self.of(phi_BR)
        return phi_ER if self.values_E is None else phi_ER * self.values_E[:, None]

    def targets(self, num_samples: int, num_classes: int) -> Tensor:
        """Returns what each sample is fitted to in each row, 0 in those that it has no entry of, float32 [B, C]."""
        places_E = torch.arange(num_samples) if self.places_E is None else self.places_E
        targets_BC = torch.zeros(num_samples, num_classes)
        targets_BC[places_E, self.rows_E] = 1.0 if self.values_E is None else self.values_E.float()
        return targets_BC


class Predicted(NamedTuple):
    """What a version says of a text: the value of the field of an answer, None while it knows nothing.

    `scores` are its best classes with their probabilities, best first, and `score` is the highest of these.
    """

    value: Any
    score: float = 0.0
    scores: tuple[tuple[str, float], ...] = ()


class Ranked(Protocol):
    """The logits of some texts, as the kind reads them."""

    def predictions(self, indices: Sequence[int]) -> list[Predicted]:
        """Returns what is said of these rows. Raises ValueError if one of their scores is not finite."""

    def fingerprints(self) -> list[int | tuple[int, ...]]:
        """Returns what stands for that in a receipt, for each row; 0 while nothing is known."""


class Calibration(NamedTuple):
    """The temperature of a head, and what is taken off each of its outputs before."""

    temperature: float
    threshold: float = 0.0


class Changes(NamedTuple):
    """How many of N events a version names differently from the reference, in classes that both know, and as new ones.

    `named_C` and `labelled_C` count the events that are named, and labelled, as each of its classes.
    """

    between_old: int
    to_new: int
    named_C: Tensor
    labelled_C: Tensor


class TargetBatch(Protocol):
    """What the labels of N samples say of the C rows of a head.

    `rows_N` is the row that each sample is grouped by, -1 if it has none. `is_exclusive`: each label is one class.
    `default_temperature` is that of a head that was not calibrated.
    """

    @property
    def rows_N(self) -> Tensor: ...
    @property
    def is_exclusive(self) -> bool: ...
    @property
    def default_temperature(self) -> float: ...
    @property
    def calibrates_N(self) -> Tensor:
        """Whether a head is calibrated by each sample, bool."""

    def right(self, logits_NC: Tensor) -> Tensor:
        """Returns whether each sample is named rightly, bool [N]."""

    def num_named(self, logits_NC: Tensor) -> int:
        """Returns how many rows are named for some sample."""

    def only(self, where_N: Tensor) -> "TargetBatch":
        """Returns those of some samples, which a mask or places name."""

    def among(self, num_classes: int) -> "TargetBatch":
        """Returns the targets of those who know the first classes only."""

    def figures(self, logits_NC: Tensor, space: Space) -> dict[str, float]:
        """Returns what is reported beside the share of right answers, by name."""

    def changes(
        self,
        logits_NC: Tensor,
        before_NK: Tensor,
        classes: Sequence[str],
        before: Sequence[str],
        retired: frozenset[str],
    ) -> Changes:
        """Compares what a version of `classes` names with the reference, which gives `before_NK` to those `before`.

        A class that was retired is taken out of what the reference names.
        """


class KindTensors(Protocol):
    """The functions of a kind."""

    def rank(self, logits_BC: Tensor, labels: Sequence[str], space: Space, top_scores: int) -> Ranked:
        """Returns what a version of these rows says, with the probabilities of its `top_scores` best classes."""

    def entries(self, labels: Sequence[str], rows: Mapping[str, int]) -> Entries:
        """Returns what the exact sums take in. Raises KeyError for a label of which a row is missing."""

    def targets(self, labels: Sequence[str], draws: Sequence[str], classes: Sequence[str]) -> TargetBatch:
        """Returns what the labels say of `classes`. `draws[i]` is what the number of sample i is drawn by."""

    def calibrate(self, outputs_NC: Tensor, targets: Any) -> Calibration:
        """Returns the calibration of a head that gives samples these outputs. `targets` are its own of the samples."""

    def agreement(self, full_NC: Tensor, served_NC: Tensor, threshold: float) -> float:
        """Returns how alike texts are named by outputs in full precision, and by served logits, in [0, 1]."""


class Kind(Symbols, Protocol):
    """What is needed of the half of symbols (`wire.kinds.LabelKind`)."""

    @property
    def examples(self) -> tuple[str, ...]: ...
    @property
    def row_names(self) -> Callable[[str], tuple[str, ...]]: ...


def best_rows(logits_NC: Tensor) -> Tensor:
    """Returns the row with the highest logit of each sample; -2, which is no row, if there are no classes."""
    return logits_NC.argmax(dim=1) if logits_NC.shape[1] else torch.full((len(logits_NC),), -2)


def rows_in(classes: Sequence[str], labels: Sequence[str]) -> Tensor:
    """Returns the row of each label, the first of its name, -1 if it has none, and one more -1, for no label."""
    rows = dict[str, int]()
    for row, label in enumerate(classes):
        rows.setdefault(label, row)
    return torch.tensor([*(rows.get(label, -1) for label in labels), -1])


def is_new(classes: Sequence[str], before: Sequence[str]) -> Tensor:
    """Returns whether each of the classes is none of those before, bool [C]."""
    known = set(before)
    return torch.tensor([label not in known for label in classes], dtype=torch.bool)


def _broken_laws(tensors: KindTensors, kind: Kind) -> Iterator[str]:
    """Yields which shapes are wrong for the examples of a kind."""
    labels = kind.examples
    num = len(labels)
    rows = {name: None for label in labels for name in kind.row_names(label)}
    classes = tuple(rows)
    logits_NC = torch.zeros(num, len(classes))
    entries = tensors.entries(labels, {name: row for row, name in enumerate(classes)})
    if len(entries.of(logits_NC)) != len(entries.rows_E):
        yield "entries gives other numbers of rows and of places"
    targets = tensors.targets(labels, labels, classes)
    if targets.rows_N.shape != (num,):
        yield "the rows_N of targets have not one row for each sample"
    right_N = targets.right(logits_NC)
    if right_N.shape != (num,) or right_N.dtype != torch.bool:
        yield "targets.right gives not one bool for each sample"
    if len(targets.only(right_N).rows_N) != int(right_N.sum()):
        yield "targets.only gives not those of the mask"
    ranked = tensors.rank(logits_NC, classes, UNIT, 2)
    if len(ranked.predictions(range(num))) != num or len(ranked.fingerprints()) != num:
        yield "rank gives not one prediction and one fingerprint for each text"
    calibration = tensors.calibrate(logits_NC, targets)
    if not calibration.temperature > 0:
        yield f"calibrate gives the temperature {calibration.temperature}"
    if (agreement := tensors.agreement(logits_NC, logits_NC, 0.0)) != 1:
        yield f"agreement of equal outputs is {agreement}, not 1"


tensors_of = Halves[Kind, KindTensors]("labels.kind", _broken_laws, WrongConfig).of
"""Returns the tensors of a kind. Raises WrongConfig."""
