"""Joins answers with their labels and counts, per arm, how many were right. Pure: no clock, no network.

    Answer ----> waits for its label --+
                                       +--> judged: arm, version, right or wrong --> Evidence
    Feedback --> waits for its answer -+

Only answers given under plan revision `since_revision` or a later one count, so a decision never rests on what was
seen before the one before it. Labels come late, early, twice or for nobody; each case has a counter. Which answer a
label is of is decided by `wire.events`; one that fits several counts for none.

What waits is bounded. Beyond that the answers that wait are thinned, and the older the thinner: of those that are twice
as old half as many are left, chosen by a hash of the event that nobody outside can foresee. So labels are met by
answers however late they are, only fewer of them; dropping the oldest would meet none of the labels that come later
than the window is long. The choice knows neither arm nor label, so it favours nobody.

A label that is too many of its source (`rollout/influence.py`) leaves its answer to the others.

Rejected: reading the learner's own joined pairs. A learner that is wrong about itself would then judge itself.
"""

from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field

import mmh3

from rollout.influence import Influence
from wire.events import AMBIGUOUS, EventKey, fitting, key_of, names_of, sought_as, text_of
from wire.records import CANDIDATE, STABLE, Answer, Feedback

FILLED = 0.75
"""Share of the answers that may wait that is left when they are thinned."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Labels that came back, and how many of them the answer had right."""

    labels: int = 0
    correct: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right answers in [0, 1]; 0 where there is no label yet."""
        return self.correct / self.labels if self.labels else 0.0

    def __str__(self) -> str:
        return f"{self.correct}/{self.labels} ({self.accuracy:.1%})"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the labels said since the last decision.

    `candidate` is pooled over every version that the candidate arm served, from `first_version` on; `candidate_version`
    is the newest that has a label (0: none). `stable_share` is the stable arm's share of the entities now.
    """

    stable: Tally = Tally()
    candidate: Tally = Tally()
    candidate_version: int = 0
    stable_share: float = 1.0
    first_version: int = 0

    def __str__(self) -> str:
        return f"candidate {self.candidate}, stable {self.stable}"


@dataclass(slots=True)
class _Given:
    """What is remembered of an answer until its label comes. `number` counts the answers that came before it."""

    source: str
    event_id: str
    entity: str
    times_ms: tuple[int, ...]
    arm: str
    version: int
    label: str | None
    number: int

    @property
    def key(self) -> EventKey:
        return self.source, self.event_id


@dataclass(slots=True)
class EvidenceWindow:
    """Collects the evidence since one revision of the plan. Verbs: add_answer, add_label, evidence, restart.

    `influence` bounds what one source may say (None: nothing does), `seed` makes the hash by which answers are thinned.
    The last events that have their label are remembered, so that a repeated message counts once.
    """

    max_unlabelled: int
    influence: Influence | None = None
    seed: int = 0
    since_revision: int = 0
    stable_version: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _num_answers: int = 0
    _answers: dict[EventKey, _Given] = field(default_factory=dict)
    _by_id: defaultdict[str, set[EventKey]] = field(default_factory=lambda: defaultdict(set))
    _labels: OrderedDict[bytes, Feedback] = field(default_factory=OrderedDict)
    _judged: OrderedDict[int, None] = field(default_factory=OrderedDict)  # hashes of names
    _tallies: dict[str, Tally] = field(default_factory=dict)  # by arm
    _first_version: int = 0  # of the candidate arm; 0: none has answered
    _last_version: int = 0  # the newest that has a label

    def restart(self, *, since_revision: int, stable_version: int) -> None:
        """Forgets every count; answers under revisions before `since_revision` do not count from now on."""
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
        key = key_of(answer)
        if answer.rollout_revision < self.since_revision:
            self.counts["answer_before_decision"] += 1
        elif answer.arm not in (STABLE, CANDIDATE):
            self.counts["answer_of_stand_in"] += 1  # it says nothing of either arm
        elif self._hash(text_of(key)) in self._judged:
            self.counts["answer_repeated"] += 1
        elif (first := self._answers.get(key)) is not None:
            self.counts["answer_repeated"] += 1
            first.times_ms += (answer.time_ms,)  # its receipt is as good
        else:
            self._num_answers += 1
            if answer.arm == CANDIDATE:
                self._first_version = min(self._first_version or answer.weights_version, answer.weights_version)
            self._meet_or_wait(_given(answer, self._num_answers))

    def add_label(self, feedback: Feedback) -> None:
        """Takes a label that is believed; whoever calls has refused forged receipts."""
        name = sought_as(feedback)
        fits = fitting(feedback, [self._answers[key] for key in self._by_id.get(feedback.event_id, ())])
        if name in self._labels or self._hash(name) in self._judged:
            self.counts["label_repeated"] += 1
        elif len(fits) > 1:
            self.counts[f"label_{AMBIGUOUS}"] += 1
        elif fits:
            if self._judge(fits[0], feedback):
                self._forget(fits[0])
        else:
            self._labels[name] = feedback
            if len(self._labels) > self.max_unlabelled:
                self._labels.popitem(last=False)
                self.counts["label_dropped"] += 1

    def evidence(self, *, stable_share: float) -> Evidence:
        """The counts so far."""
        return Evidence(
            stable=self._tallies.get(STABLE, Tally()),
            candidate=self._tallies.get(CANDIDATE, Tally()),
            candidate_version=self._last_version,
            stable_share=stable_share,
            first_version=self._first_version,
        )

    def _meet_or_wait(self, given: _Given) -> None:
        for name in names_of(given):
            early = self._labels.get(name)  # the label was here before its answer
            if early is not None and fitting(early, [given]):
                del self._labels[name]
                if self._judge(given, early):
                    return
        self._answers[given.key] = given
        self._by_id[given.event_id].add(given.key)
        if len(self._answers) > self.max_unlabelled:
            self._thin()

    def _judge(self, given: _Given, feedback: Feedback) -> bool:
        """Whether the label counts."""
        if self.influence is not None:
            excess = self.influence.excess(given.arm, source=feedback.source, answer_time_ms=given.times_ms[0])
            if excess:
                self.counts[f"label_{excess}"] += 1
                return False
        before = self._tallies.get(given.arm, Tally())
        self._tallies[given.arm] = Tally(before.labels + 1, before.correct + (given.label == feedback.label))
        if given.arm == CANDIDATE:
            self._last_version = max(self._last_version, given.version)
        self.counts["judged"] += 1
        for name in names_of(given):
            self._judged[self._hash(name)] = None
        while len(self._judged) > 3 * self.max_unlabelled:  # an event has three names or more
            self._judged.popitem(last=False)
        return True

    def _thin(self) -> None:
        """Drops answers that wait, until a share of the window is free."""
        room = int(FILLED * self.max_unlabelled)
        dense = self.max_unlabelled // 2
        while len(self._answers) > room and dense:
            self._drop([given for given in self._answers.values() if not self._is_chosen(given, dense)])
            dense //= 2
        self._drop(list(self._answers.values())[: max(0, len(self._answers) - room)])

    def _is_chosen(self, given: _Given, dense: int) -> bool:
        """All of the newest 2 x `dense` are, half of the 2 x `dense` before those, a quarter of the 4 x before, ..."""
        octaves = ((self._num_answers - given.number) // dense).bit_length() - 1
        return octaves < 1 or self._hash(text_of(given.key)) % (1 << octaves) == 0

    def _drop(self, answers: list[_Given]) -> None:
        for given in answers:
            self._forget(given)
        self.counts["answer_dropped"] += len(answers)

    def _forget(self, given: _Given) -> None:
        """It waits no longer."""
        del self._answers[given.key]
        self._by_id[given.event_id].discard(given.key)
        if not self._by_id[given.event_id]:
            del self._by_id[given.event_id]

    def _hash(self, name: bytes) -> int:
        return mmh3.hash64(name, self.seed)[0]


def _given(answer: Answer, number: int) -> _Given:
    return _Given(
        source=answer.source,
        event_id=answer.event_id,
        entity=answer.entity,
        times_ms=(answer.time_ms,),
        arm=answer.arm,
        version=answer.weights_version,
        label=answer.label,
        number=number,
    )
