"""The factors of the rows of a head, by how many labels their classes have.

    labels of a class, where they are fewer than the mean --the root of the mean over them--> factor, at least 1
                                                            YOUNG labels or fewer: all of it; ESTABLISHED: nothing of it

A class that is hardly known is named too seldom by ridge regression, so its row is multiplied by more than the others.
Of a class that is well known, the labels say how often it comes, and so how often it is right to name it.

With that root for counts above the mean, too, a new class is named hardly better (SNIPS, 30 labels beside 1,800 of each
old class: 79 % of its texts, and 75.5 % as it is), and every rare one for ever: 72.4 and not 80.6 % of the texts of
TREC's 50 classes are named rightly then (4 to 962 labels of each), and 78.5 and not 80.3 % of the rows of a weather of
31 % rain. Rejected: counting no more than 128 labels of any class, which helps against that as much, and names 10 % of
the texts of that new class of SNIPS.

Shapes: C classes.
"""

import math
from typing import Final

from torch import Tensor

YOUNG: Final = 128
"""The labels of a class up to which it may be new, however seldom it has come so far."""

ESTABLISHED: Final = 512
"""The labels of a class from which on they say how often it comes."""


def row_scales(counts_C: Tensor) -> Tensor:
    """Returns the factors by which a row of each class is multiplied.

    >>> from torch import tensor
    >>> row_scales(tensor([90, 10, 20])), row_scales(tensor([9_000, 1_000, 64]))
    (tensor([1.0000, 2.0000, 1.4142]), tensor([1.0000, 1.0000, 7.2399]))
    """
    counts_C = counts_C.double().clamp(min=1)
    mean = float(counts_C.mean()) if len(counts_C) else 1.0
    shares_C = 1 - (counts_C / YOUNG).log() / math.log(ESTABLISHED / YOUNG)
    factors_C: Tensor = (mean / counts_C.clamp(max=mean)) ** (shares_C.clamp(0, 1) / 2)
    return factors_C.float()
