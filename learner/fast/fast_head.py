"""The fast head: a closed-form classifier of everything that was learnt under one encoder. Each encoder has its own.

    samples --served encoder--> z --random features--> phi --> sums of the ridge head; sums of z of each class
    sums --solve--> a solution --finish: blended with class means, by the counts--> weights
    z --nearest--> predictions by the means of all labels, and by the means of the newest labels (`learner.drift`)
    samples --RowLog: the samples since the last call--> rows, which update the last solution (`learner.fast.solver`)
    vectors of a changed class's old texts --predict_since, find_successor--> the class of today, or none

All sums are exact, so they depend neither on the order nor on the batching of the labels (`learner.fast.ridge`).

Successor classes. If two classes swap names, a class is renamed, or two classes are merged, the old texts remain as
useful as new labels: only their class name is wrong. So they are learnt again under the name of the successor class.
Without them, a changed class would have few labels among classes with many labels, and one would lose texts to the
other. Measured on CLINC150's validation texts, with 20 labels of each of 45 changed classes and 68 labels of each other
class: the other classes lose up to 0.4 points, and the changed classes are up to 1.8 points below a learner with 20
labels of each class. The successor class depends on which labels were learnt, but not on their order. So a version that
is rebuilt from the topics has the same successor classes.

Shapes: B samples, N texts, R features, C classes, D width.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from itertools import chain
from typing import Final, NamedTuple

import torch
from torch import Tensor

from learner.encoder.served import ServedEncoder
from learner.fast.recency import RecencyBlend
from learner.fast.ridge import RidgeHead, RidgeSums, in_order, on_grid, renamed_sums
from learner.fast.rows import ClassMeans, Nearest, blend, build_decoder, grown, nearest
from learner.samples import Labelled
from model.head import PROJ
from model.heads import RIDGE, Head, HeadSums
from wire.kinds import find_kind, row_names

MAX_ROWS: Final = 512
"""The most rows by which a head is updated before its next base (`learner.fast.solver`)."""


class Rows(NamedTuple):
    """The samples since the last call of `RowLog.take`: features, labels and contents.

    `are_all`: whether the sums have changed by exactly these samples since then.
    """

    phi_BR: Tensor
    labels: list[str]
    contents: list[str]
    are_all: bool


class RowLog:
    """A log of the last samples that were added to the sums: at most MAX_ROWS samples and one more batch."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Sequence[Labelled]]] = []
        self._are_all = True

    def add(self, phi_BR: Tensor, samples: Sequence[Labelled]) -> None:
        """Logs samples that were added to the sums, with their features."""
        self._batches.append((phi_BR[-MAX_ROWS:], samples[-MAX_ROWS:]))
        self._are_all = self._are_all and len(samples) <= MAX_ROWS
        while sum(len(batch) for _, batch in self._batches[1:]) > MAX_ROWS:
            del self._batches[0]
            self._are_all = False

    def invalidate(self) -> None:
        """Empties the log, since the sums have changed in another way than by added samples."""
        self._batches = []
        self._are_all = False

    def encoded_again(self, encode: Callable[[Sequence[Labelled]], Tensor]) -> "RowLog":
        """Returns a log of the same samples under another encoder, whose features `encode` returns."""
        log = RowLog()
        log._batches = [(encode(samples), samples) for _, samples in self._batches]
        log._are_all = False
        return log

    def take(self, num_features: int) -> Rows:
        """Returns the samples that were added since the last call, and empties the log."""
        batches, are_all = self._batches, self._are_all
        self._batches = []
        self._are_all = True
        phi_BR = torch.cat([torch.empty(0, num_features), *(phi_BR for phi_BR, _ in batches)])
        samples = [sample for _, samples in batches for sample in samples]
        return Rows(phi_BR, [sample.label for sample in samples], [sample.text for sample in samples], are_all)


Z_GRID = 2.0**24
"""The sums of z are multiples of 1 / Z_GRID: finer than float32, and exact in float64 below 2^29 samples."""

RELEARN_BATCH = 64
"""The number of texts that are encoded at once while a fast head is learnt again."""

THRESHOLD = "threshold"
"""The name of the threshold among the exported tensors."""


class FastHead:
    """A classifier that learns each label at once: the exact sums of everything that was learnt under one encoder.

    - `num_recent`: how many of the newest labels of each class are also kept separately (`learner.fast.recency`).
    - `threshold`: if labels are sets, the score above which a class is predicted. Otherwise it is 0, and the class with
      the highest score is predicted.
    - `head`: makes weights from the sums.
    - `log`: the last samples that were added.
    """

    def __init__(self, served: ServedEncoder, *, penalty: float, num_recent: int = 0, head: Head = RIDGE) -> None:
        config = served.config
        self.served = served
        self.ridge = RidgeHead(config.head_features, config.label_capacity, penalty=penalty)
        self.head = head
        self.penalty = penalty
        self.threshold = 0.0
        self.log = RowLog()
        self.z_sums_CD = torch.zeros(0, config.d_model, dtype=torch.float64)
        self.recency = RecencyBlend(config.d_model, num_recent, is_blended=head.is_updated)
        self._means = ClassMeans(config.d_model, self._unit_means)
        self._grow()

    def learn_many(self, samples: Sequence[Labelled]) -> None:
        """Learns samples whose classes have rows."""
        if samples:
            self.learn_encoded(*self.encode(samples), samples)

    def encode(self, samples: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
        """Returns the vectors z_BD and the random features phi_BR of the samples' texts, by this head's encoder."""
        z_BD = self.vectors(samples)
        return z_BD, self.served.features(z_BD)

    def vectors(self, samples: Sequence[Labelled]) -> Tensor:
        """Returns the vectors z_BD of the samples' texts, by this head's encoder. Any thread may call it."""
        return self.served.z_many([sample.text for sample in samples])

    def learn_encoded(self, z_BD: Tensor, phi_BR: Tensor, samples: Sequence[Labelled]) -> None:
        """Learns samples whose vectors and features the caller has computed; otherwise like `learn_many`."""
        labels = [sample.label for sample in samples]
        entries = self.ridge.entries(labels)
        z_ED = entries.of(z_BD)
        times_E = entries.of(torch.tensor([sample.time_ms for sample in samples]))
        self.ridge.learn_many(phi_BR, labels)
        self.log.add(phi_BR, samples)
        self.z_sums_CD.index_add_(0, entries.rows_E, on_grid(z_ED, Z_GRID))
        self._means.touch(entries.rows_E.tolist())
        self.recency.add(z_ED, entries, times_E.tolist())

    def nearest(self, z_BD: Tensor) -> Nearest:
        """Predicts the classes of texts by the nearest class means. At least one class must be known."""
        classes = self.ridge.classes
        newest_CD = self.recency.recent.means(len(classes)) if self.recency.recent.num_held else None
        return nearest(z_BD, classes, self._means.first(len(classes)), newest_CD)

    def relearn(self, samples: Sequence[Labelled], *, after_unit: Callable[[], None] = lambda: None) -> None:
        """Learns many samples in batches. Since this may take seconds, it calls `after_unit` after each batch."""
        for first in range(0, len(samples), RELEARN_BATCH):
            self.learn_many(samples[first : first + RELEARN_BATCH])
            after_unit()

    def unlearn_many(self, samples: Sequence[Labelled]) -> None:
        """Unlearns samples: afterwards the head equals one that never saw them."""
        if samples:
            self.unlearn_encoded(*self.encode(samples), [sample.label for sample in samples])

    def unlearn_encoded(self, z_BD: Tensor, phi_BR: Tensor, labels: Sequence[str]) -> None:
        """Unlearns samples whose vectors and features the caller has computed; otherwise like `unlearn_many`."""
        entries = self.ridge.entries(labels)
        z_ED = entries.of(z_BD)
        self.ridge.unlearn_many(phi_BR, labels)
        self.log.invalidate()
        self.z_sums_CD.index_add_(0, entries.rows_E, -on_grid(z_ED, Z_GRID))
        self._means.touch(entries.rows_E.tolist())
        self.recency.remove(z_ED, entries.rows_E)

    def restart(self, label: str, since_ms: int, remaining: Sequence[Labelled]) -> None:
        """Restarts a class whose concept changed at `since_ms`.

        The caller has already unlearnt the older samples that were still stored. `remaining` are the samples of the
        class that are still stored, and may be unlearnt later. If the sums of the class contain more samples than
        these, they are replaced by the sums of `remaining` and of the newest labels. The texts of the replaced samples
        stay in the Gram matrix, which is independent of classes.
        """
        (row,) = self.ridge.find_rows([label]).tolist()
        newest_ND = self.recency.keep_since(row, since_ms)
        if self.ridge.count_samples(label) == len(remaining):
            return
        remaining_ND, _ = self.encode(remaining)
        is_remaining_N = (newest_ND[:, None] == remaining_ND[None]).all(dim=2).any(dim=1)
        z_ND = torch.cat([remaining_ND, newest_ND[~is_remaining_N]])
        self.ridge.restart(label, self.served.features(z_ND))
        self.z_sums_CD[row] = on_grid(z_ND, Z_GRID).sum(dim=0)
        self._means.touch([row])
        self.log.invalidate()

    def add_sums(self, sums: RidgeSums, z_sums_CD: Tensor) -> None:
        """Adds sums that were computed elsewhere, after rounding them to the grids on which all sums are exact."""
        self.ridge.add_sums(sums)
        self.log.invalidate()
        self.z_sums_CD[: len(z_sums_CD)] += on_grid(z_sums_CD, Z_GRID)
        self._means.touch(range(len(z_sums_CD)))

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """Unlearns the class `old`, whose samples are exactly `samples`, and gives its row to the class `new`."""
        self.unlearn_many(samples)
        self.recency.keep_since(int(self.ridge.find_rows([old])), sys.maxsize)
        self.ridge.replace(old, new)
        self.log.invalidate()

    def solve(self) -> Tensor:
        """Returns weights_CR of everything learnt, by Cholesky: R^3/3 operations (0.1 s at R=2048)."""
        return self.solver()()

    def solver(self) -> Callable[[], Tensor]:
        """Returns a function that computes weights_CR of everything learnt until now. Another thread may call it."""
        return self.head.solver(self)

    def head_sums(self) -> HeadSums:
        """Returns copies of the sums, from which a user's head makes its weights."""
        sums = self.ridge.sums
        num_classes = len(self.ridge.classes)
        return HeadSums(sums.gram_RR, sums.class_CR[:num_classes].clone(), sums.counts_C[:num_classes].clone())

    def ridge_solver(self) -> Callable[[], Tensor]:
        """Returns a function that solves the ridge head, and blends it with class means."""
        equations = self.ridge.equations()
        finish = self.finisher()
        num_classes = len(self.ridge.classes)
        return lambda: finish(equations.solve().weights_CR[:num_classes])

    def finisher(self) -> Callable[[Tensor], Tensor]:
        """Returns a function that turns a ridge solution of the current sums into weights_CR.

        The function blends the rows of classes with few labels with their class means, and multiplies each row by the
        scale factor for its count.
        """
        if self.ridge.classes and not find_kind(self.ridge.classes[0]).has_classes:
            # Labels are scores. The mean of the texts does not predict a score.
            return lambda solution_CR: solution_CR
        scales_C = self.ridge.scales_C
        counts_C = self.ridge.counts_C.clone()
        means_CD = self._means.first(len(counts_C)).clone()
        decoder_RD = build_decoder(self.served.tensors[PROJ])
        return lambda solution_CR: blend(solution_CR, means_CD, counts_C, scales_C, decoder_RD) * scales_C[:, None]

    def means(self, labels: Sequence[str]) -> Tensor:
        """Returns the class mean of each label in `labels`, z_CD of unit length."""
        return self._means.first(len(self.ridge.classes))[self.ridge.find_rows(labels)]

    def successor(self, served: ServedEncoder) -> "FastHead":
        """Returns an empty fast head for the encoder `served`, with the same rows for the same classes."""
        empty = self._empty(served)
        empty.admit_all(self.ridge.classes)
        empty.threshold = self.threshold
        empty.recency.adopt_losses(self.recency)
        return empty

    def copy(self) -> "FastHead":
        """Returns a fast head with copies of the sums and an empty log; it shares the encoder."""
        copied = copy(self)
        copied.log = RowLog()
        copied.log.invalidate()
        copied.ridge = self.ridge.copy()
        copied.z_sums_CD = self.z_sums_CD.clone()
        copied.recency = self.recency.copy()
        copied._means = ClassMeans(self.served.config.d_model, copied._unit_means)
        copied._means.touch(range(len(self.ridge.classes)))
        return copied

    def with_order(self, classes: Sequence[str]) -> "FastHead":
        """Returns the fast head with its rows in the order of `classes`, which must name all of its classes."""
        reordered = self._empty(self.served)
        reordered.restore(in_order(self.export(), self.ridge.find_rows(classes)), classes)
        # The log names labels, not rows.
        reordered.log = self.log
        return reordered

    def with_names(self, name_of: Callable[[str], str]) -> "FastHead":
        """Returns the fast head with renamed classes, as if the classes had had these names from the start.

        Classes that get the same name are merged into the first of their rows. A class that is renamed to "" is
        dropped. Its texts stay in the Gram matrix, which is independent of classes.
        """
        sums, classes = renamed_sums(self.export(), self.ridge.classes, name_of)
        renamed = self._empty(self.served)
        renamed.restore(sums, classes)
        return renamed

    def admit_all(self, labels: Iterable[str]) -> None:
        """Gives every class in these labels a row, in this order, if it has none."""
        for name in chain.from_iterable(map(row_names, labels)):
            self.ridge.admit(name)
        self._grow()

    def export(self) -> dict[str, Tensor]:
        """Returns the sums as tensors by name. The caller has to store the classes with them."""
        num_classes = len(self.ridge.classes)
        threshold = {THRESHOLD: torch.tensor([self.threshold])} if self.threshold else {}
        sums = self.ridge.export() | {"z": self.z_sums_CD[:num_classes].clone()}
        return sums | self.recency.export(num_classes) | threshold

    def restore(self, sums: Mapping[str, Tensor], classes: Sequence[str]) -> None:
        """Replaces the sums and classes by exported ones."""
        self.ridge.restore(sums, classes)
        self.threshold = float(sums[THRESHOLD]) if THRESHOLD in sums else 0.0
        self.log.invalidate()
        self.z_sums_CD = sums["z"].clone()
        self._grow()
        self._means.touch(range(len(self.z_sums_CD)))
        self.recency.restore(sums)

    def _empty(self, served: ServedEncoder) -> "FastHead":
        return FastHead(served, penalty=self.penalty, num_recent=self.recency.recent.num_recent, head=self.head)

    def _grow(self) -> None:
        num_rows = self.ridge.rows.num_in_tables
        self.z_sums_CD = grown(self.z_sums_CD, num_rows)
        self.recency.grow(num_rows, len(self.ridge.classes))

    def _unit_means(self, rows_N: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.z_sums_CD[rows_N], dim=1).float()


MIN_LABELS: Final = 3
"""The fewest labels of a successor class since the change."""

MIN_SHARE: Final = 0.6
"""The share of the old texts that must be nearest to the successor class. A change is detected after about seven labels
of each class, and the means of seven labels predict only four of five texts correctly."""

SLACK: Final = 0.05
"""Cosine differences below this are noise. The slack admits a successor class that changed earlier."""


def predict_since(head: FastHead, z_ND: Tensor, since_ms: int) -> list[str]:
    """Predicts the class of each text by the nearest mean of the labels since `since_ms`.

    Only classes with at least MIN_LABELS of these labels count. If there is none, all predictions are "".
    """
    classes = head.ridge.classes
    means_CD, counts_C = head.recency.recent.means_since(since_ms, len(classes))
    cosines_NC = z_ND @ means_CD.T
    cosines_NC[:, counts_C < MIN_LABELS] = -1
    return [classes[row] if counts_C[row] >= MIN_LABELS else "" for row in cosines_NC.argmax(dim=1).tolist()]


def find_successor(names: Sequence[str]) -> str:
    """Returns the class that was predicted for most of the old texts; "" if less than MIN_SHARE of them agree.

    >>> find_successor(["b", "b", "a", "b"]), find_successor(["a", "b"]), find_successor([])
    ('b', '', '')
    """
    [(successor, num)] = Counter(names).most_common(1) or [("", 0)]
    return successor if num >= MIN_SHARE * len(names) else ""


def has_moved(head: FastHead, successor: str, own_ND: Tensor, old_ND: Tensor, since_ms: int) -> bool:
    """Returns whether the texts of class `successor` have changed: they now resemble `old_ND`, texts of another class.

    Compares the mean of its labels since `since_ms` with the mean of `old_ND`, and with the mean of `own_ND`, its own
    texts from before. It must be at least as near to the mean of `old_ND`, within SLACK.
    """
    if not len(own_ND):
        return True
    (row,) = head.ridge.find_rows([successor]).tolist()
    means_CD, _ = head.recency.recent.means_since(since_ms, len(head.ridge.classes))
    means_2D = torch.nn.functional.normalize(torch.stack([own_ND.mean(dim=0), old_ND.mean(dim=0)]), dim=1)
    to_own, to_old = (means_2D @ means_CD[row]).tolist()
    return bool(to_old > to_own - SLACK)
