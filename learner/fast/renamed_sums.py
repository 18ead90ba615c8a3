"""The sums of a fast head under other names of its classes: a class is renamed, several become one, or one goes.

    sums by class, classes --name_of--> rows of one name are added up; rows of no name are left out

The sums are exact, so the result is that of a head which was given the new names from the start, bit for bit. The Gram
matrix knows no classes, and stays as it is.

Rejected: learning the texts of a class again under its new name (the memory may have dropped some).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

SUMMED: Final = ("class", "counts", "z")
"""Names of the exported sums by class that are added up; of the newest labels the newest of all stay."""

NEWEST: Final = ("recent", "newest")
"""What the names of the newest labels begin with (`learner.fast.fading`)."""

PER_CLASS: Final = (*SUMMED, "recent_z", "recent_times", "newest_z", "newest_times")
"""Names of the exported sums that have a row for each class."""


def in_order(sums: Mapping[str, Tensor], rows_C: Tensor) -> dict[str, Tensor]:
    """Returns the sums with their rows in another order."""
    return {name: values[rows_C] if name in PER_CLASS else values for name, values in sums.items()}


def renamed_sums(
    sums: Mapping[str, Tensor], classes: Sequence[str], name_of: Callable[[str], str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Returns the sums and the classes under the names that `name_of` returns, each at the first of its rows.

    A class that is named "" is left out.
    """
    names = [name_of(label) for label in classes]
    renamed = tuple(dict.fromkeys(filter(None, names)))
    rows_of = [[row for row, name in enumerate(names) if name == label] for label in renamed]
    by_class = {name: sums[name] for name in SUMMED}
    by_class["class"] = by_class["class"].double()  # a sum of classes may outgrow float32
    joined = dict[str, Tensor]()
    for name, values in by_class.items():
        joined[name] = _stacked([values[rows].sum(dim=0) for rows in rows_of], values)
    for name in NEWEST:
        z_CKD, times_CK = sums[f"{name}_z"], sums[f"{name}_times"]
        newest = [_newest(z_CKD[rows], times_CK[rows]) for rows in rows_of]
        joined[f"{name}_z"] = _stacked([z_KD for z_KD, _ in newest], z_CKD)
        joined[f"{name}_times"] = _stacked([times_K for _, times_K in newest], times_CK)
    return dict(sums) | joined, renamed


def _newest(z_RKD: Tensor, times_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the K newest labels of R rows, in the order of `RecentLabels`: by time, then by vector, descending."""
    z_ND = z_RKD.flatten(0, 1)
    times_N = times_RK.flatten()
    keys = list(zip(times_N.tolist(), z_ND[:, 0].tolist(), strict=True))
    newest = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)[: times_RK.shape[1]]
    return z_ND[newest], times_N[newest]


def _stacked(rows: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(rows)) if rows else like[:0]
