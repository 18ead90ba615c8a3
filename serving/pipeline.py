"""What both ways into a replica share, Kafka and HTTP: the queue before the model, and the way out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from serving.batcher import BatchQueue
from serving.counts import Counts
from serving.engine import Engine
from serving.item import Done, Item, always
from serving.kafka.outbox import Outbox
from serving.tokens import Encode
from wire.records import MAX_TEXT_CHARS, Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """An event becomes an `Item` by `encode`, waits in `queue`, is answered by `engine`, and leaves by `outbox`."""

    encode: Encode
    queue: BatchQueue[Item]
    engine: Engine
    outbox: Outbox
    counts: Counts

    @property
    def is_ready(self) -> bool:
        """Whether there are weights to answer with."""
        return self.engine.live is not None

    def items(
        self, events: Sequence[Event], dones: Sequence[Done], is_wanted: Callable[[], bool] = always
    ) -> list[Item]:
        """What the queue takes of the events, each with what is called with its outcome.

        From here on a text is as long as an answer carries back at most: the model reads what the learner will read,
        and nothing longer waits anywhere.
        """
        events = [_shortened(event) for event in events]
        token_ids = self.encode([event.text for event in events])
        return [
            Item(event=event, token_ids=tokens, done=done, is_wanted=is_wanted)
            for event, tokens, done in zip(events, token_ids, dones, strict=True)
        ]


def _shortened(event: Event) -> Event:
    if len(event.text) <= MAX_TEXT_CHARS:
        return event
    return msgspec.structs.replace(event, text=event.text[:MAX_TEXT_CHARS])
