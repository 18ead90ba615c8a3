"""The status that a replica reports by HTTP."""

import msgspec

from wire.records import Arm


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`revision` and `arms` are those that answer now (0 and none before the first weights).

    `open_events` are events from Kafka that have no acknowledged answer yet. `swap_stalls_ms` are the last pauses
    between two batches with a swap of weights, `swap_pauses_ms` those before them, without one. `refused` counts
    versions that were not taken, by reason. `stand_in` is the version that answers in place of the plan's stable one,
    which this replica cannot load (0: the stable one answers). `forwards` has the implementation of the encoder of each
    version: `native`, or what takes its place for shapes and machines that it cannot run. `refused_below` has the
    certainty below which answers of each version are refused (0: none are).
    """

    replica: str
    swap: str
    queue: str
    revision: int
    stand_in: int
    arms: tuple[Arm, ...]
    num_labels: dict[str, int]
    forwards: dict[str, str]
    queue_items: int
    open_events: int
    swaps: int
    swap_stalls_ms: tuple[float, ...]
    swap_pauses_ms: tuple[float, ...]
    refused: dict[str, int]
    counts: dict[str, int]
    refused_below: dict[str, float] = {}
