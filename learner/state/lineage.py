"""The lineage: the slow rounds that the knowledge came from, by which a version is rebuilt from the topics.

    a round begins --add_round--> Lineage --end_round--> Lineage --in the manifest--> rebuild

The sums of the fast head are exact. The encoder that a round makes is a function of

- the records below the offsets at which the round began,
- the records below the offsets at which it read the replay buffer, and
- the number of blocks that it trained. The lineage has this number, since drift depends on the order of the records.

So the topics and the lineage lead to the same weights, bit for bit, on the same processor. The interleaving of the
partitions and kills of the learner make no difference. If anything else has changed the knowledge, `gap` has the
reason, and the lineage never becomes complete again.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from wire.records import ConceptChange, LabelChange, Lineage, Round, RoundKind

MAX_ROUNDS: Final = 256
"""Number of last rounds in a lineage: about 40 KB in a manifest."""

MAX_CHANGES: Final = 256
"""Number of last concept changes in a lineage, and of last changes of the set of labels."""


def add_round(
    lineage: Lineage, *, number: int, kind: RoundKind, offsets: Mapping[str, int], layers: int = 0
) -> Lineage:
    """Returns `lineage` with a new round, which begins after the records below `offsets`. `layers`: see `RoundPlan`."""
    begun = Round(number=number, kind=kind, offsets=dict(offsets), layers=layers or msgspec.UNSET)
    rounds = (*lineage.rounds, begun)
    if len(rounds) > MAX_ROUNDS:
        lineage = record_gap(lineage, f"it took more than {MAX_ROUNDS} rounds")
    return msgspec.structs.replace(lineage, rounds=rounds[-MAX_ROUNDS:])


def add_change(lineage: Lineage, change: ConceptChange) -> Lineage:
    """Returns `lineage` with a concept change, which came after all records so far."""
    changes = (*lineage.concept_changes, change)
    if len(changes) > MAX_CHANGES:
        lineage = record_gap(lineage, f"concepts changed more than {MAX_CHANGES} times")
    return msgspec.structs.replace(lineage, concept_changes=changes[-MAX_CHANGES:])


def add_label_change(lineage: Lineage, change: LabelChange) -> Lineage:
    """Returns `lineage` with an operator's change of the set of labels, which came after all records so far."""
    changes = (*lineage.label_changes, change)
    if len(changes) > MAX_CHANGES:
        lineage = record_gap(lineage, f"the labels were changed more than {MAX_CHANGES} times")
    return msgspec.structs.replace(lineage, label_changes=changes[-MAX_CHANGES:])


def set_memory_offsets(lineage: Lineage, offsets: Mapping[str, int]) -> Lineage:
    """Returns `lineage` with the offsets below which its last round has read the replay buffer."""
    if not lineage.rounds:
        return lineage
    *before, last = lineage.rounds
    last = msgspec.structs.replace(last, memory_offsets=dict(offsets))
    return msgspec.structs.replace(lineage, rounds=(*before, last))


def end_round(lineage: Lineage, *, is_adopted: bool) -> Lineage:
    """Returns `lineage` with its last round ended."""
    # A round that an older program began is not in the lineage.
    if not lineage.rounds:
        return lineage
    *before, last = lineage.rounds
    last = msgspec.structs.replace(last, outcome="adopted" if is_adopted else "dropped")
    return msgspec.structs.replace(lineage, rounds=(*before, last))


def record_gap(lineage: Lineage, gap: str) -> Lineage:
    """Returns `lineage` with a gap: later versions can no longer be rebuilt. `gap` is the reason."""
    return msgspec.structs.replace(lineage, gap=gap)
