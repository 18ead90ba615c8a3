"""What is kept of an answer until its label comes."""

from dataclasses import dataclass

from wire.events import EventKey, content, with_later_time
from wire.receipts import Verdicts, named_hash, verdicts_of
from wire.recent import hash_of
from wire.records import Answer


@dataclass(slots=True, eq=False)
class WaitingAnswer:
    """An answer that waits for its label. `number` counts the answers up to it.

    `times_ms` has its time and those of later answers to the same event. The text is kept as its hash alone. `verdicts`
    are those of the first answer.
    """

    source: str
    event_id: str
    entity: str
    text_hash: int
    times_ms: tuple[int, ...]
    verdicts: Verdicts
    number: int

    @classmethod
    def from_answer(cls, answer: Answer, number: int, *, seed: int) -> "WaitingAnswer":
        """Keeps what is needed of `answer`. `seed` keys the hash of the text."""
        return cls(
            source=answer.source,
            event_id=answer.event_id,
            entity=answer.entity,
            text_hash=hash_of(content(answer).encode(), seed),
            times_ms=(answer.time_ms,),
            verdicts=verdicts_of(answer.receipt) or own_verdict(answer),
            number=number,
        )

    @property
    def key(self) -> EventKey:
        return self.source, self.event_id

    def is_same_event(self, other: "WaitingAnswer") -> bool:
        """Whether `other` is another answer to this event. The text counts too, since clients use an id twice."""
        return (self.key, self.entity, self.text_hash) == (other.key, other.entity, other.text_hash)

    def add_repeat(self, other: "WaitingAnswer") -> None:
        """Adds the time of a later answer to the same event: its receipt is valid, too."""
        self.times_ms = with_later_time(self.times_ms, other.times_ms[0])


def own_verdict(answer: Answer) -> Verdicts:
    """Returns the verdict of the version that answered, where the receipt has none, as those of earlier programs."""
    version = answer.weights_version
    return Verdicts(answer.arm, version, ((version, named_hash(answer.named)),))
