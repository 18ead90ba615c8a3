"""Joins answers with their labels and counts, per arm, how many were right. Pure: no clock, no network.

    Answer ----> waits for its label --+
                                       +--> judged: arm, version, right or wrong --> Evidence
    Feedback --> waits for its answer -+

Only answers given under plan revision `since_revision` or a later one count, so a decision never rests on what was
seen before the one before it. Labels come late, early, twice or for nobody; each case has a counter.

Rejected: reading the learner's own joined pairs. A learner that is wrong about itself would then judge itself.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from wire.records import CANDIDATE, STABLE, Answer, Feedback

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Tally:
    """Labels that came back, and how many of them the answer had right."""

    labels: int = 0
    correct: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right answers in [0, 1]; 0 where there is no label yet."""
        return self.correct / self.labels if self.labels else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the labels said since the last decision.

    `candidate` is pooled over every version that the candidate arm served; `candidate_version` is the newest of them
    that has a label (0: none). `stable_share` is the stable arm's share of the entities now.
    """

    stable: Tally = Tally()
    candidate: Tally = Tally()
    candidate_version: int = 0
    stable_share: float = 1.0


@dataclass(frozen=True, slots=True)
class _Given:
    """What is remembered of an answer until its label comes."""

    arm: str
    version: int
    label: str | None


@dataclass(slots=True)
class EvidenceWindow:
    """Collects the evidence since one revision of the plan. Verbs: add_answer, add_label, evidence, restart.

    `judged` remembers the last events that have their label, so that a repeated message counts once.
    """

    max_unlabelled: int
    since_revision: int = 0
    stable_version: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _answers: OrderedDict[str, _Given] = field(default_factory=OrderedDict)
    _labels: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _judged: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _tallies: dict[tuple[str, int], Tally] = field(default_factory=dict)

    def restart(self, *, since_revision: int, stable_version: int) -> None:
        """Forgets every count; answers under revisions before `since_revision` do not count from now on."""
        if since_revision == self.since_revision and stable_version == self.stable_version:
            return
        self.since_revision = since_revision
        self.stable_version = stable_version
        self._answers.clear()
        self._tallies.clear()

    def add_answer(self, answer: Answer) -> None:
        event_id = answer.event_id
        if answer.rollout_revision < self.since_revision:
            self.counts["answer_before_decision"] += 1
        elif answer.arm not in (STABLE, CANDIDATE):
            self.counts["answer_of_stand_in"] += 1  # it says nothing of either arm
        elif event_id in self._judged or event_id in self._answers:
            self.counts["answer_repeated"] += 1
        else:
            given = _Given(answer.arm, answer.weights_version, answer.label)
            label = self._labels.pop(event_id, None)  # early: the label was here before its answer
            if label is None:
                self._keep(self._answers, event_id, given)
            else:
                self._judge(event_id, given, label)

    def add_label(self, feedback: Feedback) -> None:
        event_id = feedback.event_id
        if event_id in self._judged or event_id in self._labels:
            self.counts["label_repeated"] += 1
        elif (given := self._answers.pop(event_id, None)) is not None:
            self._judge(event_id, given, feedback.label)
        else:
            self._keep(self._labels, event_id, feedback.label)

    def evidence(self, *, stable_share: float) -> Evidence:
        """The counts so far."""
        candidates = {version: tally for (arm, version), tally in self._tallies.items() if arm == CANDIDATE}
        stable = [tally for (arm, _), tally in self._tallies.items() if arm == STABLE]
        return Evidence(
            stable=_sum(stable),
            candidate=_sum(list(candidates.values())),
            candidate_version=max(candidates, default=0),
            stable_share=stable_share,
        )

    def _judge(self, event_id: str, given: _Given, label: str) -> None:
        before = self._tallies.get((given.arm, given.version), Tally())
        after = Tally(before.labels + 1, before.correct + (given.label == label))
        self._tallies[given.arm, given.version] = after
        self.counts["judged"] += 1
        self._keep(self._judged, event_id, None)

    def _keep(self, waiting: OrderedDict[str, Kept], event_id: str, what: Kept) -> None:
        waiting[event_id] = what
        if len(waiting) > self.max_unlabelled:
            waiting.popitem(last=False)
            self.counts["dropped_oldest"] += 1


def _sum(tallies: list[Tally]) -> Tally:
    return Tally(sum(tally.labels for tally in tallies), sum(tally.correct for tally in tallies))
