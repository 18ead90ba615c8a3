"""Finds the heir of a class that has changed: the class that its old texts belong to now.

    vectors of texts from before the change --nearest mean of the labels since--> names --most common--> heir, or none

When names are swapped, a class is renamed, or two become one, the texts of before are worth as much as new labels: only
their names are wrong. Without them, a class that has changed has a few labels among classes that have many, so that
either these lose texts to it or it loses its own to them (`learner.fast.ridge`). On CLINC150's validation texts, with
20 labels of each of 45 changed classes and 68 of each other one, the others lose up to 0.4 points, and the changed ones
are up to 1.8 points below a learner with 20 labels of each class; other exponents of the counts trade one for the
other.

Everything here is a function of which labels were learnt, and not of their order. So a version that is rebuilt from the
topics has the same heirs.

Rejected: naming each text by itself (the means of a few labels name every fifth text wrongly, and a class that was
split has no heir), and counting what its texts are labelled as (depends on the order, or has to be written down).

Shapes: N texts, C classes, D width.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from learner.fast.fast_head import FastHead

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
