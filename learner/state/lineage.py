"""The lineage of a version: the slow rounds and the changes from which it resulted. It can be rebuilt from these.

    a round begins --add_round--> Lineage --end_round--> Lineage --in the manifest--> rebuild

The sums of the fast head are exact. The encoder that a round makes is a function of

- the records below the offsets at which the round began,
- the records below the offsets at which it read the replay buffer, and
- the number of blocks that it trained. The lineage has this number, since drift depends on the order of the records.

So the topics and the lineage give the same weights, bit for bit, on the same processor. Neither the interleaving of the
partitions nor kills of the learner change them. If anything else has changed the knowledge, versions can no longer be
rebuilt. Then `gap` has the reason, and it stays set for ever.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from wire.records import ConceptChange, LabelChange, Lineage, Round, RoundKind

MAX_ROUNDS: Final = 256
"""The most rounds in a lineage, the last ones. They take about 40 KB in a manifest."""

MAX_CHANGES: Final = 256
"""The most concept changes in a lineage, and the most changes of the set of labels; the last ones of each."""


def add_round(
    lineage: Lineage, *, number: int, kind: RoundKind, offsets: Mapping[str, int], layers: int = 0
) -> Lineage:
    """Adds a round, which begins after the records below `offsets`; returns the new lineage.

    `layers` is the number of blocks that it trains (`RoundPlan`).
    """
    begun = Round(number=number, kind=kind, offsets=dict(offsets), layers=layers or msgspec.UNSET)
    rounds = (*lineage.rounds, begun)
    if len(rounds) > MAX_ROUNDS:
        lineage = record_gap(lineage, f"it took more than {MAX_ROUNDS} rounds")
    return msgspec.structs.replace(lineage, rounds=rounds[-MAX_ROUNDS:])


def add_change(lineage: Lineage, change: ConceptChange) -> Lineage:
    """Adds a concept change, which happened after all records so far; returns the new lineage."""
    changes = (*lineage.concept_changes, change)
    if len(changes) > MAX_CHANGES:
        lineage = record_gap(lineage, f"concepts changed more than {MAX_CHANGES} times")
    return msgspec.structs.replace(lineage, concept_changes=changes[-MAX_CHANGES:])


def add_label_change(lineage: Lineage, change: LabelChange) -> Lineage:
    """Adds an operator's change of the set of labels, made after all records so far; returns the new lineage."""
    changes = (*lineage.label_changes, change)
    if len(changes) > MAX_CHANGES:
        lineage = record_gap(lineage, f"the labels were changed more than {MAX_CHANGES} times")
    return msgspec.structs.replace(lineage, label_changes=changes[-MAX_CHANGES:])


def set_memory_offsets(lineage: Lineage, offsets: Mapping[str, int]) -> Lineage:
    """Records the offsets at which the last round has read the replay buffer; returns the new lineage."""
    if not lineage.rounds:
        return lineage
    *before, last = lineage.rounds
    last = msgspec.structs.replace(last, memory_offsets=dict(offsets))
    return msgspec.structs.replace(lineage, rounds=(*before, last))


def end_round(lineage: Lineage, *, is_adopted: bool) -> Lineage:
    """Records whether the encoder of the last round was adopted; returns the new lineage."""
    # A round that an older release began is not in the lineage.
    if not lineage.rounds:
        return lineage
    *before, last = lineage.rounds
    last = msgspec.structs.replace(last, outcome="adopted" if is_adopted else "dropped")
    return msgspec.structs.replace(lineage, rounds=(*before, last))


def record_gap(lineage: Lineage, gap: str) -> Lineage:
    """Records that later versions can no longer be rebuilt; returns the new lineage. `gap` is the reason."""
    return msgspec.structs.replace(lineage, gap=gap)
