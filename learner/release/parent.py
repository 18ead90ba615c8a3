"""The parent version: which version the learner goes on from, and whether it knows more than that version.

    pointer = ours          publish what is new
    pointer < ours          a rollout has withdrawn ours: back to the snapshot of that version, labels since set aside
    pointer > ours          our checkpoint is older than the last publication: read on to where that version was
    pointer = 0, or ours    the store was wiped, or lost its last second before ours was on its disk: publish what is
      was never published   known

The store's pointer to the current version is the truth. The learner that goes back keeps its offsets. How far it has to
read on is part of its state: a learner that is killed while it reads on goes on reading, and publishes no child that
knows less than its parent.

Rejected: the learner's own count of versions as the truth (it would publish on from a version that a rollout has
withdrawn), and putting the offsets back with the knowledge (the labels that made the withdrawn version would make it
again).
"""

from collections.abc import Iterable, Mapping

import structlog

from learner.errors import LearnerError
from learner.fast.solver import is_of_this_method
from learner.learner import Learner
from learner.release.candidate import Candidate, CandidateMaker
from learner.state.checkpoints import Checkpoints, VersionState, is_same
from learner.stopwatch import Stopwatch
from wire.errors import NotFound
from wire.records import WeightManifest
from wire.store import GAP, Store

log = structlog.get_logger("learner")


class ParentVersion:
    """Compares the learner with the version that it goes on from, and follows the store's pointer.

    `pending` is what a checkpoint says is about to be published, until the store is known to have it.
    """

    def __init__(
        self, learner: Learner, store: Store, checkpoints: Checkpoints, maker: CandidateMaker, *, max_refusals: int
    ) -> None:
        self._learner = learner
        self._progress = learner.progress
        self._store = store
        self._checkpoints = checkpoints
        self._maker = maker
        self._max_refusals = max_refusals
        self._num_known = -1
        self._is_due = False
        self.pending: WeightManifest | None = None

    @property
    def has_news(self) -> bool:
        """Whether the learner knows something that neither the current version nor a refused candidate knows."""
        return self._progress.num_effects != self._num_known

    @property
    def may_publish(self) -> bool:
        """Whether there is something to publish, and nothing has to be read before."""
        return not self._learner.must_wait and (self._is_due or self.has_news)

    def recover(self, pending: WeightManifest | None, ends: Mapping[str, int]) -> None:
        """Finds the parent of a restored learner. `ends`: the last offsets that can be read now.

        Reads everything from the store before it changes anything, so after StoreUnavailable it may be called again.
        """
        learner = self._learner
        current = self._store.versions.current()
        newest = self._store.versions.next_number() - 1
        stored = {version: self._find_manifest(version) for version in {current, newest, learner.version}}
        latest = stored[newest]
        is_news = latest is not None and latest.epoch > 0 and newest > learner.last_version  # 0: it was imported
        ahead = newest if is_news else current  # what was withdrawn meanwhile is read first, then set aside
        is_published = pending is not None and is_same(pending, self._find_manifest(pending.version))
        self._num_known = self._progress.published_effects
        learner.reserve(self._checkpoints.highest_version())
        if newest or self._checkpoints.entries():
            self._leave_gap(newest)
        learner.read_on(learner.version, learner.read_first, ends)
        if pending is not None and is_published:
            candidate = self._made(pending)
            self.adopt(pending, self._progress.num_effects - learner.has_migrated)
            self._maker.adopt(candidate, learner)
        elif pending is not None or not current:
            self.make_due()
        if ahead > learner.version:
            self._read_on(ahead, stored[ahead], ends)
        if self._maker.parent is None and learner.version:
            self._remake_parent(stored.get(learner.version))
        if self._maker.has_other_weights(learner.knowledge):
            self.make_due()

    def next_number(self) -> int:
        """Returns the number of the next version, which no version ever had."""
        return max(self._store.versions.next_number(), self._learner.last_version + 1)

    def make_due(self) -> None:
        """Makes a publication due, new labels or not."""
        self._is_due = True

    def announce(self, manifest: WeightManifest) -> None:
        """Takes note that `manifest` is about to be sent."""
        self._learner.reserve(manifest.version)
        self.pending = manifest
        self._is_due = False

    def count_refusal(self, reasons: Iterable[str]) -> None:
        """Takes note that the gate refused what the learner knows now; what comes later may pass.

        After `max_refusals` in a row, the learner gives up what it learnt since the published version.
        """
        self._num_known = self._progress.num_effects
        self._is_due = False
        self._learner.counts.update(f"gate_{reason}" for reason in reasons)
        self._progress.num_refused += 1
        if self._progress.num_refused >= self._max_refusals:
            self.give_up()

    def give_up(self) -> None:
        """Goes back to the published version, if there is one: what was learnt since is set aside."""
        version = self._learner.version
        stored = self._find_manifest(version)
        self._progress.num_refused = 0
        if version:
            self._learner.counts["given_up"] += 1
            self._return_to(version, stored)

    def adopt(self, manifest: WeightManifest, num_effects: int) -> None:
        """Makes `manifest`, which was published and has the first `num_effects` effects, the parent."""
        self._learner.adopt_version(manifest)
        self._learner.counts["published"] += 1
        self._progress.num_refused = 0
        self.pending = None
        self._set_known(num_effects)

    def follow(self, current: int) -> None:
        """Takes note that the store's current version is another one than the learner's."""
        learner = self._learner
        pending = self.pending
        stored = self._find_manifest(current)
        if pending is not None and is_same(pending, stored):
            self.adopt(pending, self._num_known)  # it was published, but the reply was lost; what came since is new
        elif current == 0 or (current < learner.version and self._is_lost(learner.version)):
            learner.read_on(current, learner.read_first, {})
            self.make_due()
        elif current > learner.version:
            self._read_on(current, stored, {})
        else:
            self._return_to(current, stored)

    def remake(self, stored: WeightManifest) -> Candidate | None:
        """Makes again what was published as `stored`, from its checkpoint; None where the checkpoint is gone."""
        state = self._state_of(stored)
        try:
            return None if state is None else self._remade(state)
        except LearnerError as error:
            log.warning("snapshot_refused", version=stored.version, reason=str(error))
            return None

    def _leave_gap(self, newest: int) -> None:
        """Goes on GAP above `newest`, the store's newest number, and above all of ours: a leader has begun.

        In a power cut the store loses its last second, and a journal what was not synced. So the last numbers of a
        leader may be in answers and in replicas, and nowhere else. The first checkpoint of a leader is synced before it
        publishes anything, and has the gap: so the numbers of two leaders differ, even if the store has forgotten both.
        """
        self._learner.reserve(max(newest, self._learner.last_version) + GAP)

    def _remade(self, state: VersionState) -> Candidate:
        known, _ = self._learner.recall(state)
        return self._maker.make(known, Stopwatch(), is_live=False)

    def _set_known(self, num_effects: int) -> None:
        """Takes note that the current version has the first `num_effects` effects."""
        self._num_known = num_effects
        self._progress.published_effects = num_effects

    def _find_manifest(self, version: int) -> WeightManifest | None:
        """Returns the manifest that the store has as `version`; None where it has none."""
        try:
            return self._store.versions.manifest(version) if version else None
        except NotFound:
            return None

    def _is_lost(self, version: int) -> bool:
        """Whether the store does not know that `version` was published: it lost its last writes in a power cut."""
        return self._store.versions.next_number() <= version

    def _state_of(self, stored: WeightManifest | None) -> VersionState | None:
        return None if stored is None else self._checkpoints.of_version(stored)

    def _made(self, stored: WeightManifest) -> Candidate:
        """Returns what was published as `stored`, of what is known now: as the store has it, or made again."""
        return self._as_stored(stored) or self._maker.make(self._learner.knowledge, Stopwatch())

    def _as_stored(self, stored: WeightManifest) -> Candidate | None:
        """Returns the version with its head from the store; None where that, or its encoder, is not at hand.

        Nor where an older program computed weights otherwise. Then the anchor is forgotten, too: the gate would refuse
        what is better on the whole, and names some class less often.
        """
        known = self._learner.knowledge
        if not is_of_this_method(stored.solution):
            known.forget_anchor()
            return None
        return self._maker.stored(stored, known, self._store.blobs)

    def _remake_parent(self, stored: WeightManifest | None) -> None:
        """Makes the parent again, so that the gate compares the next candidate with it.

        Otherwise a restart would be a way past the gate. The head is the one that the store has, where the encoder is
        the one in use; else the version is made from its checkpoint.
        """
        if stored is not None and stored.erased == self._learner.erased.num:
            self._maker.parent = self._as_stored(stored) or self.remake(stored)
        if self._maker.parent is None:
            self._learner.counts["parent_missing"] += 1

    def _return_to(self, current: int, stored: WeightManifest | None) -> None:
        learner = self._learner
        learner.forget_read_first()  # the version that knew those records was withdrawn
        try:
            state = self._state_of(stored)
            if stored is not None and state is not None:
                learner.set_aside(state, current)
                self._maker.adopt(self._made(stored), learner)
        except LearnerError as error:
            log.warning("snapshot_refused", version=current, reason=str(error))
        if learner.version != current:
            learner.counts["snapshot_missing"] += 1
            learner.read_on(current, {}, {})
            self._maker.parent = None
            self._is_due = learner.erased.num > 0  # the current version may know somebody who was erased
        self._set_known(self._progress.num_effects)
        log.warning("went_back", version=current, set_aside=learner.counts["set_aside"])

    def _read_on(self, current: int, stored: WeightManifest | None, ends: Mapping[str, int]) -> None:
        if stored is None:  # what the current version knows cannot be found out: publish what is known here
            self._learner.counts["manifest_missing"] += 1
            self.make_due()
        self._learner.read_on(current, stored.trained_through if stored else {}, ends)
        log.warning("reading_on", version=current, through=self._learner.read_first)
