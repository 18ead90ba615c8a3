"""Joins answers with their labels and counts, for each arm, how many were right. Pure: no clock, no network.

    Answer ----> waits for its label --+
                                       +--> judged: arm, version, right or wrong --> Evidence
    Feedback --> waits for its answer -+

Only answers given under plan revision `since_revision` or a later one count, so a decision never rests on labels from
before the previous decision. Labels may come late, early, twice or without an answer; each case has a counter.
`wire.events` decides which answer a label belongs to; a label that matches several counts for none. Clients use an id
twice: another text or entity under the same source and id is another event, whose answer has a receipt of its own.

The waiting answers are bounded. Beyond the bound they are thinned, the more the older they are: each doubling of age
halves the share that is left, sampled by a hash of the event that nobody outside can predict. So labels find answers
however late they come, only fewer of them. Dropping the oldest would lose every label that comes later than the window
is long. The sample depends on neither arm nor label, so it is unbiased.

A label beyond the share of its source (`rollout/influence.py`) leaves its answer to other labels.

Rejected: reading the learner's own joined pairs. A learner that is wrong about itself would then judge itself.
"""

from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field

from rollout.influence import Influence
from rollout.waiting import WaitingAnswer
from wire.events import AMBIGUOUS, aliases_of, encoded_key, has_receipt, lookup_alias, matching
from wire.recent import RecentHashes, hash_of
from wire.records import CANDIDATE, STABLE, Answer, Feedback

LOAD_AFTER_THINNING = 0.75
"""Share of the bound on waiting answers that is left after thinning."""

SAME_KEY = 8
"""Number of events of one source and id whose answers wait at a time. The oldest is dropped first."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The number of labels that came back, and how many of them the answer had right."""

    labels: int = 0
    correct: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]; 0 without labels."""
        return self.correct / self.labels if self.labels else 0.0

    def __str__(self) -> str:
        return f"{self.correct}/{self.labels} ({self.accuracy:.1%})"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence since the last decision.

    `candidate` is pooled over all versions that the candidate arm served, from `first_version` on. `candidate_version`
    is the newest of them that has a label (0: none). `stable_share` is the stable arm's present share of the entities.
    """

    stable: Tally = Tally()
    candidate: Tally = Tally()
    candidate_version: int = 0
    stable_share: float = 1.0
    first_version: int = 0

    def __str__(self) -> str:
        return f"candidate {self.candidate}, stable {self.stable}"


@dataclass(slots=True)
class EvidenceWindow:
    """Collects the evidence since one revision of the plan. Verbs: add_answer, add_label, evidence, restart.

    `influence` bounds what one source may say (None: no bound). `seed` keys the hash by which answers are thinned. The
    last events that were judged are remembered, so that a repeated message counts once.
    """

    max_unlabelled: int
    influence: Influence | None = None
    seed: int = 0
    since_revision: int = 0
    stable_version: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _num_answers: int = 0
    _answers: dict[int, WaitingAnswer] = field(default_factory=dict)  # by their number
    _by_id: defaultdict[str, list[WaitingAnswer]] = field(default_factory=lambda: defaultdict(list))
    _labels: OrderedDict[bytes, Feedback] = field(default_factory=OrderedDict)
    _judged: RecentHashes = field(init=False)
    _tallies: dict[str, Tally] = field(default_factory=dict)  # by arm
    _first_version: int = 0  # of the candidate arm's answers; 0: there is none
    _last_version: int = 0  # the candidate arm's newest version that has a label

    def __post_init__(self) -> None:
        self._judged = RecentHashes(3 * self.max_unlabelled, seed=self.seed)  # an event has three aliases or more

    def restart(self, *, since_revision: int, stable_version: int) -> None:
        """Resets the counts. Answers under revisions before `since_revision` do not count from now on."""
        if since_revision == self.since_revision and stable_version == self.stable_version:
            return
        self.since_revision = since_revision
        self.stable_version = stable_version
        self._answers.clear()
        self._by_id.clear()
        self._tallies.clear()
        self._first_version = 0
        self._last_version = 0

    def add_answer(self, answer: Answer) -> None:
        if answer.rollout_revision < self.since_revision:
            self.counts["answer_before_decision"] += 1
        elif answer.arm not in (STABLE, CANDIDATE):
            self.counts["answer_of_stand_in"] += 1  # it is evidence for neither arm
        else:
            self._add(WaitingAnswer.from_answer(answer, self._num_answers + 1, seed=self.seed))

    def add_label(self, feedback: Feedback) -> None:
        """Adds a label that is believed: the caller has refused forged receipts."""
        alias = lookup_alias(feedback)
        matches = matching(feedback, self._by_id.get(feedback.event_id, ()))
        if len(matches) == 1 and (has_receipt(feedback) or alias not in self._judged):
            if self._judge(matches[0], feedback):
                self._forget(matches[0])
        elif matches:
            self.counts[f"label_{AMBIGUOUS}"] += 1
        elif alias in self._labels or alias in self._judged:
            self.counts["label_repeated"] += 1
        else:
            self._labels[alias] = feedback
            if len(self._labels) > self.max_unlabelled:
                self._labels.popitem(last=False)
                self.counts["label_dropped"] += 1

    def evidence(self, *, stable_share: float) -> Evidence:
        """Returns the counts so far."""
        return Evidence(
            stable=self._tallies.get(STABLE, Tally()),
            candidate=self._tallies.get(CANDIDATE, Tally()),
            candidate_version=self._last_version,
            stable_share=stable_share,
            first_version=self._first_version,
        )

    def _add(self, answer: WaitingAnswer) -> None:
        same_id = self._by_id.get(answer.event_id, ())
        first = next((each for each in same_id if each.is_same_event(answer)), None)
        if first is not None:
            self.counts["answer_repeated"] += 1
            first.add_repeat(answer)
        elif encoded_key(answer.key) in self._judged:
            self.counts["answer_repeated"] += 1
        else:
            self._num_answers += 1
            if answer.arm == CANDIDATE:
                self._first_version = min(self._first_version or answer.version, answer.version)
            self._join_or_wait(answer)

    def _join_or_wait(self, answer: WaitingAnswer) -> None:
        for alias in aliases_of(answer):
            early = self._labels.get(alias)  # the label came before its answer
            if early is not None and matching(early, [answer]):
                del self._labels[alias]
                if self._judge(answer, early):
                    return
        self._answers[answer.number] = answer
        same_id = self._by_id[answer.event_id]
        same_id.append(answer)
        same_key = [each for each in same_id if each.key == answer.key]
        if len(same_key) > SAME_KEY:
            self._drop(same_key[:1])
        if len(self._answers) > self.max_unlabelled:
            self._thin()

    def _judge(self, answer: WaitingAnswer, feedback: Feedback) -> bool:
        """Compares the answer with its label; returns whether the label counts."""
        if self.influence is not None:
            excess = self.influence.excess(answer.arm, source=feedback.source, answer_time_ms=answer.times_ms[0])
            if excess:
                self.counts[f"label_{excess}"] += 1
                return False
        before = self._tallies.get(answer.arm, Tally())
        self._tallies[answer.arm] = Tally(before.labels + 1, before.correct + (answer.label == feedback.label))
        if answer.arm == CANDIDATE:
            self._last_version = max(self._last_version, answer.version)
        self.counts["judged"] += 1
        for alias in aliases_of(answer):
            self._judged.add(alias)
        return True

    def _thin(self) -> None:
        """Drops waiting answers, until a share of the window is free."""
        room = int(LOAD_AFTER_THINNING * self.max_unlabelled)
        num_dense = self.max_unlabelled // 2
        while len(self._answers) > room and num_dense:
            self._drop([answer for answer in self._answers.values() if not self._is_sampled(answer, num_dense)])
            num_dense //= 2
        self._drop(list(self._answers.values())[: max(0, len(self._answers) - room)])

    def _is_sampled(self, answer: WaitingAnswer, num_dense: int) -> bool:
        """Samples the newest 2 x `num_dense` answers in full, the 2 x before by half, the 4 x before by a quarter,
        ..."""
        octaves = ((self._num_answers - answer.number) // num_dense).bit_length() - 1
        return octaves < 1 or hash_of(encoded_key(answer.key), self.seed) % (1 << octaves) == 0

    def _drop(self, answers: list[WaitingAnswer]) -> None:
        for answer in answers:
            self._forget(answer)
        self.counts["answer_dropped"] += len(answers)

    def _forget(self, answer: WaitingAnswer) -> None:
        """Removes a waiting answer."""
        del self._answers[answer.number]
        self._by_id[answer.event_id].remove(answer)
        if not self._by_id[answer.event_id]:
            del self._by_id[answer.event_id]
