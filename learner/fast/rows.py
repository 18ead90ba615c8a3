"""The rows of the head, one for each class: who gets a row, and the class means, scale factors and prototypes of rows.

    class --Classes: does it get a row?--> ClassRows --> tables with a value for each row, which grow with the classes
    sums of a class's vectors --ClassMeans--> class means --nearest--> the predicted class of a text
                                                          --blend----> prototypes, blended into rows with few labels
    numbers of labels of the rows --row_scales--> scale factors

**Which classes have a row** (`Classes`). All classes have one while rows are free, then the classes with the most
labels:

    label of a class without a row --a row is free----------------------------> the class gets it with its first label
                                   --a provisional class has fewer labels-----> the class gets the row of the weakest
                                   --otherwise--------------------------------> the class gets no row, but is counted

Every source of labels may name new classes. A class is provisional until it has `min_labels` labels. A provisional
class is served at once, but it is evicted if a class with more labels needs the row. So a flood of new names with one
label each cannot keep the rows, and cannot keep out a class with two labels. A class with `min_labels` labels is never
evicted. A source that gives `min_labels` labels to each of many names can still fill the rows;
`learner.trust.source_share` slows it down.

**Class means** (`ClassMeans`). Each label is compared with the means of all classes before it is learnt. Computing
10,000 means takes as long as learning a batch. But a batch changes only a few rows, so only changed rows are computed
again.

Shapes: B samples, E entries (an entry is a sample and one of its classes), N rows, D width, R features, C classes in
the order of their first labels.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import msgspec
import torch
from torch import Tensor

from learner.encoder.served import StoredTensor, rows_for
from learner.kinds import kind_tensors
from learner.samples import Sample
from model.kinds import Entries
from wire.kinds import find_kind
from wire.recent import name_hash64


class OnlineClassifier(Protocol):
    """A classifier that learns sample by sample. Neither the order of the samples nor their batches change it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The label of each row."""

    def admit(self, label: str) -> bool:
        """Gives `label` a row if it has none. Returns False if all rows are taken."""

    def learn_many(self, x_BD: Tensor, labels: Sequence[str]) -> None:
        """Learns samples of admitted labels. Raises KeyError for other labels."""

    def predict_many(self, x_BD: Tensor) -> Tensor:
        """Returns scores_BC. The class with the highest score is the prediction.

        A class without samples is never predicted if any class has samples.
        """


class ClassRows:
    """Maps class names to rows of the head, at most `capacity` rows."""

    def __init__(self, capacity: int, labels: Sequence[str] = ()) -> None:
        self._capacity = capacity
        self._rows = {label: row for row, label in enumerate(labels)}
        self._labels = tuple(self._rows)

    def admit(self, label: str) -> bool:
        if label not in self._rows and len(self._rows) < self._capacity:
            self._rows[label] = len(self._rows)
        return label in self._rows

    def replace(self, old: str, new: str) -> None:
        """Gives the row of the class `old` to the class `new`, which must not have a row."""
        self._rows = {new if label == old else label: row for label, row in self._rows.items()}
        self._labels = tuple(self._rows)

    def of(self, labels: Sequence[str]) -> Tensor:
        """Returns the rows of admitted labels, int64 [B]. Raises KeyError for another label."""
        return torch.tensor([self._rows[label] for label in labels], dtype=torch.int64)

    def entries(self, labels: Sequence[str]) -> Entries:
        """Returns all pairs of a sample and the row of one of its classes. Raises KeyError if a class has no row.

        `labels` are the labels of the samples, all of one kind: classes, sets of classes, or scores.
        """
        return kind_tensors(labels).entries(labels, self._rows)

    @property
    def by_label(self) -> Mapping[str, int]:
        """The row of each label."""
        return MappingProxyType(self._rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of their rows. The tuple stays the same object until a label is added or replaced."""
        if len(self._labels) != len(self._rows):
            self._labels = tuple(self._rows)
        return self._labels

    @property
    def num_in_tables(self) -> int:
        """The number of rows of a table for these classes: a few more than there are classes."""
        return rows_for(len(self._rows), self._capacity)

    def __len__(self) -> int:
        return len(self._rows)


def grown(table: Tensor, num_rows: int, *, fill: int = 0) -> Tensor:
    """Returns `table`, extended to at least `num_rows` rows; new rows hold `fill`."""
    if num_rows <= len(table):
        return table
    larger = table.new_full((num_rows, *table.shape[1:]), fill)
    larger[: len(table)] = table
    return larger


MAX_OTHERS: Final = 16_384
"""The most classes without a row whose labels are counted. The least recently labelled class is dropped first (LRU)."""


class ClassesState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of `Classes`. The least recently labelled classes are first.

    `labels` has the number of labels of each class with a row, by name. `others` has the number of labels of each class
    without a row, by the hash of the name.
    """

    labels: dict[str, int] = {}
    others: dict[int, int] = {}


def backfill_label_counts(state: ClassesState, num_samples: Mapping[str, int]) -> ClassesState:
    """Returns `state` with the number of labels of exactly the classes of `num_samples`.

    Older releases did not count the labels of a class. Then the number of its samples is used.
    """
    labels = {label: num for label, num in state.labels.items() if label in num_samples}
    for label, num in num_samples.items():
        labels.setdefault(label, num)
    return ClassesState(labels=labels, others=state.others)


class Classes:
    """Counts the labels of each class, and decides which classes have a row.

    There are `capacity` rows. A class is provisional until it has `min_labels` labels.
    """

    def __init__(self, capacity: int, *, min_labels: int, state: ClassesState | None = None) -> None:
        self._capacity = capacity
        self._min_labels = min_labels
        self._labels = dict(state.labels) if state else {}
        self._others = OrderedDict(state.others if state else {})

    def count_label(self, label: str) -> None:
        """Counts a label that names the class `label`, even if the class has no row and the label is not learnt."""
        if label in self._labels:
            # Moves the class to the end: the order is by the last label.
            self._labels[label] = self._labels.pop(label) + 1
            return
        name = name_hash64(label.encode())
        self._others[name] = self._others.pop(name, 0) + 1
        if len(self._others) > MAX_OTHERS:
            self._others.popitem(last=False)

    def admit(self, label: str) -> None:
        """Gives a class a free row."""
        self._labels[label] = self._others.pop(name_hash64(label.encode()), 0)

    def evict(self, label: str) -> int:
        """Takes the row away from a class; returns the number of labels that the class had."""
        return self._labels.pop(label)

    def rename(self, new: Mapping[str, str]) -> None:
        """Renames classes: `new` maps old names to new ones. The counts of classes that get the same name are added."""
        renamed = dict[str, int]()
        for label, num in self._labels.items():
            name = new.get(label, label)
            renamed[name] = renamed.pop(name, 0) + num
        self._labels = renamed

    def retire(self, label: str) -> None:
        """Takes the row away from a class, if it has one, and forgets how many labels it had."""
        self._labels.pop(label, None)

    def admit_set(self, sample: Sample) -> Sample:
        """Gives rows to the new classes in the label of `sample`, a set of classes or a score, while rows are free.

        Returns the sample without the classes that got no row. A set never evicts a class: the samples of the evicted
        class could not be unlearnt, since their sets may contain other classes, too.
        """
        kind = find_kind(sample.label)
        names = kind.row_names(sample.label)
        for name in names:
            self.count_label(name)
        kept = [name for name in names if self.has_row_for(msgspec.structs.replace(sample, label=name))]
        return msgspec.structs.replace(sample, label=kind.with_classes(sample.label, kept))

    def evictable_for(self, sample: Sample) -> list[str]:
        """Returns the classes that may be evicted to give the class of `sample` a row, weakest first.

        Returns [] if the class needs no row, has one, or can get a free one.
        """
        needs_no_room = sample.is_in_holdout or not self.is_full or sample.label in self
        return [] if needs_no_room else self.weaker(sample.label)

    def has_row_for(self, sample: Sample) -> bool:
        """Returns whether the class of `sample` has a row, after giving it a free row if necessary.

        A holdout sample takes no row. Its class may still be new, so it is accepted as long as rows are free.
        """
        is_new = sample.label not in self
        if is_new and self.is_full:
            return False
        if is_new and not sample.is_in_holdout:
            self.admit(sample.label)
        return True

    def weaker(self, label: str) -> list[str]:
        """Returns the provisional classes with fewer labels than the class `label`, which has no row; fewest first."""
        num_labels = min(self._others.get(name_hash64(label.encode()), 0), self._min_labels)
        weaker = [name for name, num in self._labels.items() if num < num_labels]
        # The sort is stable: among equal counts, the least recently labelled class is first.
        return sorted(weaker, key=self._labels.__getitem__)

    def alarms(self) -> Iterable[str]:
        """Yields a sentence if classes are not learnt because all rows are taken."""
        if self.is_full and self._others:
            yield (
                f"all {self._capacity} rows are taken, {self.num_provisional} of them by provisional classes: labels "
                f"of {len(self._others)} other classes are not learnt; raise learner.label_capacity, or find their "
                "sources"
            )

    @property
    def is_full(self) -> bool:
        return len(self._labels) >= self._capacity

    @property
    def num_provisional(self) -> int:
        return sum(num < self._min_labels for num in self._labels.values())

    def __contains__(self, label: str) -> bool:
        return label in self._labels

    def export(self) -> ClassesState:
        return ClassesState(labels=dict(self._labels), others=dict(self._others))


class ClassMeans:
    """A cache of the class means: a unit vector for each row; zero for a row that was never touched.

    `compute` gets rows and returns their means z_ND.
    """

    def __init__(self, width: int, compute: Callable[[Tensor], Tensor]) -> None:
        self._compute = compute
        self._table_CD = torch.zeros(0, width)
        self._stale: set[int] = set()

    def touch(self, rows: Iterable[int]) -> None:
        """Marks rows whose means have changed and must be computed again."""
        self._stale.update(rows)

    def first(self, num_rows: int) -> Tensor:
        """Returns the class means z_CD of the first `num_rows` rows. It is a view: copy it to keep or change it."""
        self._table_CD = grown(self._table_CD, num_rows)
        if self._stale:
            rows_N = torch.tensor(sorted(self._stale))
            self._table_CD = grown(self._table_CD, int(rows_N[-1]) + 1)
            self._table_CD[rows_N] = self._compute(rows_N)
            self._stale.clear()
        return self._table_CD[:num_rows]


class Nearest(NamedTuple):
    """The predicted class of each text: the class with the nearest mean.

    `by_all` uses the means of all labels, and `by_newest` the means of the newest labels of each class. `distances_B`
    are 1 - cosine to the nearest mean of all labels; 1 if no class has samples.
    """

    by_all: list[str]
    by_newest: list[str]
    distances_B: Tensor


def nearest(z_BD: Tensor, classes: Sequence[str], by_all_CD: Tensor, by_newest_CD: Tensor | None) -> Nearest:
    """Predicts texts by the nearest class means. Without means of newest labels, `by_newest` equals `by_all`."""
    cosines_BC = z_BD @ by_all_CD.T
    by_all = [classes[row] for row in cosines_BC.argmax(dim=1).tolist()]
    by_newest = by_all
    if by_newest_CD is not None:
        by_newest = [classes[row] for row in (z_BD @ by_newest_CD.T).argmax(dim=1).tolist()]
    return Nearest(by_all, by_newest, 1 - cosines_BC.amax(dim=1))


YOUNG: Final = 128
"""A class with at most this many labels may be new, so its count does not show how frequent the class is."""

ESTABLISHED: Final = 512
"""If a class has at least this many labels, its count shows how frequent the class is."""


def row_scales(counts_C: Tensor) -> Tensor:
    """Returns the factors by which the rows of a ridge solution are multiplied, float32 [C], each at least 1.

        factor = sqrt(mean count / count)   up to YOUNG labels,   falling to 1 at ESTABLISHED labels

    Ridge regression predicts a class with few labels too seldom. A class with many labels needs no factor: its count
    shows how frequent it is, and ridge regression predicts it that often. If the factor were the square root at every
    count, the accuracy on TREC's 50 classes (4 to 962 labels each) would fall from 80.6 to 72.4 %. A new class would
    hardly gain: on SNIPS, with 30 labels of it and 1,800 of each old class, 79 % of its texts would be recognized
    instead of 75.5 %.

    >>> from torch import tensor
    >>> row_scales(tensor([90, 10, 20])), row_scales(tensor([9_000, 1_000, 64]))
    (tensor([1.0000, 2.0000, 1.4142]), tensor([1.0000, 1.0000, 7.2399]))
    """
    counts_C = counts_C.double().clamp(min=1)
    mean = float(counts_C.mean()) if len(counts_C) else 1.0
    shares_C = 1 - (counts_C / YOUNG).log() / math.log(ESTABLISHED / YOUNG)
    factors_C: Tensor = (mean / counts_C.clamp(max=mean)) ** (shares_C.clamp(0, 1) / 2)
    return factors_C.float()


PRIOR_LABELS: Final = 12.0
"""The number of labels at which the ridge row and the prototype of a class have equal shares."""

BETA: Final = 0.85
"""The weight of the prototype's cosine, relative to the ridge head's logit, which is about 1 for the right class."""

DECODER_RIDGE: Final = 0.01
"""The ridge penalty of the decoder, as a share of the mean of the diagonal."""


def blend(weights_CR: Tensor, means_CD: Tensor, counts_C: Tensor, scales_C: Tensor, decoder_RD: Tensor) -> Tensor:
    """Blends the ridge weights of each class with a prototype of the class; returns rows_CR.

        row_c = (1 - g_c) U_c + g_c BETA prototype_c / scale_c        g_c = PRIOR_LABELS / (PRIOR_LABELS + n_c)
        prototype_c = B m_c         phi B ~ z         so that phi . prototype_c ~ z . m_c

    m_c is the class mean of unit length. So the prototype part is the nearest-class-mean classifier by cosine (Mensink
    et al. 2013; a prototype in Snell et al. 2017), computed from the random features, the only input of the head.

    PRIOR_LABELS and BETA were chosen on CLINC150's validation texts. The table has the accuracy in % with the same
    number of labels for each of the 150 classes (mean of 5 draws for up to 5 labels, of 2 draws for 10, one for 100):

        labels of a class     1      2      3      5      10     100
        nearest class mean    65.65  76.78  82.12  85.63  88.65  91.77
        ridge alone           63.07  74.11  79.77  84.14  89.37  94.90
        blended               65.45  76.93  81.91  85.94  90.00  95.07

    `means_CD` are unit vectors, zero for a class without samples (`learner.fast.fast_head.FastHead.means`).
    `scales_C` are the scale factors of the rows (`row_scales`), which the caller applies to the result.
    """
    shares_C = PRIOR_LABELS / (PRIOR_LABELS + counts_C)
    prototypes_CR = means_CD @ decoder_RD.T
    ridge_CR = (1 - shares_C)[:, None] * weights_CR
    return ridge_CR + (shares_C * BETA / scales_C)[:, None] * prototypes_CR


@lru_cache(maxsize=2)
def build_decoder(proj: StoredTensor) -> Tensor:
    """Returns the decoder of a stored projection. It is cached, since it takes R^3/3 operations.

    All encoders of a learner have the same projection.
    """
    return decoder(proj.tensor.dequantize())


def decoder(proj_RD: Tensor) -> Tensor:
    """Returns a matrix B_RD that recovers a unit vector z from its random features: relu(z P^T) B ~ z.

    On CLINC150 the cosine of the recovered vector and z is 0.96. B is the best linear decoder if all directions of z
    are equally likely. The moments are known in closed form:

        B = E[phi phi^T]^-1 E[phi z^T]      E[phi_i z] = p_i / (2 D)
        E[phi_i phi_j] = |p_i| |p_j| (sin t + (pi - t) cos t) / (2 pi D), t the angle between p_i and p_j

    The last line is the arc-cosine kernel of degree 1 (Cho and Saul 2009).
    """
    _, width = proj_RD.shape
    norms_R = proj_RD.norm(dim=1)
    norms_RR = norms_R[:, None] * norms_R
    cosines_RR = (proj_RD @ proj_RD.T / norms_RR).clamp(-1, 1)
    angles_RR = cosines_RR.arccos()
    moments_RR = norms_RR * (angles_RR.sin() + (math.pi - angles_RR) * cosines_RR) / (2 * math.pi * width)
    moments_RR.diagonal().add_(DECODER_RIDGE * float(moments_RR.diagonal().mean()))
    return torch.cholesky_solve(proj_RD / (2 * width), torch.linalg.cholesky(moments_RR))
