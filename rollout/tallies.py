"""What labels and answers say about the versions of the plan: a few integers for each pair of versions.

    JudgedLabel --> candidate against stable, candidate against reference     rules B and C, withdrawal
                    stable against previous, stable against reference         did the stable version turn bad?
                    stable against reference                                  may the reference move?
                    the answers of each arm, where encoders differ            the unpaired rule
    Answer -------> the keys that stable and candidate got, and how many answers the candidate gave

A label judges each pair of versions that were both at hand when its event was answered, whichever of them answered. By
then neither had learnt the label, as it came after the answer; only the label of an event that was answered before, too
(a redelivery), may be known to a version already.

The stable version may change several times a second by rule A, so beside the reference it is one chain: each label
counts for the version that was stable when it answered. Under the hypothesis each step of the chain is no better (or no
worse) than the reference given the past, so the evidence adds up over the steps.

An event is settled when it is older than nine of ten of the last labels were when they came. The record of all this is
kept in the store with the offsets of the topics, so that a controller that starts goes on where the last one was; the
keys are counted anew.
"""

from collections import Counter, deque
from typing import Final

from rollout.comparison import PairCount, PairCountState, PairWatch, PairWatchState, SourceGroups
from rollout.label_join import JudgedLabel
from rollout.paired_evidence import PairedEvidence, Traffic
from rollout.statistics.paired import PairedTally
from rollout.unpaired_rule import ArmEvidence
from wire.recent import RecentHashes
from wire.records import CANDIDATE, STABLE, STAND_IN, Answer, Record, RolloutPlan

NUM_CLASS_GROUPS: Final = 16
"""Groups of classes, by the hash of their names, on none of which a candidate may be worse."""

NUM_DELAYS: Final = 256
"""Last labels whose delays are known, and of which nine of ten tell when an event is settled."""

MIN_DELAYS: Final = 20
SETTLED_SHARE: Final = 0.9

MAX_KEYS: Final = 20_000
"""Keys that are remembered as counted."""


class Frame(Record, frozen=True, kw_only=True):
    """The versions that are compared (0: none), and the candidate's share of the traffic.

    `salt` is that of the plan: after a wipe of the store, versions with the same numbers are others.
    """

    salt: str = ""
    stable: int = 0
    candidate: int = 0
    reference: int = 0
    previous: int = 0
    share: float = 0.0

    @classmethod
    def of(cls, plan: RolloutPlan) -> "Frame":
        arm = plan.arm(CANDIDATE)
        share = arm.share if arm else 0.0
        return cls(
            salt=plan.salt,
            stable=plan.stable,
            candidate=plan.candidate,
            reference=plan.reference,
            previous=plan.previous,
            share=share,
        )


class TalliesState(Record, frozen=True, kw_only=True):
    """All tallies, and the offsets below which every record is in them."""

    offsets: dict[str, int] = {}
    frame: Frame = Frame()
    sources: tuple[str, ...] = ()
    candidate: PairCountState = PairCountState()
    candidate_to_reference: PairCountState = PairCountState()
    chain: PairCountState = PairCountState()
    chain_watch: PairWatchState = PairWatchState()
    stable_watch: PairWatchState = PairWatchState()
    class_groups: tuple[tuple[int, PairedTally], ...] = ()
    arms: ArmEvidence = ArmEvidence()
    since_ms: int = 0
    num_answers: int = 0


class Tallies:
    """All that is known about the versions of one plan. Verbs: follow, add_label, add_answer, settle, export."""

    def __init__(self, state: TalliesState | None = None) -> None:
        state = state or TalliesState()
        self.frame = state.frame
        self._sources = SourceGroups(state.sources)
        self._candidate = PairCount(state.candidate)
        self._candidate_to_reference = PairCount(state.candidate_to_reference)
        self._chain = PairCount(state.chain)
        self._chain_watch = PairWatch(state.chain_watch)
        self._stable_watch = PairWatch(state.stable_watch)
        self._class_groups = dict(state.class_groups)
        self._arms = state.arms
        self._since_ms = state.since_ms
        self._num_answers = state.num_answers
        self._since_revision = 0
        self._delays: deque[int] = deque(maxlen=NUM_DELAYS)
        self._keys: Counter[str] = Counter()
        self._seen = RecentHashes(MAX_KEYS)

    def follow(self, plan: RolloutPlan, now_ms: int) -> None:
        """Goes over to the versions of `plan`; what is known about pairs that stay is kept."""
        after = Frame.of(plan)
        before = self.frame if self.frame.salt == after.salt else Frame()
        self.frame = after
        is_same_pair = (before.stable, before.candidate) == (after.stable, after.candidate)
        if not is_same_pair:
            self._candidate = PairCount()
            self._class_groups = {}
            self._arms = ArmEvidence()
            self._since_ms = now_ms
        if (before.candidate, before.reference) != (after.candidate, after.reference):
            self._candidate_to_reference = PairCount()
        if before.reference != after.reference:
            self._chain = PairCount()
            self._chain_watch = PairWatch()
        if (before.stable, before.previous) != (after.stable, after.previous):
            self._stable_watch = PairWatch()
        if not is_same_pair or before.share != after.share or not self._since_revision:
            self._num_answers = self._num_answers if before == after else 0
            self._since_revision = plan.revision
            self._keys.clear()
            self._seen = RecentHashes(MAX_KEYS)

    def add_answer(self, answer: Answer) -> None:
        """Counts the answer's key for its arm, once under the shares of now, and the candidate's answers."""
        if answer.rollout_revision < self._since_revision or not self.frame.candidate:
            return
        arm = STABLE if answer.arm == STAND_IN else answer.arm
        if arm == CANDIDATE:
            self._num_answers += 1
        if arm in (STABLE, CANDIDATE) and answer.entity.encode() not in self._seen:
            self._seen.add(answer.entity.encode())
            self._keys[arm] += 1

    def add_label(self, label: JudgedLabel, now_ms: int) -> None:
        """Counts the label for every pair of which both versions named the event."""
        self._delays.append(max(0, now_ms - label.answer_ms))
        frame = self.frame
        rights = label.rights()
        group = self._sources.group_of(label.source)
        if frame.candidate in rights and frame.stable in rights:
            difference = rights[frame.candidate] - rights[frame.stable]
            self._candidate.add(difference, group=group, answer_ms=label.answer_ms)
            classes = label.name % NUM_CLASS_GROUPS
            before = self._class_groups.get(classes, PairedTally())
            self._class_groups[classes] = before + PairedTally.of([difference])
        if frame.candidate in rights and frame.reference in rights:
            difference = rights[frame.candidate] - rights[frame.reference]
            self._candidate_to_reference.add(difference, group=group, answer_ms=label.answer_ms)
        if frame.stable in rights and frame.previous in rights:
            self._stable_watch.add(rights[frame.stable] - rights[frame.previous], group=group)
        self._add_to_chain(label, rights, group)
        self._add_to_arms(label, rights)

    def _add_to_chain(self, label: JudgedLabel, rights: dict[int, bool], group: int) -> None:
        version = label.verdicts.version
        reference = self.frame.reference
        if label.verdicts.arm == STABLE and {version, reference} <= rights.keys() and version > reference:
            difference = rights[version] - rights[reference]
            self._chain.add(difference, group=group, answer_ms=label.answer_ms)
            self._chain_watch.add(difference, group=group)

    def _add_to_arms(self, label: JudgedLabel, rights: dict[int, bool]) -> None:
        """Counts the label for the arm that answered, from the time on at which the candidate was one."""
        version = label.verdicts.version
        if label.answer_ms < self._since_ms or version not in rights:
            return
        stable = self._arms.stable
        candidate = self._arms.candidate
        if (label.verdicts.arm, version) == (STABLE, self.frame.stable):
            self._arms = ArmEvidence(stable.with_one(rights[version]), candidate)
        elif (label.verdicts.arm, version) == (CANDIDATE, self.frame.candidate):
            self._arms = ArmEvidence(stable, candidate.with_one(rights[version]))

    def settle(self, now_ms: int) -> None:
        """Counts the labels of events that are settled by now for rule C."""
        if len(self._delays) < MIN_DELAYS:
            return
        delay_ms = sorted(self._delays)[int(SETTLED_SHARE * len(self._delays))]
        for count in (self._candidate, self._candidate_to_reference):
            count.settle(now_ms - delay_ms)

    @property
    def is_paired(self) -> bool:
        """Whether candidate and stable version named events in common, as those with the same encoder do."""
        return self._candidate.labels.labels > 0

    @property
    def arms(self) -> ArmEvidence:
        return self._arms

    @property
    def chain(self) -> PairCount:
        """The stable versions since the reference was set, against it."""
        return self._chain

    @property
    def num_answers(self) -> int:
        """The answers of the candidate at its present share."""
        return self._num_answers

    @property
    def stable_watch(self) -> PairWatch:
        """The stable version against the one before."""
        return self._stable_watch

    @property
    def chain_watch(self) -> PairWatch:
        """The stable versions since the reference was set, against it, in order."""
        return self._chain_watch

    def evidence(self, *, stable_share: float, is_exposed: bool) -> PairedEvidence:
        """Returns what is known about the candidate."""
        share = self.frame.share / (self.frame.share + stable_share)
        traffic = Traffic(keys=(self._keys[STABLE], self._keys[CANDIDATE]), shares=(1.0 - share, share))
        return PairedEvidence(
            stable=self._candidate.comparison(),
            reference=self._candidate_to_reference.comparison(),
            class_groups=tuple(self._class_groups.values()),
            traffic=traffic,
            is_exposed=is_exposed,
        )

    def export(self, offsets: dict[str, int]) -> TalliesState:
        return TalliesState(
            offsets=offsets,
            frame=self.frame,
            sources=self._sources.export(),
            candidate=self._candidate.export(),
            candidate_to_reference=self._candidate_to_reference.export(),
            chain=self._chain.export(),
            chain_watch=self._chain_watch.export(),
            stable_watch=self._stable_watch.export(),
            class_groups=tuple(self._class_groups.items()),
            arms=self._arms,
            since_ms=self._since_ms,
            num_answers=self._num_answers,
        )

    def __str__(self) -> str:
        frame = self.frame
        if not frame.candidate:
            return ""
        if not self.is_paired and self._arms.candidate.labels:
            return f"version {frame.candidate} against {frame.stable}, another encoder: {self._arms}"
        return f"version {frame.candidate} against {frame.stable}: {self._candidate.labels}"
