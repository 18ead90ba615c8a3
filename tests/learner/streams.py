"""A small labelled stream for the learner's tests: every answer and label has an effect that no other one has."""

from collections.abc import Iterable, Iterator

from learner.samples import Sample
from wire.records import Answer, Feedback, LogMark

TOPICS = ("refund", "delivery", "password", "invoice", "opening hours")
PHRASES = (
    "please tell me about my {topic}, number {number}",
    "I have a question on the {topic} {number}",
    "the {topic} of order {number} is wrong",
)


MARKS = {"feedback.v1/0": LogMark(log="a log", epoch=3, log_ms=9)}
"""What a reader knows of the log of labels."""


def label_of(number: int) -> str:
    return TOPICS[number % len(TOPICS)]


def make_text(number: int) -> str:
    return PHRASES[number % len(PHRASES)].format(topic=label_of(number), number=number)


def make_subject(number: int) -> str:
    return f"customer {number % 7}"


def answer(number: int, *, label: str | None = "refund", time_ms: int = 0) -> Answer:
    return Answer(
        event_id=f"event-{number}",
        text=make_text(number),
        label=label,
        score=0.5,
        weights_version=1,
        arm="stable",
        precision="int8",
        rollout_revision=1,
        key=make_subject(number),
        time_ms=time_ms,
    )


def feedback(number: int, *, label: str = "", time_ms: int | None = None) -> Feedback:
    label_time_ms = number if time_ms is None else time_ms
    return Feedback(event_id=f"event-{number}", label=label or label_of(number), time_ms=label_time_ms)


def labelled_events(numbers: Iterable[int], *, label: str = "") -> list[Answer | Feedback]:
    """The answer and the label of each of these events; all labels are `label`, if one is given."""
    records = list[Answer | Feedback]()
    for number in numbers:
        records += (answer(number), feedback(number, label=label))
    return records


def sample(*, is_correct: bool, label: str = "yes") -> Sample:
    return Sample(
        event_id="e",
        text="text",
        label=label,
        predicted_label=label if is_correct else None,
        arm="stable",
        weights_version=1,
        feedback_time_ms=0,
        subject="",
        is_in_holdout=False,
    )


def stream(first: int, last: int) -> Iterator[Answer | Feedback]:
    """Yields every answer and its label; every tenth event is labelled twice, and every seventh label comes first."""
    for number in range(first, last):
        pair = (feedback(number), answer(number)) if number % 7 == 0 else (answer(number), feedback(number))
        yield from pair
        if number % 10 == 0:
            yield feedback(number, label="a second opinion")
