"""Counts labels and answers for the versions of the plan: a few integers for each pair of versions.

    JudgedLabel --> candidate against stable, candidate against reference     rules B and C, withdrawal
                    candidate against stable, on audited events               an objection to both rules
                    newest against stable                                     rule B for the newest versions
                    newest against candidate                                  does the newest version replace it?
                    stable against previous, stable against reference         did the stable version turn bad?
                    stable against reference                                  may the reference move?
                    the answers of each arm, if encoders differ               the unpaired rule
    Answer -------> ArmTraffic: the keys of stable and candidate, and the number of the candidate's answers
    all counts ---> TalliesState, stored with the offsets of the topics

A label is counted for each pair of versions whose predictions are both in its receipt, whichever version answered.
Neither version had learnt the label, because it came after the answer. There is one exception: if an event is answered
twice (a redelivery), a version may have learnt the label before the second answer.

The stable and the newest version may change several times a second, too often to compare each of them. So two
comparisons have a chain of versions on one side: the stable versions since the reference was set, and the newest
versions since the stable version was set. Each label counts for the version that was in use at the time. The tests
remain valid: if no version of a chain is better (or worse) than the other side, given the past, then neither is the
chain.

An event is settled when it is older than the 90th percentile of the delays of recent labels. A restart loses only the
counts of keys. Labels are numbered, and each count stores the number of its first label. So if a label is corrected
later, it is known which counts contain it.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from rollout.comparison import (
    ArmCount,
    ArmCountState,
    Difference,
    PairCount,
    PairCountState,
    PairDetector,
    PairDetectorState,
    SourceGroups,
)
from rollout.judged_events import JudgedLabel
from rollout.paired_rule import PairedEvidence, TrafficSplit
from rollout.unpaired_rule import ArmEvidence
from wire.recent import RecentHashes
from wire.records import CANDIDATE, NEWEST, STABLE, STAND_IN, Answer, LabelRate, LogMark, LogMarks, Record, RolloutPlan


class PlanKey(Record, frozen=True, kw_only=True):
    """The versions of a plan that are compared (0: none), and the candidate's share. If the store is wiped, the next
    plan has another `salt`."""

    salt: str = ""
    stable: int = 0
    candidate: int = 0
    reference: int = 0
    previous: int = 0
    share: float = 0.0

    @classmethod
    def of(cls, plan: RolloutPlan) -> "PlanKey":
        arm = plan.arm(CANDIDATE)
        names = ("salt", "stable", "candidate", "reference", "previous")
        return cls(share=arm.share if arm else 0.0, **{name: getattr(plan, name) for name in names})


class TalliesState(Record, frozen=True, kw_only=True):
    """All tallies, as they are stored.

    - `offsets`, `marks`: the offsets up to which the tallies contain every record, and the logs' marks at these
      offsets.
    - `seed`: keys the hashes of the judged events' aliases.
    - `frame`: the versions that are compared.
    - `last_number`: the number of the last label.
    - `first_newer`, `first_of_chain`: see `Tallies`.
    """

    offsets: dict[str, int] = {}
    marks: dict[str, LogMark] = {}
    seed: int = 0
    frame: PlanKey = PlanKey()
    sources: tuple[str, ...] = ()
    candidate: PairCountState = PairCountState()
    candidate_to_reference: PairCountState = PairCountState()
    audited: PairCountState = PairCountState()
    newest: PairCountState = PairCountState()
    overtaking: PairCountState = PairCountState()
    chain: PairCountState = PairCountState()
    chain_watch: PairDetectorState = PairDetectorState()
    stable_watch: PairDetectorState = PairDetectorState()
    arms: ArmCountState = ArmCountState()
    first_newer: int = 0
    first_of_chain: int = 0
    num_answers: int = 0
    last_number: int = 0


MAX_KEYS: Final = 20_000
"""Most keys that are remembered as counted."""

PLAN_PROPAGATION_MS: Final = 5_000
"""Time after which all replicas follow a new plan. Labels for earlier answers are not counted, because receipts do not
name the revision of the plan."""


class ArmTraffic:
    """Counts the traffic of each arm since the plan `since`. Verbs: add, add_label, split, labelled_split, label_rates.

    `num_answers` counts the candidate's answers. A key (entity) is counted once, for the arm to which it was routed.
    Keys of the newest arm are not counted, because its versions change often. Answers of a stand-in, and their labels,
    count for no arm.
    """

    def __init__(self, since: RolloutPlan | None = None, num_answers: int = 0) -> None:
        self.since_revision = since.revision if since else 0
        self.num_answers = num_answers
        self._labelled_from_ms = since.time_ms + PLAN_PROPAGATION_MS if since else 0
        self._answers: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._seen = RecentHashes(MAX_KEYS)
        self._labels: Counter[str] = Counter()
        self._labelled_keys: Counter[str] = Counter()
        self._labelled = RecentHashes(MAX_KEYS)

    def add(self, answer: Answer) -> None:
        if answer.rollout_revision < self.since_revision or answer.arm == STAND_IN:
            return
        arm = answer.arm
        self.num_answers += arm == CANDIDATE
        if answer.time_ms >= self._labelled_from_ms:
            self._answers[arm] += 1
        self._count_key(arm, answer.entity.encode(), self._keys, self._seen)

    def add_label(self, label: JudgedLabel) -> None:
        """Counts the label for the arm that answered the event."""
        if label.answer_ms >= self._labelled_from_ms:
            arm = label.verdicts.arm
            self._labels[arm] += 1
            self._count_key(arm, label.entity.to_bytes(8, signed=True), self._labelled_keys, self._labelled)

    def _count_key(self, arm: str, key: bytes, keys: Counter[str], seen: RecentHashes) -> None:
        if arm in (STABLE, CANDIDATE) and key not in seen:
            seen.add(key)
            keys[arm] += 1

    def split(self, *, stable_share: float, candidate_share: float) -> TrafficSplit:
        """Returns the keys of the stable version and the candidate, and the planned shares of both."""
        return _split(self._keys, stable_share, candidate_share)

    def labelled_split(self, *, stable_share: float, candidate_share: float) -> TrafficSplit:
        """Returns the labelled keys of the stable version and the candidate, and the planned shares of both.

        Whether a key is labelled must not depend on the arm. If clients label only wrong answers, the arm with less
        traffic seems better.
        """
        return _split(self._labelled_keys, stable_share, candidate_share)

    def label_rates(self) -> tuple[LabelRate, ...]:
        """Returns for each arm that answered the number of its answers, and of the labels for them."""
        arms = [arm for arm in (STABLE, CANDIDATE, NEWEST) if self._answers[arm]]
        return tuple(LabelRate(arm=arm, answers=self._answers[arm], labels=self._labels[arm]) for arm in arms)


def _split(keys: Counter[str], stable_share: float, candidate_share: float) -> TrafficSplit:
    share = candidate_share / (candidate_share + stable_share)
    return TrafficSplit(keys=(keys[STABLE], keys[CANDIDATE]), shares=(1.0 - share, share))


NUM_DELAYS: Final = 256
"""Number of recent labels whose delays decide when an event is settled."""

MIN_DELAYS: Final = 20
SETTLED_SHARE: Final = 0.9


class Tallies:
    """All counts about the versions of one plan. Verbs: follow, add_label, add_answer, settle_events, export.

    - `overtaking`: the newest versions, each while it was the newest, against the candidate.
    - `chain`: the stable versions since the reference was set against the reference.
    - `chain_watch`: the e-detectors of the same pair, which depend on the order of the labels.
    - `stable_watch`: the e-detectors of the stable version against the previous one.
    """

    def __init__(self, state: TalliesState | None = None) -> None:
        state = state or TalliesState()
        self.frame = state.frame
        self._sources = SourceGroups(state.sources)
        self._candidate = PairCount(state.candidate)
        self._candidate_to_reference = PairCount(state.candidate_to_reference)
        self._audited = PairCount(state.audited)
        self._newest = PairCount(state.newest)
        self.overtaking = PairCount(state.overtaking)
        self.chain = PairCount(state.chain)
        self.chain_watch = PairDetector(state.chain_watch)
        self.stable_watch = PairDetector(state.stable_watch)
        self._arms = ArmCount(state.arms)
        # The lowest number of the versions that were trained from the stable one (0: there is none).
        self._first_newer = state.first_newer
        # The lowest version that `chain` may count. Lower versions were withdrawn, but their labels may still come.
        self._first_of_chain = state.first_of_chain
        self.arm_traffic = ArmTraffic(num_answers=state.num_answers)
        self._last_number = state.last_number
        self._delays: deque[int] = deque(maxlen=NUM_DELAYS)

    def follow(self, plan: RolloutPlan) -> None:
        """Counts for the versions of `plan` from now on. Keeps the counts of pairs of versions that stay in the
        plan."""
        after = PlanKey.of(plan)
        before = self.frame if self.frame.salt == after.salt else PlanKey()
        self.frame = after
        is_same_pair = (before.stable, before.candidate) == (after.stable, after.candidate)
        if not is_same_pair:
            self._candidate = self._new_count()
            self._audited = self._new_count()
        self._follow_newer(plan, before)
        if before.candidate != after.candidate:
            self.overtaking = self._new_count()
        if (before.candidate, before.reference) != (after.candidate, after.reference):
            self._candidate_to_reference = self._new_count()
        if before.reference != after.reference or before.stable > after.stable:
            self.chain = self._new_count()
            self.chain_watch = PairDetector()
        if before.stable > after.stable:
            self._first_of_chain = before.stable + 1
        if (before.stable, before.previous) != (after.stable, after.previous):
            self.stable_watch = PairDetector()
        if not is_same_pair or before.share != after.share:
            self.arm_traffic = ArmTraffic(plan)
        elif not self.arm_traffic.since_revision:
            self.arm_traffic = ArmTraffic(plan, self.arm_traffic.num_answers)

    def _new_count(self) -> PairCount:
        """Returns a count that begins with the next label."""
        return PairCount(PairCountState(since=self._last_number + 1))

    def _follow_newer(self, plan: RolloutPlan, before: PlanKey) -> None:
        """Drops the counts of newer versions if the stable version changes, or if the newer versions were withdrawn."""
        newer = [arm.version for arm in plan.arms[1:]]
        if before.stable != plan.stable or not newer or not self._first_newer:
            self._newest = self._new_count()
            self._arms = ArmCount()
        if before.stable > plan.stable or not newer:
            self._first_newer = 0
        self._first_newer = self._first_newer or min(newer, default=0)

    def _is_newer(self, version: int) -> bool:
        return version > self.frame.stable and 0 < self._first_newer <= version

    def add_answer(self, answer: Answer) -> None:
        """Counts the answer for its arm under the present shares."""
        self.arm_traffic.add(answer)

    def add_label(self, label: JudgedLabel, now_ms: int) -> None:
        """Counts the label for every pair of versions whose predictions it has.

        If the label corrects another one, that label is removed first. Only the e-detectors, which depend on the order,
        keep both labels.
        """
        if label.corrected is not None:
            self._remove_label(label.corrected)
        else:
            self._delays.append(max(0, now_ms - label.answer_ms))
            self.arm_traffic.add_label(label)
        self._last_number = label.number
        for count, difference in self._affected_counts(label):
            count.add(difference)
            if count is self.chain:
                self.chain_watch.add(difference.value, group=difference.group)
        for is_newer, is_right in self._arm_outcomes(label):
            self._arms.add(is_right, is_newer=is_newer, answer_ms=label.answer_ms, number=label.number)
        correctness = label.correctness()
        if self.frame.stable in correctness and self.frame.previous in correctness:
            difference_to_previous = correctness[self.frame.stable] - correctness[self.frame.previous]
            self.stable_watch.add(difference_to_previous, group=self._sources.group(label.source))

    def _remove_label(self, label: JudgedLabel) -> None:
        """Removes a label from the counts that contain it."""
        for count, difference in self._affected_counts(label):
            count.remove(difference)
        for is_newer, is_right in self._arm_outcomes(label):
            self._arms.remove(is_right, is_newer=is_newer, answer_ms=label.answer_ms, number=label.number)

    def _affected_counts(self, label: JudgedLabel) -> Iterator[tuple[PairCount, Difference]]:
        """Yields each count that the label belongs to, with the label's outcome for that pair.

        As long as a count is kept, the result for a label is the same, so that a correction can undo what the label
        added.
        """
        frame = self.frame
        version = label.verdicts.version
        correctness = label.correctness()
        latest = max(correctness, default=0)
        pairs = [
            (self._candidate, frame.candidate, frame.stable),
            (self._candidate_to_reference, frame.candidate, frame.reference),
        ]
        if label.is_audited:
            pairs.append((self._audited, frame.candidate, frame.stable))
        if self._is_newer(latest):
            pairs.append((self._newest, latest, frame.stable))
        if 0 < frame.candidate < latest:
            pairs.append((self.overtaking, latest, frame.candidate))
        if label.verdicts.arm == STABLE and version > frame.reference and version >= self._first_of_chain:
            pairs.append((self.chain, version, frame.reference))
        group = self._sources.group(label.source)
        for count, newer, older in pairs:
            if newer in correctness and older in correctness:
                value = correctness[newer] - correctness[older]
                yield count, Difference(value, label.name, group, label.answer_ms, label.number)

    def _arm_outcomes(self, label: JudgedLabel) -> Iterator[tuple[bool, bool]]:
        """Yields (whether a newer version answered, whether the answer was right), for the comparison of arms.

        It yields nothing if the label does not count for that comparison. Newer versions count only if they have
        another encoder than the stable version.
        """
        version = label.verdicts.version
        correctness = label.correctness()
        is_newer = self._is_newer(version) and self.frame.stable not in correctness
        if version in correctness and (is_newer or version == self.frame.stable):
            yield is_newer, correctness[version]

    def settle_events(self, now_ms: int) -> None:
        """Adds the labels of events that are settled by now to the settled labels of each count."""
        if len(self._delays) < MIN_DELAYS:
            return
        delay_ms = sorted(self._delays)[int(SETTLED_SHARE * len(self._delays))]
        compared = (self._candidate, self._candidate_to_reference, self._audited, self._newest)
        for count in (*compared, self.overtaking, self.chain):
            count.settle_events(now_ms - delay_ms)

    @property
    def arms(self) -> ArmEvidence:
        """The labels of newer versions with another encoder, and of the stable version at the same time, each for its
        own answers."""
        return self._arms.evidence

    @property
    def newest(self) -> PairedEvidence:
        """The comparison of the newest versions, each while it was the newest, with the stable version."""
        return PairedEvidence(stable=self._newest.comparison(), class_groups=self._newest.class_groups)

    @property
    def num_answers(self) -> int:
        """Number of the candidate's answers at its present share."""
        return self.arm_traffic.num_answers

    def evidence(self, *, stable_share: float, is_ramp_over: bool) -> PairedEvidence:
        """Returns the evidence about the candidate."""
        traffic = self.arm_traffic.split(stable_share=stable_share, candidate_share=self.frame.share)
        return PairedEvidence(
            stable=self._candidate.comparison(),
            reference=self._candidate_to_reference.comparison(),
            class_groups=self._candidate.class_groups,
            audited=self._audited.comparison(),
            traffic=traffic,
            is_ramp_over=is_ramp_over,
        )

    def export(self, offsets: dict[str, int], marks: LogMarks | None = None, *, seed: int = 0) -> TalliesState:
        return TalliesState(
            offsets=offsets,
            marks=dict(marks or {}),
            seed=seed,
            frame=self.frame,
            sources=self._sources.export(),
            candidate=self._candidate.export(),
            candidate_to_reference=self._candidate_to_reference.export(),
            audited=self._audited.export(),
            newest=self._newest.export(),
            overtaking=self.overtaking.export(),
            chain=self.chain.export(),
            chain_watch=self.chain_watch.export(),
            stable_watch=self.stable_watch.export(),
            arms=self._arms.export(),
            first_newer=self._first_newer,
            first_of_chain=self._first_of_chain,
            num_answers=self.arm_traffic.num_answers,
            last_number=self._last_number,
        )

    def __str__(self) -> str:
        frame = self.frame
        summary = (
            f"version {frame.candidate} against {frame.stable}: {self._candidate.labels}" if frame.candidate else ""
        )
        return f"{summary}; another encoder: {self.arms}" if self.arms.candidate.labels else summary
