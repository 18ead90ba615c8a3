"""The fast head: everything learnt under one encoder, in closed form. Another encoder needs another fast head.

    samples --served encoder--> z --random features--> phi --> sums of the ridge head; sums of z per class
    sums --solve--> a solution --finish: blended with class means, by the counts--> weights
    z --nearest--> class names by the means of all labels, and by those of the newest (`learner.drift`)
    samples --RowLog: since somebody looked last--> rows, for a head that is updated by them (`learner.fast.solver`)
    vectors of a changed class's old texts --named_since, heir_of--> the class that they belong to now, or none

All sums are exact, so that they depend neither on the order nor on the batching of the labels (`learner.fast.ridge`).

Heirs. When names are swapped, a class is renamed, or two become one, the texts of before are worth as much as new
labels: only their names are wrong. Without them, a class that has changed has a few labels among classes that have
many, so that either these lose texts to it or it loses its own to them. On CLINC150's validation texts, with 20 labels
of each of 45 changed classes and 68 of each other one, the others lose up to 0.4 points, and the changed ones are up to
1.8 points below a learner with 20 labels of each class. An heir is a function of which labels were learnt, and not of
their order, so a version that is rebuilt from the topics has the same heirs.

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
from learner.fast.recency import Fading
from learner.fast.ridge import RidgeHead, RidgeSums, in_order, on_grid, renamed_sums
from learner.fast.rows import Directions, Nearest, blend, decoder_of, grown, nearest
from learner.samples import Labelled
from model.head import PROJ
from model.heads import RIDGE, Head, HeadSums
from wire.kinds import kind_of, row_names

MAX_ROWS: Final = 512
"""The most rows that a head is updated by before its next base (`learner.fast.solver`)."""


class Rows(NamedTuple):
    """Features, labels and contents of samples. `are_all`: whether the sums have taken in these and nothing else."""

    phi_BR: Tensor
    labels: list[str]
    contents: list[str]
    are_all: bool


class RowLog:
    """Holds the last samples, at most MAX_ROWS of them and of one more batch."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Sequence[Labelled]]] = []
        self._are_all = True

    def add(self, phi_BR: Tensor, samples: Sequence[Labelled]) -> None:
        """Adds samples that the sums took in, with their features."""
        self._batches.append((phi_BR[-MAX_ROWS:], samples[-MAX_ROWS:]))
        self._are_all = self._are_all and len(samples) <= MAX_ROWS
        while sum(len(batch) for _, batch in self._batches[1:]) > MAX_ROWS:
            del self._batches[0]
            self._are_all = False

    def end(self) -> None:
        """Takes note that the sums have changed in another way: the samples so far may be in them no longer."""
        self._batches = []
        self._are_all = False

    def encoded_again(self, encode: Callable[[Sequence[Labelled]], Tensor]) -> "RowLog":
        """Returns a log of the same samples, with the features that `encode` makes, for sums that were made anew."""
        log = RowLog()
        log._batches = [(encode(samples), samples) for _, samples in self._batches]
        log._are_all = False
        return log

    def take(self, num_features: int) -> Rows:
        """Returns what was added since the last call."""
        batches, are_all = self._batches, self._are_all
        self._batches = []
        self._are_all = True
        phi_BR = torch.cat([torch.empty(0, num_features), *(phi_BR for phi_BR, _ in batches)])
        samples = [sample for _, samples in batches for sample in samples]
        return Rows(phi_BR, [each.label for each in samples], [each.text for each in samples], are_all)


Z_GRID = 2.0**24
"""The sums of z are multiples of 1 / Z_GRID: finer than float32 needs, and exact in float64 below 2^29 samples."""

RELEARN_BATCH = 64
"""Number of texts that are encoded at once while a fast head is rebuilt."""

THRESHOLD = "threshold"
"""Name of the exported threshold."""


class FastHead:
    """Holds an encoder and the sums of everything learnt under it. `log` has what was learnt last.

    `num_recent` labels of each class are held by themselves, too, the newest ones. `threshold` is what the output of a
    class must be above for it to be named, where labels are sets of classes; else it is 0, and the highest is named.
    `head` makes the weights of the sums.
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
        self.fading = Fading(config.d_model, num_recent, is_blended=head.is_updated)
        self._means = Directions(config.d_model, self._mean_directions)
        self._grow()

    def learn_many(self, samples: Sequence[Labelled]) -> None:
        """Learns samples whose labels were admitted."""
        if samples:
            self.learn_encoded(*self.encode(samples), samples)

    def encode(self, samples: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
        """Returns z_BD and the random features phi_BR of the samples' texts, under the encoder of this head."""
        z_BD = self.vectors(samples)
        return z_BD, self.served.features(z_BD)

    def vectors(self, samples: Sequence[Labelled]) -> Tensor:
        """Returns z_BD of the samples' texts, under the encoder of this head. Any thread may call it."""
        return self.served.z_many([sample.text for sample in samples])

    def learn_encoded(self, z_BD: Tensor, phi_BR: Tensor, samples: Sequence[Labelled]) -> None:
        """Learns samples that were encoded; otherwise as `learn_many`."""
        labels = [sample.label for sample in samples]
        entries = self.ridge.entries(labels)
        z_ED = entries.of(z_BD)
        times_E = entries.of(torch.tensor([sample.time_ms for sample in samples]))
        self.ridge.learn_many(phi_BR, labels)
        self.log.add(phi_BR, samples)
        self.z_sums_CD.index_add_(0, entries.rows_E, on_grid(z_ED, Z_GRID))
        self._means.touch(entries.rows_E.tolist())
        self.fading.add(z_ED, entries, times_E.tolist())

    def nearest(self, z_BD: Tensor) -> Nearest:
        """Names texts by their nearest class means. There is a class."""
        classes = self.ridge.classes
        newest_CD = self.fading.recent.means(len(classes)) if self.fading.recent.num_held else None
        return nearest(z_BD, classes, self._means.first(len(classes)), newest_CD)

    def relearn(self, samples: Sequence[Labelled], *, after_unit: Callable[[], None] = lambda: None) -> None:
        """Learns many samples in batches, and calls `after_unit` after each batch, as this takes seconds."""
        for first in range(0, len(samples), RELEARN_BATCH):
            self.learn_many(samples[first : first + RELEARN_BATCH])
            after_unit()

    def unlearn_many(self, samples: Sequence[Labelled]) -> None:
        """Removes samples that were learnt here: afterwards the head is one that never saw them."""
        if samples:
            self.unlearn_encoded(*self.encode(samples), [sample.label for sample in samples])

    def unlearn_encoded(self, z_BD: Tensor, phi_BR: Tensor, labels: Sequence[str]) -> None:
        """Removes samples that were encoded; otherwise as `unlearn_many`."""
        entries = self.ridge.entries(labels)
        z_ED = entries.of(z_BD)
        self.ridge.unlearn_many(phi_BR, labels)
        self.log.end()
        self.z_sums_CD.index_add_(0, entries.rows_E, -on_grid(z_ED, Z_GRID))
        self._means.touch(entries.rows_E.tolist())
        self.fading.remove(z_ED, entries.rows_E)

    def restart(self, label: str, since_ms: int, held: Sequence[Labelled]) -> None:
        """Goes on with a class as it has been since `since_ms`. Of older samples, those at hand were taken out.

        `held` are its samples that may be taken out later. Where its sums hold more than these, they become those of
        `held` and of the newest labels; the texts of the others stay in the Gram matrix, which knows no classes.
        """
        (row,) = self.ridge.rows_of([label]).tolist()
        newest_ND = self.fading.keep_since(row, since_ms)
        if self.ridge.num_of(label) == len(held):
            return
        held_ND, _ = self.encode(held)
        is_held_N = (newest_ND[:, None] == held_ND[None]).all(dim=2).any(dim=1)
        z_ND = torch.cat([held_ND, newest_ND[~is_held_N]])
        self.ridge.restart(label, self.served.features(z_ND))
        self.z_sums_CD[row] = on_grid(z_ND, Z_GRID).sum(dim=0)
        self._means.touch([row])
        self.log.end()

    def add_sums(self, sums: RidgeSums, z_sums_CD: Tensor) -> None:
        """Adds sums of samples that were not learnt here, rounded to the grids."""
        self.ridge.add_sums(sums)
        self.log.end()
        self.z_sums_CD[: len(z_sums_CD)] += on_grid(z_sums_CD, Z_GRID)
        self._means.touch(range(len(z_sums_CD)))

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """Removes all of a class, which is `samples`, and gives its row to another class."""
        self.unlearn_many(samples)
        self.fading.keep_since(int(self.ridge.rows_of([old])), sys.maxsize)
        self.ridge.replace(old, new)
        self.log.end()

    def solve(self) -> Tensor:
        """Returns weights_CR of what was learnt until now, by Cholesky: R^3/3 operations (0.1 s at R=2048)."""
        return self.solver()()

    def solver(self) -> Callable[[], Tensor]:
        """Returns a function that returns weights_CR of what was learnt until now. Another thread may call it."""
        return self.head.solver(self)

    def head_sums(self) -> HeadSums:
        """Returns copies of the sums of the classes. The Gram matrix is a copy already."""
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
        """Returns a function that makes weights_CR of a solution of the sums as they are now.

        It blends a class that has few labels with its mean, and multiplies each row by the factor of its count.
        """
        if self.ridge.classes and not kind_of(self.ridge.classes[0]).has_classes:
            # A mean of texts says nothing of their numbers.
            return lambda solution_CR: solution_CR
        scales_C = self.ridge.scales_C
        counts_C = self.ridge.counts_C.clone()
        means_CD = self._means.first(len(counts_C)).clone()
        decoder_RD = decoder_of(self.served.tensors[PROJ])
        return lambda solution_CR: blend(solution_CR, means_CD, counts_C, scales_C, decoder_RD) * scales_C[:, None]

    def means(self, labels: Sequence[str]) -> Tensor:
        """Returns the mean direction of each class, z_CD of unit length."""
        return self._means.first(len(self.ridge.classes))[self.ridge.rows_of(labels)]

    def successor(self, served: ServedEncoder) -> "FastHead":
        """Returns an empty fast head for the next encoder, with the same rows for the same classes."""
        empty = self._empty(served)
        empty.admit_all(self.ridge.classes)
        empty.threshold = self.threshold
        empty.fading.goes_on_from(self.fading)
        return empty

    def copy(self) -> "FastHead":
        """Returns a fast head with copies of the sums; it shares the encoder, and logs nothing that was learnt here."""
        copied = copy(self)
        copied.log = RowLog()
        copied.log.end()
        copied.ridge = self.ridge.copy()
        copied.z_sums_CD = self.z_sums_CD.clone()
        copied.fading = self.fading.copy()
        copied._means = Directions(self.served.config.d_model, copied._mean_directions)
        copied._means.touch(range(len(self.ridge.classes)))
        return copied

    def with_order(self, classes: Sequence[str]) -> "FastHead":
        """Returns the same fast head with its rows in the order of `classes`, which are all of its own."""
        reordered = self._empty(self.served)
        reordered.restore(in_order(self.export(), self.ridge.rows_of(classes)), classes)
        reordered.log = self.log  # names labels, no rows
        return reordered

    def with_names(self, name_of: Callable[[str], str]) -> "FastHead":
        """Returns the fast head of a learner that knew the classes by other names from the start.

        Classes of one name are one, at the first of their rows. A class that is named "" goes; its texts stay in the
        Gram matrix, which knows no classes.
        """
        sums, classes = renamed_sums(self.export(), self.ridge.classes, name_of)
        renamed = self._empty(self.served)
        renamed.restore(sums, classes)
        return renamed

    def admit_all(self, labels: Iterable[str]) -> None:
        """Gives every class that a label names a row, in this order."""
        for name in chain.from_iterable(map(row_names, labels)):
            self.ridge.admit(name)
        self._grow()

    def export(self) -> dict[str, Tensor]:
        """Returns the sums by name. The caller stores the classes beside them."""
        num_classes = len(self.ridge.classes)
        threshold = {THRESHOLD: torch.tensor([self.threshold])} if self.threshold else {}
        sums = self.ridge.export() | {"z": self.z_sums_CD[:num_classes].clone()}
        return sums | self.fading.export(num_classes) | threshold

    def restore(self, sums: Mapping[str, Tensor], classes: Sequence[str]) -> None:
        """Becomes the fast head whose sums and classes were exported."""
        self.ridge.restore(sums, classes)
        self.threshold = float(sums[THRESHOLD]) if THRESHOLD in sums else 0.0
        self.log.end()
        self.z_sums_CD = sums["z"].clone()
        self._grow()
        self._means.touch(range(len(self.z_sums_CD)))
        self.fading.restore(sums)

    def _empty(self, served: ServedEncoder) -> "FastHead":
        return FastHead(served, penalty=self.penalty, num_recent=self.fading.recent.num_recent, head=self.head)

    def _grow(self) -> None:
        num_rows = self.ridge.rows.num_in_tables
        self.z_sums_CD = grown(self.z_sums_CD, num_rows)
        self.fading.grow(num_rows, len(self.ridge.classes))

    def _mean_directions(self, rows_N: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.z_sums_CD[rows_N], dim=1).float()


MIN_LABELS: Final = 3
"""Labels since the change that an heir has at least."""

MIN_SHARE: Final = 0.6
"""Share of the old texts that are nearest to the heir. A change is found after some seven labels of each class, and
their means name four texts of five rightly."""

SLACK: Final = 0.05
"""The difference of two cosines that says nothing: an heir may be where the texts are from an earlier change on."""


def named_since(head: FastHead, z_ND: Tensor, since_ms: int) -> list[str]:
    """Names texts by the nearest mean of the labels since `since_ms`; returns "" for each where no class has enough."""
    classes = head.ridge.classes
    means_CD, counts_C = head.fading.recent.means_since(since_ms, len(classes))
    cosines_NC = z_ND @ means_CD.T
    cosines_NC[:, counts_C < MIN_LABELS] = -1
    return [classes[row] if counts_C[row] >= MIN_LABELS else "" for row in cosines_NC.argmax(dim=1).tolist()]


def heir_of(names: Sequence[str]) -> str:
    """Returns the class that old texts belong to by their `names`; "" where none is clear.

    >>> heir_of(["b", "b", "a", "b"]), heir_of(["a", "b"]), heir_of([])
    ('b', '', '')
    """
    [(heir, num)] = Counter(names).most_common(1) or [("", 0)]
    return heir if num >= MIN_SHARE * len(names) else ""


def has_moved(head: FastHead, heir: str, own_ND: Tensor, old_ND: Tensor, since_ms: int) -> bool:
    """Whether what is labelled `heir` since `since_ms` is like the texts of `old_ND`.

    It is at least as near to them, but for SLACK, as to `own_ND`, what was labelled so before, if there was anything.
    """
    if not len(own_ND):
        return True
    (row,) = head.ridge.rows_of([heir]).tolist()
    means_CD, _ = head.fading.recent.means_since(since_ms, len(head.ridge.classes))
    means_2D = torch.nn.functional.normalize(torch.stack([own_ND.mean(dim=0), old_ND.mean(dim=0)]), dim=1)
    to_own, to_old = (means_2D @ means_CD[row]).tolist()
    return bool(to_old > to_own - SLACK)
