"""The parent version, from which the learner continues. It follows the store's pointer to the current version.

Before each publication the pointer is compared with the learner's own version:

    equal                        publish new knowledge
    pointer is lower             a rollout has withdrawn our version: go back to the version that the pointer names,
                                 and set aside the labels since then
    pointer is higher            our checkpoint is older than the last publication: read up to that version's offsets
                                 before publishing
    pointer is 0, or the store   the store was wiped, or was killed before our version was on its disk:
      does not know our version  publish the knowledge again

The pointer in the store is the truth. A learner that goes back to an earlier version keeps its offsets. The offsets up
to which it must read before it publishes are part of its state (`read_first`). So if it is killed meanwhile, it
continues reading, and never publishes a version that lacks labels of its parent.

Rejected:

- The learner's own count of versions as the truth: it would continue from a version that a rollout has withdrawn.
- Setting back the offsets together with the knowledge: the same labels would make the withdrawn version again.
"""

from collections.abc import Iterable, Mapping

import structlog

from learner.errors import LearnerError
from learner.fast.solver import is_of_this_method
from learner.learner import Learner
from learner.release.candidate import Candidate, CandidateMaker
from learner.state.checkpoints import Checkpoints, VersionState, is_same_version
from learner.stopwatch import Stopwatch
from wire.errors import NotFound
from wire.records import WeightManifest
from wire.store import GAP, Store

log = structlog.get_logger("learner")


class ParentVersion:
    """Decides whether there is something to publish, and follows the store's pointer to the current version.

    `pending` is the manifest that is being sent, until the store is known to have it.
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
        # The number of changes (`num_effects`) that the current version or a refused candidate contains.
        self._num_handled = -1
        self._is_due = False
        self.pending: WeightManifest | None = None

    @property
    def has_news(self) -> bool:
        """Whether the knowledge has changed since the last version or candidate was made."""
        return self._progress.num_effects != self._num_handled

    @property
    def may_publish(self) -> bool:
        """Whether there is something to publish, and no record must be read and no command executed before."""
        return not self._learner.must_wait and (self._is_due or self.has_news)

    def recover(self, pending: WeightManifest | None, ends: Mapping[str, int]) -> None:
        """Finds the parent version of a restored learner.

        - `pending`: the manifest that was about to be sent when the checkpoint was written.
        - `ends`: the last offsets that can be read now.

        Reads everything from the store before it changes anything, so it may be called again after StoreUnavailable.
        """
        learner = self._learner
        current = self._store.versions.current()
        newest = self._store.versions.next_number() - 1
        stored = {version: self._find_manifest(version) for version in {current, newest, learner.version}}
        latest = stored[newest]
        # Epoch 0 is an imported version, which does not result from this learner's topics.
        is_news = latest is not None and latest.epoch > 0 and newest > learner.last_version
        # If the newest version was withdrawn meanwhile, its labels are read first and set aside afterwards.
        ahead = newest if is_news else current
        is_published = pending is not None and is_same_version(pending, self._find_manifest(pending.version))
        self._num_handled = self._progress.published_effects
        learner.reserve(self._checkpoints.highest_version())
        if newest or self._checkpoints.entries():
            self._leave_gap(newest)
        learner.continue_from(learner.version, learner.read_first, ends)
        if pending is not None and is_published:
            candidate = self._load_or_make(pending)
            self.adopt(pending, self._progress.num_effects - learner.has_migrated)
            self._maker.resume(candidate)
            self._maker.adopt(candidate, learner)
        elif pending is not None or not current:
            self.make_due()
        if ahead > learner.version:
            self._continue_from(ahead, stored[ahead], ends)
        if self._maker.parent is None and learner.version:
            self._remake_parent(stored.get(learner.version))
        if self._maker.has_other_weights(learner.knowledge):
            self.make_due()

    def next_number(self) -> int:
        """Returns a number for the next version, which no version ever had."""
        return max(self._store.versions.next_number(), self._learner.last_version + 1)

    def make_due(self) -> None:
        """Makes a publication due, even without new labels."""
        self._is_due = True

    def announce(self, manifest: WeightManifest) -> None:
        """Records that `manifest` is about to be sent."""
        self._learner.reserve(manifest.version)
        self.pending = manifest
        self._is_due = False

    def count_refusal(self, reasons: Iterable[str]) -> None:
        """Records that the gate has refused the current knowledge; with later labels a candidate may pass.

        After `max_refusals` in a row, the labels since the published version are set aside (`give_up`).
        """
        self._num_handled = self._progress.num_effects
        self._is_due = False
        self._learner.counts.update(f"gate_{reason}" for reason in reasons)
        self._progress.num_refused += 1
        if self._progress.num_refused >= self._max_refusals:
            self.give_up()

    def give_up(self) -> None:
        """Goes back to the published version, if there is one, and sets aside the labels since then."""
        version = self._learner.version
        stored = self._find_manifest(version)
        self._progress.num_refused = 0
        if version:
            self._learner.counts["given_up"] += 1
            self._return_to(version, stored)

    def adopt(self, manifest: WeightManifest, num_effects: int) -> None:
        """Makes a published version the parent. It contains the first `num_effects` changes of the knowledge."""
        self._learner.adopt_version(manifest)
        self._learner.counts["published"] += 1
        self._progress.num_refused = 0
        self.pending = None
        self._set_published_effects(num_effects)

    def follow(self, current: int) -> None:
        """Follows the store's pointer, which names another version than the learner's (see the table above)."""
        learner = self._learner
        pending = self.pending
        stored = self._find_manifest(current)
        if pending is not None and is_same_version(pending, stored):
            # The version was published, but the reply was lost.
            self.adopt(pending, self._num_handled)
        elif current == 0 or (current < learner.version and self._is_lost(learner.version)):
            learner.continue_from(current, learner.read_first, {})
            self.make_due()
        elif current > learner.version:
            self._continue_from(current, stored, {})
        else:
            self._return_to(current, stored)

    def remake(self, stored: WeightManifest) -> Candidate | None:
        """Makes a published version again, from its checkpoint; None if the checkpoint is gone or refused."""
        state = self._find_state(stored)
        if state is None:
            return None
        try:
            known, _ = self._learner.restored_knowledge(state)
            return self._maker.make(known, Stopwatch(), is_live=False)
        except LearnerError as error:
            log.warning("snapshot_refused", version=stored.version, reason=str(error))
            return None

    def _leave_gap(self, newest: int) -> None:
        """Reserves GAP version numbers above all known numbers, because a new leader begins.

        `newest` is the highest number in the store. In a power cut the store loses its last second, and a journal loses
        its unsynced end. Then only answers and replicas may still have the last version numbers of the previous leader.
        The new leader's first checkpoint contains the gap, and is synced before the leader publishes anything. So two
        leaders never use the same number.
        """
        self._learner.reserve(max(newest, self._learner.last_version) + GAP)

    def _set_published_effects(self, num_effects: int) -> None:
        """Records that the current version contains the first `num_effects` changes of the knowledge."""
        self._num_handled = num_effects
        self._progress.published_effects = num_effects

    def _find_manifest(self, version: int) -> WeightManifest | None:
        """Returns the store's manifest of `version`; None if it has none."""
        try:
            return self._store.versions.manifest(version) if version else None
        except NotFound:
            return None

    def _is_lost(self, version: int) -> bool:
        """Returns whether the store has lost the published `version`, because a power cut erased its last writes."""
        return self._store.versions.next_number() <= version

    def _find_state(self, stored: WeightManifest | None) -> VersionState | None:
        """Returns the learner's state of a published version; None if no checkpoint has it."""
        return None if stored is None else self._checkpoints.find_version(stored)

    def _load_or_make(self, stored: WeightManifest) -> Candidate:
        """Returns a published version: loaded from the store, or made again from the current knowledge.

        The current knowledge must be the knowledge of this version.
        """
        return self._load(stored) or self._maker.make(self._learner.knowledge, Stopwatch())

    def _load(self, stored: WeightManifest) -> Candidate | None:
        """Loads the head of a published version from the store; returns the version as a candidate. Returns None if

        - the head is missing or damaged,
        - the version has another encoder, or
        - an older release solved the head with another method. Then the anchor is dropped, too. Otherwise the gate
          would refuse candidates that are better on the whole but predict some class less often.
        """
        known = self._learner.knowledge
        if not is_of_this_method(stored.solution):
            known.forget_anchor()
            return None
        return self._maker.load(stored, known, self._store.blobs)

    def _remake_parent(self, stored: WeightManifest | None) -> None:
        """Restores the parent after a restart, so that the gate can compare the next candidate with it.

        If its encoder is in use, the parent is loaded from the store. Otherwise it is made again from its checkpoint. A
        parent from before an erasure is not restored.
        """
        if stored is not None and stored.erased == self._learner.erased.num:
            parent = self._load(stored) or self.remake(stored)
            if parent is not None:
                self._maker.resume(parent)
        if self._maker.parent is None:
            self._learner.counts["parent_missing"] += 1

    def _return_to(self, current: int, stored: WeightManifest | None) -> None:
        """Goes back to the state of the earlier version `current`, and sets aside the labels since then."""
        learner = self._learner
        # The version that contained those records was withdrawn.
        learner.forget_read_first()
        try:
            state = self._find_state(stored)
            if stored is not None and state is not None:
                learner.go_back(state, current)
                self._maker.adopt(self._load_or_make(stored), learner)
        except LearnerError as error:
            log.warning("snapshot_refused", version=current, reason=str(error))
        # Without a snapshot the learner keeps its knowledge, and the next candidate is not compared with a parent.
        if learner.version != current:
            learner.counts["snapshot_missing"] += 1
            learner.continue_from(current, {}, {})
            self._maker.parent = None
            # The current version may contain an erased subject.
            self._is_due = learner.erased.num > 0
        self._set_published_effects(self._progress.num_effects)
        log.warning("went_back", version=current, set_aside=learner.counts["set_aside"])

    def _continue_from(self, current: int, stored: WeightManifest | None, ends: Mapping[str, int]) -> None:
        """Makes the newer version `current` the parent. Then reads up to its offsets before anything is published."""
        # Without a manifest these offsets are unknown, so the learner publishes its own knowledge.
        if stored is None:
            self._learner.counts["manifest_missing"] += 1
            self.make_due()
        self._learner.continue_from(current, stored.trained_through if stored else {}, ends)
        log.warning("reading_on", version=current, through=self._learner.read_first)
