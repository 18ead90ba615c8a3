"""One task of a replica: loads the versions of the task's plan, follows its set of labels, and reports its state.

    store of the task --Swap--> Engine, under the task's name
                      --LabelWatch, in the swap's thread--> LabelSet, which accepts or refuses labels by HTTP
                      <--ReplicaReport of this task--       TaskStatus, ReplicaStatus: the same state by HTTP

The replica adds the values that concern all tasks (queue, latencies, promises) to the default task's report. While the
store is unreachable, the set of labels stays unchanged. This does no harm, because the learner also refuses labels that
it must not learn.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from model.packed import Inputs
from serving.deaths import Deaths
from serving.engine import Engine
from serving.observers import Counts, task_counts
from serving.replica_config import ReplicaConfig
from serving.weights.disk import DiskCache, FollowedPlan
from serving.weights.in_use import WeightsInUse
from serving.weights.loader import Loader
from serving.weights.refusals import LoadGuard
from serving.weights.swap import Swap
from wire import metrics
from wire.config import LabelConfig
from wire.errors import WireError
from wire.label_set import LabelSet
from wire.records import Arm, ReplicaReport
from wire.store import Store
from wire.store.folder import FolderStore
from wire.timestamps import now_ms


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one task in a replica.

    - `swap`: the state of the swap thread
    - `revision`, `arms`: the revision and the arms of the plan in use; 0 and empty before the first weights
    - `stand_in`: the version that answers instead of the plan's stable version, which this replica cannot load; 0 if
      the stable version answers
    - `num_labels`: the number of labels of each version
    - `forwards`: the implementation of the forward pass of each version's encoder: `native`, or its fallback for shapes
      and machines that `native` does not support
    - `refused`: the number of versions that were not loaded, by reason
    - `refused_below`: for each version, the certainty below which its answers are refused; 0 if none are refused
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
    """The state of a replica. The fields that it inherits are the state of the default task.

    - `queue`, `queue_items`: the state of the queue, and the number of items in it
    - `open_events`: the number of events from Kafka whose answers the broker has not acknowledged yet
    - `swaps`: the number of swaps of weights since the start
    - `swap_stalls_ms`: the last pauses between two batches in which weights were swapped, oldest first
    - `swap_pauses_ms`: for comparison, the pause without a swap that came last before each of them
    - `counts`: the replica's counters by name
    - `tasks`: the states of the other tasks by name
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


class SharedParts(NamedTuple):
    """The parts that all tasks of a replica share, and the replica's name."""

    replica: str
    engine: Engine
    inputs: Inputs
    weights: WeightsInUse
    counts: Counts
    deaths: Deaths


class ServedTask:
    """Owns the swap of a task, and the connection to the task's store.

    `complete` adds the values that concern the whole replica to the task's report.
    """

    def __init__(
        self,
        name: str,
        config: ReplicaConfig,
        parts: SharedParts,
        complete: Callable[[ReplicaReport], ReplicaReport],
    ) -> None:
        serving = config.serving
        task = config.all_tasks[name]
        self.name = name
        self._profile = config.profile
        self._parts = parts
        self._complete = complete
        self._store = Store(config.store, config.ring, task=name)
        self._labels = LabelWatch(self._store, task.labels)
        self._cache = _open_cache(name, config)
        self.swap = Swap(
            self._store,
            Loader(
                self._store,
                parts.inputs,
                precision=serving.precision,
                probe_tolerance=serving.probe_tolerance,
                names_encodings=serving.answer_vectors,
                refusal=task.refusal,
                weights=parts.weights,
            ).with_guard(
                LoadGuard(
                    parts.replica,
                    parts.deaths,
                    self._store.reports.replicas,
                    lambda: parts.engine.live_versions(name) is not None,
                )
            ),
            parts.engine,
            refusal_retry_s=serving.refusal_retry_s,
            report_interval_s=serving.report_interval_s,
            report=self._report,
            followed=FollowedPlan(serving.spool_dir, name, cache=self._cache),
        )

    @property
    def labels(self) -> LabelSet:
        """The last set of labels that was read. Any thread may read it."""
        return self._labels.labels

    def status(self) -> TaskStatus:
        """Returns the current state. Any thread may call it."""
        live = self._parts.engine.live_versions(self.name)
        versions = live.versions if live else {}
        return TaskStatus(
            swap=self.swap.state.value,
            revision=live.plan.revision if live else 0,
            stand_in=live.stand_in if live else 0,
            arms=live.plan.arms if live else (),
            num_labels={str(number): len(version.model.labels) for number, version in versions.items()},
            refused_below={
                str(number): version.refusal.threshold if version.refusal else 0.0
                for number, version in versions.items()
            },
            forwards={str(number): version.model.encoder.implementation for number, version in versions.items()},
            refused=self.swap.refused,
        )

    def close(self) -> None:
        """Ends the swap thread. The live weights stay in the engine."""
        self.swap.close()
        self._cache.close()
        self._store.close()

    def _report(self) -> ReplicaReport:
        """Returns the task's report. Only the swap's thread calls it."""
        self._labels.follow()
        live = self._parts.engine.live_versions(self.name)
        status = self.status()
        return self._complete(
            ReplicaReport(
                replica=self._parts.replica,
                revision=status.revision,
                versions=tuple(dict.fromkeys(arm.version for arm in status.arms)),
                time_ms=now_ms(),
                refused=status.refused,
                counts=task_counts(self.name, self._parts.counts.snapshot()),
                model_bytes=self.swap.model_bytes,
                damaged=self.swap.damaged,
                stand_in=status.stand_in,
                health=self.swap.health,
                profile=self._profile,
                swapped_ms=live.since_ms if live else 0,
                metrics_address=metrics.address(),
            )
        )


def _open_cache(task: str, config: ReplicaConfig) -> DiskCache:
    """Returns the cache of a task's weights in the spool's folder; one that keeps nothing if there is no spool."""
    if not config.serving.spool_dir:
        return DiskCache()
    folder = Path(config.serving.spool_dir) / f"weights-{task}"
    return DiskCache(FolderStore(folder, config.store, config.ring, task=task))


log = structlog.get_logger("http")


class LabelWatch:
    """Follows a task's set of labels in the store.

    `labels` is replaced as a whole, so any thread may read it. One thread calls `follow`.
    """

    def __init__(self, store: Store, config: LabelConfig) -> None:
        self._store = store
        self._last_error = ""
        self.labels = LabelSet(config)

    def follow(self) -> None:
        """Applies the new label commands in the store. If they cannot be read, logs the error, but the same error only
        once."""
        problem = ""
        try:
            self.labels = self.labels.after_all(self._store.labels.requested(self.labels.number))
        except WireError as error:
            problem = str(error)
        if problem and problem != self._last_error:
            log.warning("labels_not_read", error=problem)
        self._last_error = problem
