"""The lineage: the list of slow rounds that knowledge came from, with which a version is rebuilt from the topics.

    a round begins --add_round--> Lineage --end_round--> Lineage --in the manifest--> rebuild

The sums of the fast head are exact. What a round makes is a function of the records below two sets of offsets, those
where it began and those where it read the memory, and of the number of blocks that it trains. The list has that, too,
since what drifts depends on the order of the records. So the topics and this list lead to the same weights, bit for
bit, on the same processor, however the partitions were interleaved and however often the learner was killed on the way.
Where something else has changed what is known, `gap` says so, for good.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from wire.records import ConceptChange, LabelChange, Lineage, Round, RoundKind

MAX_ROUNDS: Final = 256
"""A lineage has the last so many rounds: about 40 KB in a manifest."""

MAX_CHANGES: Final = 256
"""A lineage has the last so many changes of concepts, and as many of the set of labels."""


def add_round(
    lineage: Lineage, *, number: int, kind: RoundKind, offsets: Mapping[str, int], layers: int = 0
) -> Lineage:
    """Returns `lineage` and a round that begins behind the records below `offsets`. `layers`: see `RoundPlan`."""
    begun = Round(number=number, kind=kind, offsets=dict(offsets), layers=layers or msgspec.UNSET)
    rounds = (*lineage.rounds, begun)
    if len(rounds) > MAX_ROUNDS:
        lineage = record_gap(lineage, f"it took more than {MAX_ROUNDS} rounds")
    return msgspec.structs.replace(lineage, rounds=rounds[-MAX_ROUNDS:])


def add_change(lineage: Lineage, change: ConceptChange) -> Lineage:
    """Returns `lineage` and the change of a concept, which came behind all records so far."""
    changes = (*lineage.concept_changes, change)
    if len(changes) > MAX_CHANGES:
        lineage = record_gap(lineage, f"concepts changed more than {MAX_CHANGES} times")
    return msgspec.structs.replace(lineage, concept_changes=changes[-MAX_CHANGES:])


def add_label_change(lineage: Lineage, change: LabelChange) -> Lineage:
    """Returns `lineage` and what an operator did to the set of labels behind all records so far."""
    changes = (*lineage.label_changes, change)
    if len(changes) > MAX_CHANGES:
        lineage = record_gap(lineage, f"the labels were changed more than {MAX_CHANGES} times")
    return msgspec.structs.replace(lineage, label_changes=changes[-MAX_CHANGES:])


def set_memory_offsets(lineage: Lineage, offsets: Mapping[str, int]) -> Lineage:
    """Returns `lineage` whose last round has read the memory as it was behind the records below `offsets`."""
    if not lineage.rounds:
        return lineage
    *before, last = lineage.rounds
    last = msgspec.structs.replace(last, memory_offsets=dict(offsets))
    return msgspec.structs.replace(lineage, rounds=(*before, last))


def end_round(lineage: Lineage, *, is_adopted: bool) -> Lineage:
    """Returns `lineage` with its last round ended. A round that an older program began is not in it."""
    if not lineage.rounds:
        return lineage
    *before, last = lineage.rounds
    last = msgspec.structs.replace(last, outcome="adopted" if is_adopted else "dropped")
    return msgspec.structs.replace(lineage, rounds=(*before, last))


def record_gap(lineage: Lineage, gap: str) -> Lineage:
    """Returns `lineage` from which nothing can be rebuilt any more, because of `gap`."""
    return msgspec.structs.replace(lineage, gap=gap)
