"""What labels and answers say about the versions of the plan: a few integers for each pair of versions.

    JudgedLabel --> candidate against stable, candidate against reference     rules B and C, withdrawal
                    the same of events whose labels are asked for             an objection to both
                    newest against stable                                     rule B for the newest versions
                    newest against candidate                                  is the candidate overtaken?
                    stable against previous, stable against reference         did the stable version turn bad?
                    stable against reference                                  may the reference move?
                    the answers of each arm, if encoders differ               the unpaired rule
    Answer -------> Exposure: the keys that stable and candidate got, and how many answers the candidate gave
    all of it ----> TalliesState, in the store with the offsets of the topics

A label judges each pair of versions of which its receipt has the names, whichever of them answered. Neither had learnt
the label, as it came after the answer; only the label of an event that was answered before, too (a redelivery), may be
known to a version already.

Stable and newest version may be others several times a second. So two pairs have a chain of versions on one side: the
stable ones since the reference was set, and the newest ones since the stable one was. Each label counts for the version
that was at hand. If each of them is no better (or no worse) than the other side, given the past, so is the chain.

An event is settled when it is older than the 90th percentile of the delay of recent labels. A restart loses nothing but
the counts of keys. Each label has a number, and each count knows that of its first one: so it is known afterwards
whether it has a label.
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
    PairWatch,
    PairWatchState,
    SourceGroups,
)
from rollout.judged_events import JudgedLabel
from rollout.paired_rule import PairedEvidence, Traffic
from rollout.unpaired_rule import ArmEvidence
from wire.recent import RecentHashes
from wire.records import CANDIDATE, NEWEST, STABLE, STAND_IN, Answer, LabelRate, LogMark, LogMarks, Record, RolloutPlan


class Frame(Record, frozen=True, kw_only=True):
    """The versions that are compared (0: none), and the candidate's share. After a wipe of the store `salt` differs."""

    salt: str = ""
    stable: int = 0
    candidate: int = 0
    reference: int = 0
    previous: int = 0
    share: float = 0.0

    @classmethod
    def of(cls, plan: RolloutPlan) -> "Frame":
        arm = plan.arm(CANDIDATE)
        names = ("salt", "stable", "candidate", "reference", "previous")
        return cls(share=arm.share if arm else 0.0, **{name: getattr(plan, name) for name in names})


class TalliesState(Record, frozen=True, kw_only=True):
    """All tallies, and the offsets below which every record is in them, with the marks of the logs there.

    `last_number` is that of the last label, and `seed` keys the hashes of the events that were judged.
    """

    offsets: dict[str, int] = {}
    marks: dict[str, LogMark] = {}
    seed: int = 0
    frame: Frame = Frame()
    sources: tuple[str, ...] = ()
    candidate: PairCountState = PairCountState()
    candidate_to_reference: PairCountState = PairCountState()
    audited: PairCountState = PairCountState()
    newest: PairCountState = PairCountState()
    overtaking: PairCountState = PairCountState()
    chain: PairCountState = PairCountState()
    chain_watch: PairWatchState = PairWatchState()
    stable_watch: PairWatchState = PairWatchState()
    arms: ArmCountState = ArmCountState()
    first_newer: int = 0
    first_of_chain: int = 0
    num_answers: int = 0
    last_number: int = 0


MAX_KEYS: Final = 20_000
"""Keys that are remembered as counted."""

FOLLOWED_MS: Final = 5_000
"""Time after which all replicas follow a plan: receipts name no revision."""


class Exposure:
    """Counts from one plan on. Verbs: add, add_label, traffic, labelled, label_rates.

    `num_answers` counts the candidate's answers. A key is counted once, for the arm that got it; the newest arm, whose
    versions come and go, is left out, and a stand-in is in the place of the stable version.
    """

    def __init__(self, since: RolloutPlan | None = None, num_answers: int = 0) -> None:
        self.since_revision = since.revision if since else 0
        self.num_answers = num_answers
        self._labelled_from_ms = since.time_ms + FOLLOWED_MS if since else 0
        self._answers: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._seen = RecentHashes(MAX_KEYS)
        self._labels: Counter[str] = Counter()
        self._labelled_keys: Counter[str] = Counter()
        self._labelled = RecentHashes(MAX_KEYS)

    def add(self, answer: Answer) -> None:
        if answer.rollout_revision < self.since_revision:
            return
        arm = STABLE if answer.arm == STAND_IN else answer.arm
        self.num_answers += arm == CANDIDATE
        if answer.time_ms >= self._labelled_from_ms:
            self._answers[arm] += 1
        self._count_key(arm, answer.entity.encode(), self._keys, self._seen)

    def add_label(self, label: JudgedLabel) -> None:
        """Counts the label for the arm that was shown."""
        if label.answer_ms >= self._labelled_from_ms:
            arm = label.verdicts.arm
            self._labels[arm] += 1
            self._count_key(arm, label.entity.to_bytes(8, signed=True), self._labelled_keys, self._labelled)

    def _count_key(self, arm: str, key: bytes, keys: Counter[str], seen: RecentHashes) -> None:
        if arm in (STABLE, CANDIDATE) and key not in seen:
            seen.add(key)
            keys[arm] += 1

    def traffic(self, *, stable_share: float, candidate_share: float) -> Traffic:
        """Returns the keys of stable version and candidate, and their shares of both."""
        return _traffic(self._keys, stable_share, candidate_share)

    def labelled(self, *, stable_share: float, candidate_share: float) -> Traffic:
        """Returns the same of the keys with a label.

        Whether a key has one must not depend on the arm that answered it: who corrects only what is shown and wrong
        makes the arm look better that is shown less.
        """
        return _traffic(self._labelled_keys, stable_share, candidate_share)

    def label_rates(self) -> tuple[LabelRate, ...]:
        """Returns for each arm that answered how many answers it gave, and how many labels came for such answers."""
        arms = [arm for arm in (STABLE, CANDIDATE, NEWEST) if self._answers[arm]]
        return tuple(LabelRate(arm=arm, answers=self._answers[arm], labels=self._labels[arm]) for arm in arms)


def _traffic(keys: Counter[str], stable_share: float, candidate_share: float) -> Traffic:
    share = candidate_share / (candidate_share + stable_share)
    return Traffic(keys=(keys[STABLE], keys[CANDIDATE]), shares=(1.0 - share, share))


NUM_DELAYS: Final = 256
"""Last labels whose delays are known, and of which nine of ten tell when an event is settled."""

MIN_DELAYS: Final = 20
SETTLED_SHARE: Final = 0.9


class Tallies:
    """All that is known about the versions of one plan. Verbs: follow, add_label, add_answer, settle, export.

    `overtaking` compares the newest versions, each while it was that, with the candidate; `chain` the stable versions
    since the reference was set with it, in order also `chain_watch`; `stable_watch` the stable version with the one
    before.
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
        self.chain_watch = PairWatch(state.chain_watch)
        self.stable_watch = PairWatch(state.stable_watch)
        self._arms = ArmCount(state.arms)
        self._first_newer = state.first_newer  # of the versions that descend from the stable one; 0: there is none
        self._first_of_chain = state.first_of_chain  # lower ones were withdrawn, and their labels come late
        self.exposure = Exposure(num_answers=state.num_answers)
        self._last_number = state.last_number
        self._delays: deque[int] = deque(maxlen=NUM_DELAYS)

    def follow(self, plan: RolloutPlan) -> None:
        """Goes over to the versions of `plan`; what is known about pairs that stay is kept."""
        after = Frame.of(plan)
        before = self.frame if self.frame.salt == after.salt else Frame()
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
            self.chain_watch = PairWatch()
        if before.stable > after.stable:
            self._first_of_chain = before.stable + 1
        if (before.stable, before.previous) != (after.stable, after.previous):
            self.stable_watch = PairWatch()
        if not is_same_pair or before.share != after.share:
            self.exposure = Exposure(plan)
        elif not self.exposure.since_revision:
            self.exposure = Exposure(plan, self.exposure.num_answers)

    def _new_count(self) -> PairCount:
        """Returns a count for the labels from now on."""
        return PairCount(PairCountState(since=self._last_number + 1))

    def _follow_newer(self, plan: RolloutPlan, before: Frame) -> None:
        """Forgets what is known about newer versions with the stable one, and those that were withdrawn with theirs."""
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
        """Counts the answer for its arm under the shares of now."""
        self.exposure.add(answer)

    def add_label(self, label: JudgedLabel, now_ms: int) -> None:
        """Counts the label for every pair of which both versions named the event.

        A label that corrects another one takes its place. Only the watches, which depend on the order, keep both.
        """
        if label.corrected is not None:
            self._take_out(label.corrected)
        else:
            self._delays.append(max(0, now_ms - label.answer_ms))
            self.exposure.add_label(label)
        self._last_number = label.number
        for count, difference in self._counts_of(label):
            count.add(difference)
            if count is self.chain:
                self.chain_watch.add(difference.value, group=difference.group)
        for is_newer, is_right in self._arm_of(label):
            self._arms.add(is_right, is_newer=is_newer, answer_ms=label.answer_ms, number=label.number)
        rights = label.rights()
        if self.frame.stable in rights and self.frame.previous in rights:
            difference_to_previous = rights[self.frame.stable] - rights[self.frame.previous]
            self.stable_watch.add(difference_to_previous, group=self._sources.group_of(label.source))

    def _take_out(self, label: JudgedLabel) -> None:
        """Takes a label out of the counts that it is in: those of its versions that had begun when it came."""
        for count, difference in self._counts_of(label):
            count.remove(difference)
        for is_newer, is_right in self._arm_of(label):
            self._arms.remove(is_right, is_newer=is_newer, answer_ms=label.answer_ms, number=label.number)

    def _counts_of(self, label: JudgedLabel) -> Iterator[tuple[PairCount, Difference]]:
        """Yields the counts of the pairs of which both versions named the event, with what the label says of them.

        While a count goes on, these are the same for a label whenever it is asked.
        """
        frame = self.frame
        version = label.verdicts.version
        rights = label.rights()
        latest = max(rights, default=0)
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
        group = self._sources.group_of(label.source)
        for count, newer, older in pairs:
            if newer in rights and older in rights:
                value = rights[newer] - rights[older]
                yield count, Difference(value, label.name, group, label.answer_ms, label.number)

    def _arm_of(self, label: JudgedLabel) -> Iterator[tuple[bool, bool]]:
        """Yields whether the arm that answered is a newer one with an encoder of its own, and whether it was right.

        There is nothing for an arm that is not compared with another by its own answers.
        """
        version = label.verdicts.version
        rights = label.rights()
        is_newer = self._is_newer(version) and self.frame.stable not in rights
        if version in rights and (is_newer or version == self.frame.stable):
            yield is_newer, rights[version]

    def settle(self, now_ms: int) -> None:
        """Counts the labels of events that are settled by now as such."""
        if len(self._delays) < MIN_DELAYS:
            return
        delay_ms = sorted(self._delays)[int(SETTLED_SHARE * len(self._delays))]
        compared = (self._candidate, self._candidate_to_reference, self._audited, self._newest)
        for count in (*compared, self.overtaking, self.chain):
            count.settle(now_ms - delay_ms)

    @property
    def arms(self) -> ArmEvidence:
        """The newer versions with another encoder, by their own answers, and the stable version at the same time."""
        return self._arms.evidence

    @property
    def newest(self) -> PairedEvidence:
        """The newest versions, each while it was that, against the stable one."""
        return PairedEvidence(stable=self._newest.comparison(), class_groups=self._newest.class_groups)

    @property
    def num_answers(self) -> int:
        """The answers of the candidate at its present share."""
        return self.exposure.num_answers

    def evidence(self, *, stable_share: float, is_exposed: bool) -> PairedEvidence:
        """Returns what is known about the candidate."""
        traffic = self.exposure.traffic(stable_share=stable_share, candidate_share=self.frame.share)
        return PairedEvidence(
            stable=self._candidate.comparison(),
            reference=self._candidate_to_reference.comparison(),
            class_groups=self._candidate.class_groups,
            audited=self._audited.comparison(),
            traffic=traffic,
            is_exposed=is_exposed,
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
            num_answers=self.exposure.num_answers,
            last_number=self._last_number,
        )

    def __str__(self) -> str:
        frame = self.frame
        words = f"version {frame.candidate} against {frame.stable}: {self._candidate.labels}" if frame.candidate else ""
        return f"{words}; another encoder: {self.arms}" if self.arms.candidate.labels else words
