"""Which version the learner goes on from, and whether that version says all that it knows.

The store's pointer is the truth. If it went back to an older version, a rollout has withdrawn ours: the learner returns
to the snapshot of that version, keeps its offsets and counts the labels in between as set aside. If it is ahead, our
checkpoint is older than the last publication: the learner reads on to where that version was, and publishes then. How
far that is, is part of the learner's state: killed while it reads on, it goes on reading and publishes no child that
knows less than its parent.
"""

from collections.abc import Mapping

import structlog

from learner.errors import LearnerError
from learner.learner import Learner
from learner.release.candidate import Candidate, Maker
from learner.state.checkpoint import Checkpoints, is_same
from learner.state.snapshot import Snapshot
from learner.stopwatch import Stopwatch
from wire.errors import NotFound
from wire.records import WeightManifest
from wire.store import Store

PUBLISHED_AT = "published_at"
"""Counter: how many changes the learner had seen at the last publication."""

IN_A_ROW = "gate_in_a_row"
"""Counter: how many versions the gate has refused since it let one pass."""

log = structlog.get_logger("learner")


class ParentVersion:
    """`pending` is what a checkpoint says is about to be published, until the store is known to have it."""

    def __init__(self, learner: Learner, store: Store, checkpoints: Checkpoints, maker: Maker) -> None:
        self._learner = learner
        self._store = store
        self._checkpoints = checkpoints
        self._maker = maker
        self._seen = -1
        self._is_forced = False
        self.pending: WeightManifest | None = None

    @property
    def num_changes(self) -> int:
        """Grows with everything that makes the next version another one."""
        counts = self._learner.counts
        kinds = ("learnt", "set_aside", "rounds_adopted", "erasures", "migrations")
        return sum(counts[kind] for kind in kinds)

    @property
    def has_changes(self) -> bool:
        return self.num_changes != self._seen

    @property
    def may_publish(self) -> bool:
        """Whether there is something to publish, and nothing has to be read before."""
        offsets = self._learner.offsets
        is_behind = any(offsets.get(partition, 0) < offset for partition, offset in self._learner.read_first.items())
        return not is_behind and not self._learner.erased.is_due and (self._is_forced or self.has_changes)

    def recover(self, pending: WeightManifest | None, ends: Mapping[str, int]) -> None:
        """Find out where a restored learner stands. `ends`: the last offsets that can be read now.

        Everything is asked before anything is changed, so after StoreUnavailable it may be called again.
        """
        learner = self._learner
        current = self._store.current()
        stored = {version: self._stored(version) for version in {current, learner.version}}
        is_there = pending is not None and is_same(pending, self._stored(pending.version))
        self._seen = learner.counts.get(PUBLISHED_AT, -1)
        learner.read_first = _reachable(learner.read_first, ends)
        if pending is not None and is_there:
            self.mark(pending, self.num_changes - learner.has_migrated)
            self._maker.published(self._maker.make(learner, Stopwatch()), learner)
        elif pending is not None or not current:
            self.force()
        if current > learner.version:
            self._read_on(current, stored[current], ends)
        if self._maker.parent is None and learner.version:
            self._remake_parent(stored.get(learner.version))

    def force(self) -> None:
        """Publish at the next opportunity, new labels or not."""
        self._is_forced = True

    def forget_unreachable(self) -> None:
        """The bus has lost records: do not wait for them."""
        self._learner.read_first = {}

    def launched(self, manifest: WeightManifest) -> None:
        """`manifest` is on its way."""
        self._learner.last_version = manifest.version
        self.pending = manifest
        self._is_forced = False

    def refused(self, num_changes: int) -> int:
        """What the learner knew at `num_changes` is not to be published; what comes later may be.

        Returns how many times in a row that was now.
        """
        self._seen = num_changes
        self._is_forced = False
        self._learner.counts[IN_A_ROW] += 1
        return self._learner.counts[IN_A_ROW]

    def give_up(self) -> None:
        """Go back to the published version, if there is one: what was learnt since is set aside."""
        version = self._learner.version
        stored = self._stored(version)
        self._learner.counts[IN_A_ROW] = 0
        if version:
            self._learner.counts["given_up"] += 1
            self._return_to(version, stored)

    def mark(self, manifest: WeightManifest, num_changes: int) -> None:
        """`manifest` is the version that the learner goes on from; `num_changes` had been seen when it was made."""
        self._learner.version = manifest.version
        self._learner.last_version = max(self._learner.last_version, manifest.version)
        self._learner.erased.published(manifest.version, manifest.erased)
        self._learner.counts["published"] += 1
        self._learner.counts[IN_A_ROW] = 0
        self.pending = None
        self._is_told(num_changes)

    def follow(self, current: int) -> None:
        """The current version is not the one that we learn on from."""
        learner = self._learner
        pending = self.pending
        stored = self._stored(current)
        if pending is not None and is_same(pending, stored):
            self.mark(pending, self._seen)  # it was published, but the reply was lost; what came since is new
        elif current == 0:
            learner.version = 0  # the store was wiped: publish again what we know
            self.force()
        elif current > learner.version:
            self._read_on(current, stored, {})
        else:
            self._return_to(current, stored)

    def remade(self, stored: WeightManifest) -> Candidate | None:
        """What was published as `stored`, made again from its checkpoint; None where that is gone."""
        published = self._snapshot_of(stored)
        return None if published is None else self._made_of(published)

    def _made_of(self, published: Snapshot) -> Candidate | None:
        """The candidate that a learner in this state makes."""
        try:
            with self._learner.recalling(published):
                return self._maker.make(self._learner, Stopwatch())
        except LearnerError as error:
            log.warning("snapshot_refused", version=published.facts.version, reason=str(error))
            return None

    def _is_told(self, num_changes: int) -> None:
        """The current version says all that the learner knew at `num_changes`."""
        self._seen = self._learner.counts[PUBLISHED_AT] = num_changes

    def _stored(self, version: int) -> WeightManifest | None:
        """What the store has as `version`; None where it has nothing."""
        try:
            return self._store.manifest(version) if version else None
        except NotFound:
            return None

    def _snapshot_of(self, stored: WeightManifest | None) -> Snapshot | None:
        return None if stored is None else self._checkpoints.of_version(stored)

    def _remake_parent(self, stored: WeightManifest | None) -> None:
        """What came since the last publication is judged beside it: a restart must not be a way past the gate."""
        published = self._snapshot_of(stored)
        if published is not None and len(published.facts.erased.erasures) == len(self._learner.erased):
            self._maker.parent = self._made_of(published)
        if self._maker.parent is None:
            self._learner.counts["parent_missing"] += 1

    def _return_to(self, current: int, stored: WeightManifest | None) -> None:
        learner = self._learner
        learner.read_first = {}  # the version that knew those records was withdrawn
        try:
            snapshot = self._snapshot_of(stored)
            if snapshot is not None:
                learner.set_aside(snapshot, current)
                learner.anchor = None
                self._maker.published(self._maker.make(learner, Stopwatch()), learner)
        except LearnerError as error:
            log.warning("snapshot_refused", version=current, reason=str(error))
        if learner.version != current:
            learner.counts["snapshot_missing"] += 1
            learner.version = current
            self._maker.parent = None
            self._is_forced = len(learner.erased) > 0  # the current version may know somebody who was erased
        self._is_told(self.num_changes)
        log.warning("went_back", version=current, set_aside=learner.counts["set_aside"])

    def _read_on(self, current: int, stored: WeightManifest | None, ends: Mapping[str, int]) -> None:
        if stored is None:  # nobody can say what it knew: the next version says what we know
            self._learner.counts["manifest_missing"] += 1
            self.force()
        self._learner.read_first = _reachable(stored.trained_through if stored else {}, ends)
        self._learner.version = current
        self._learner.last_version = max(self._learner.last_version, current)
        log.warning("reading_on", version=current, through=self._learner.read_first)


def _reachable(offsets: Mapping[str, int], ends: Mapping[str, int]) -> dict[str, int]:
    """`offsets`, none of them behind the end of its partition where that is known."""
    return {name: min(offset, ends.get(name, offset)) for name, offset in offsets.items()}
