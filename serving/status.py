"""The status that a replica reports by HTTP."""

import msgspec

from wire.records import Arm


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What answers for one task.

    `revision` and `arms` are those that answer now (0 and none before the first weights). `refused` counts versions
    that were not taken, by reason. `stand_in` is the version that answers in place of the plan's stable one, which this
    replica cannot load (0: the stable one answers). `forwards` has the implementation of the encoder of each version:
    `native`, or what takes its place for shapes and machines that it cannot run. `refused_below` has the certainty
    below which answers of each version are refused (0: none are).
    """

    swap: str
    revision: int
    stand_in: int
    arms: tuple[Arm, ...]
    num_labels: dict[str, int]
    forwards: dict[str, str]
    refused: dict[str, int]
    refused_below: dict[str, float] = {}


class ReplicaStatus(TaskStatus, frozen=True, kw_only=True):
    """What answers for the default task, for the others in `tasks`, and what the replica has counted.

    `open_events` are events from Kafka that have no acknowledged answer yet. `swap_stalls_ms` are the last pauses
    between two batches with a swap of weights, `swap_pauses_ms` those before them, without one.
    """

    replica: str
    queue: str
    queue_items: int
    open_events: int
    swaps: int
    swap_stalls_ms: tuple[float, ...]
    swap_pauses_ms: tuple[float, ...]
    counts: dict[str, int]
    tasks: dict[str, TaskStatus] = {}
