"""Labels and answers are read side by side, and while anything is unread, something is read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.config import LearnerConfig
from learner.intake.consumer import OTHER, STALLED_S, FlowControl, Times, Topic, Unread, choose_paused
from learner.intake.join import Join
from learner.intake.trust import LabelTrust
from learner.samples import OVERHEAD, Level, Levels
from tests.learner.intake.joins import label_names
from tests.learner.streams import answer, feedback
from wire.records import Answer, Feedback

ROOM = 100


def levels(answers: float, labels: float) -> Levels:
    return Levels(answers=Level(fill=answers, room=ROOM), labels=Level(fill=labels, room=ROOM))


@pytest.mark.parametrize(
    ("fill", "unread", "paused", "is_label_later", "expected"),
    [
        ((0.0, 0.0), (900, 900), None, True, None),
        ((0.0, 0.6), (900, 900), None, True, Feedback),
        ((0.0, 0.6), (90, 900), None, True, None),  # there is room for what is unread
        ((0.0, 0.6), (900, 900), None, False, None),  # the labels are older than any answer
        ((0.0, 0.4), (900, 900), None, True, None),
        ((0.0, 0.4), (900, 900), Feedback, True, Feedback),
        ((0.0, 0.2), (900, 900), Feedback, True, None),
        ((0.0, 0.6), (1, 900), Feedback, True, Feedback),
        ((0.0, 0.6), (0, 900), Feedback, True, None),
        ((0.6, 0.0), (900, 900), None, True, Answer),
        ((1.0, 0.0), (900, 90), None, True, None),  # answers that nobody labels
        ((0.4, 0.0), (900, 900), Answer, True, Answer),
        ((0.2, 0.0), (900, 900), Answer, True, None),
        ((1.0, 1.0), (900, 900), None, True, Feedback),
        ((1.0, 1.0), (900, 900), Answer, True, Feedback),
        ((1.0, 1.0), (0, 900), Feedback, True, Answer),
        ((1.0, 1.0), (0, 0), Answer, True, None),
    ],
)
def test_a_topic_waits_while_it_is_ahead(
    fill: tuple[float, float],
    unread: tuple[int, int],
    paused: Topic | None,
    is_label_later: bool,
    expected: Topic | None,
) -> None:
    """B6: labels are read as far as answers are, and answers as far as labels."""
    assert choose_paused(levels(*fill), Unread(*unread), paused=paused, is_label_later=is_label_later) is expected


fills = st.floats(0, 2)
counts = st.integers(0, 1_000)


@given(fills, fills, counts, counts, st.sampled_from([None, Answer, Feedback]), st.booleans())
def test_what_waits_leaves_the_other_something_to_read(
    answers: float, labels: float, num_answers: int, num_labels: int, paused: Topic | None, is_label_later: bool
) -> None:
    """B6: no state is a deadlock."""
    unread = Unread(num_answers, num_labels)
    chosen = choose_paused(levels(answers, labels), unread, paused=paused, is_label_later=is_label_later)
    assert chosen is None or unread.of(OTHER[chosen]) > 0


def test_nobody_waits_for_records_that_do_not_come() -> None:
    """B6: a partition without a leader, or an end that no record has, holds up nothing."""
    flow = FlowControl()
    full = levels(0.0, 0.9)
    unread = Unread(answers=900, labels=900)
    assert flow.choose_paused(full, unread, 0.0) is Feedback
    flow.on_read({Answer: Times(5, 5)}, STALLED_S)
    assert flow.choose_paused(full, unread, 2 * STALLED_S - 0.1) is Feedback
    assert flow.choose_paused(full, unread, 2 * STALLED_S) is None
    flow.on_read({Feedback: Times(7, 7)}, 2 * STALLED_S)
    assert flow.choose_paused(full, unread, 9 * STALLED_S) is None
    flow.on_read({Answer: Times(6, 6)}, 9 * STALLED_S)
    assert flow.choose_paused(full, unread, 9 * STALLED_S) is Feedback


def number_of(record: Answer | Feedback) -> int:
    return int(record.event_id.removeprefix("event-"))


def appended_in_order(record: Answer | Feedback) -> int:
    """Returns the time of a record in a log whose broker appends answer and label of an event at the same time."""
    return 1 + number_of(record)


@dataclass(slots=True)
class Reader:
    """Reads two logs into a join as a consumer does."""

    logs: dict[Topic, Sequence[Answer | Feedback]]
    join: Join
    log_ms: Callable[[Answer | Feedback], int] = appended_in_order
    flow: FlowControl = field(default_factory=FlowControl)
    now_s: float = 0.0
    read: dict[Topic, int] = field(default_factory=lambda: {Answer: 0, Feedback: 0})

    def step(self, wanted: Topic, num_records: int, time_s: float) -> bool:
        """Reads from `wanted`, or from the other topic where that is paused or at its end; returns whether it could."""
        self.now_s += time_s
        paused = self.flow.choose_paused(self.join.levels, self.unread, self.now_s)
        readable = [topic for topic in (Answer, Feedback) if topic is not paused and self.unread.of(topic)]
        if not readable:
            return False
        topic = wanted if wanted in readable else readable[0]
        records = self.logs[topic][self.read[topic] : self.read[topic] + num_records]
        self.join.match(records)
        self.read[topic] += len(records)
        self.flow.on_read({topic: Times(records[-1].time_ms, self.log_ms(records[-1]))}, self.now_s)
        return True

    @property
    def unread(self) -> Unread:
        return Unread(answers=self._num_unread(Answer), labels=self._num_unread(Feedback))

    def _num_unread(self, topic: Topic) -> int:
        return len(self.logs[topic]) - self.read[topic]


def make_join(num_items: int) -> Join:
    """Returns a join whose windows hold so many small answers and labels."""
    num_bytes = num_items * (OVERHEAD + 100)
    config = LearnerConfig(holdout_share=0.0, pending_bytes=num_bytes, parked_bytes=num_bytes)
    return Join(config, LabelTrust(config), label_names(config))


def timed(number: int) -> list[Answer | Feedback]:
    return [answer(number, time_ms=1 + number), feedback(number, time_ms=1 + number)]


topics = st.sampled_from([Answer, Feedback])
steps = st.lists(st.tuples(topics, st.integers(1, 20)), min_size=1)


@given(
    answers=st.lists(st.integers(0, 60), max_size=80, unique=True),
    labels=st.lists(st.integers(0, 60), max_size=80),
    num_items=st.integers(1, 40),
    steps=steps,
)
def test_everything_is_read_whatever_comes_in_whatever_order_and_windows(
    answers: list[int], labels: list[int], num_items: int, steps: list[tuple[Topic, int]]
) -> None:
    """B6: gaps, answers that nobody labels, labels without answers, and windows of any size stop nobody."""
    logs: dict[Topic, Sequence[Answer | Feedback]] = {
        Answer: [timed(number)[0] for number in answers],
        Feedback: [timed(number)[1] for number in labels],
    }
    reader = Reader(logs, make_join(num_items))
    num_steps = 0
    while any(reader.unread):
        assert reader.step(*steps[num_steps % len(steps)], 0.01)
        num_steps += 1
    assert num_steps <= len(answers) + len(labels)


@settings(max_examples=30)
@given(st.integers(0, 20), steps)
def test_a_backlog_is_learnt_whole_in_windows_that_are_much_smaller(delay: int, steps: list[tuple[Topic, int]]) -> None:
    """B6: this holds whichever topic comes faster, and where labels come some events later than their answers."""
    numbers = range(300)
    logs: dict[Topic, Sequence[Answer | Feedback]] = {
        Answer: [timed(number)[0] for number in numbers],
        Feedback: [feedback(number, time_ms=1 + number + delay) for number in numbers],
    }
    reader = Reader(logs, make_join(80))
    num_steps = 0
    while any(reader.unread):
        reader.step(*steps[num_steps % len(steps)], 0.01)
        num_steps += 1
    assert reader.join.counts["matched"] == len(numbers)


CLOCKS: dict[str, Callable[[int], int]] = {
    "right": lambda number: 1 + number,
    "constant": lambda number: 1,
    "unknown": lambda number: 0,
    "behind": lambda number: max(1, number - 1_000),
    "ahead": lambda number: number + 1_000,
    "tells only the day": lambda number: 1 + number // 1_000 * 1_000,
}
"""What a desk says of the time of a label, by the number of its event."""


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_backlog_is_learnt_whole_whatever_the_senders_of_labels_say_of_the_time(clock: str) -> None:
    """B6: the broker's clock says, too, which labels are older than the answers."""
    numbers = range(5_000)
    logs: dict[Topic, Sequence[Answer | Feedback]] = {
        Answer: [timed(number)[0] for number in numbers],
        Feedback: [feedback(number, time_ms=CLOCKS[clock](number)) for number in numbers],
    }
    assert num_matched(logs, appended_in_order) == len(numbers)


@pytest.mark.parametrize("first", [Answer, Feedback])
def test_a_backlog_is_learnt_whole_from_topics_that_were_restored_one_after_the_other(first: Topic) -> None:
    """B6: the times of the logs are those of the restoration then, and the senders' clocks are right."""
    numbers = range(5_000)
    logs: dict[Topic, Sequence[Answer | Feedback]] = {
        Answer: [timed(number)[0] for number in numbers],
        Feedback: [timed(number)[1] for number in numbers],
    }
    assert num_matched(logs, lambda record: 1 + number_of(record) + len(numbers) * (type(record) is not first)) == 5_000


def num_matched(logs: dict[Topic, Sequence[Answer | Feedback]], log_ms: Callable[[Answer | Feedback], int]) -> int:
    """Returns how many labels find their answers, where labels are read twice as fast as answers."""
    reader = Reader(logs, make_join(400), log_ms)
    turns: Iterator[tuple[Topic, int]] = cycle(((Feedback, 20), (Answer, 10)))
    while any(reader.unread):
        reader.step(*next(turns), 0.01)
    return reader.join.counts["matched"]


def test_labels_older_than_every_answer_do_not_hold_up_the_others() -> None:
    """B6: topics have unlike retention. A label whose answer is lost is an orphan, and all others are learnt."""
    logs: dict[Topic, Sequence[Answer | Feedback]] = {
        Answer: [timed(number)[0] for number in range(1_000, 2_000)],
        Feedback: [timed(number)[1] for number in range(2_000)],
    }
    reader = Reader(logs, make_join(80))
    while any(reader.unread):
        reader.step(Feedback, 20, 0.01)
    counts = reader.join.counts
    assert counts["matched"] == 1_000 and counts["orphan"] + reader.join.num_parked == 1_000


def test_answers_that_nobody_labels_expire_while_labels_are_read_to_their_end() -> None:
    """B6: most events are never labelled."""
    logs: dict[Topic, Sequence[Answer | Feedback]] = {
        Answer: [timed(number)[0] for number in range(2_000)],
        Feedback: [timed(number)[1] for number in range(0, 2_000, 10)],
    }
    reader = Reader(logs, make_join(80))
    turns: Iterator[Topic] = cycle((Answer, Feedback))
    while any(reader.unread):
        reader.step(next(turns), 20, 0.01)
    counts = reader.join.counts
    assert counts["matched"] == 200 and counts["answers_expired"] > 1_600
