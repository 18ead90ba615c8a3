"""How well an answer agrees with the label of its event, and whether it counts as right. Pure.

    named, label --f1--> agreement, in [0, 1] --draw of the event--> right, or not

Every verdict about versions counts answers that are right (McNemar's test, confidence sequences, drift). An answer that
names a set may be partly right: its agreement is the F1 of the event, 2 |named and labelled| / (|named| + |labelled|).
So it counts as right where a number that is drawn for the event, uniform in [0, 1), is below that (randomised rounding,
Raghavan and Thompson 1987). The expectation of the share of right answers is then the mean F1, so that every bound on
that share holds for it, and a few counts remain the whole evidence. All versions have the same draw: two of them differ
on an event with the probability by which their agreements differ, and no other rounding makes them differ less. A score
agrees by 1 less its absolute error, as a share of the range: the share of right answers is 1 less the mean absolute
error. One class is right with an agreement of 1 and wrong with one of 0, whatever is drawn.

Rejected: the share of events whose set is named wholly (of ten labels, one that is missed counts as much as ten), and
sums of F1 in place of the counts (another form of every test, of its state, and of all that is stored of it).
"""

from collections.abc import Collection
from typing import Final

import mmh3

from wire.targets import UNIT_MARK, is_set, names_of, value_of

DRAW_SEED: Final = 0x6472_6177


def f1(named: Collection[object], labelled: Collection[object]) -> float:
    """Returns the F1 of a set that was named beside the one that is right, in [0, 1]; 1 where both are empty.

    >>> f1(["refund"], ["refund", "urgent"]), f1([], [])
    (0.6666666666666666, 1.0)
    """
    num = len(named) + len(labelled)
    return 2 * len({*named} & {*labelled}) / num if num else 1.0


def draw_of(event: bytes) -> float:
    """Returns the number in [0, 1) that is drawn for an event."""
    return float(mmh3.hash(event, DRAW_SEED, signed=False) * 2.0**-32)


def is_right(named: str | None, label: str, event: bytes) -> bool:
    """Whether an answer counts as right for this event. `named` is None where the weights knew no class."""
    if named is not None and named.startswith(UNIT_MARK) and label.startswith(UNIT_MARK):
        return draw_of(event) < 1 - abs(value_of(named) - value_of(label))
    if named is None or not (is_set(named) and is_set(label)):
        return named == label
    return draw_of(event) < f1(names_of(named), names_of(label))
