"""The parts that both ways into a replica share, Kafka and HTTP: tokenizer, queue, engine, outbox and counters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from model.tokenizer import TextTokenizer
from serving.batcher import BatchQueue
from serving.counts import Counts
from serving.engine import Engine
from serving.item import Done, Item, always
from serving.kafka.outbox import Outbox
from wire.records import MAX_TEXT_CHARS, Event

Encode: TypeAlias = Callable[[Sequence[str]], list[list[int]]]


def encoding(tokenizer: TextTokenizer, max_tokens: Callable[[], int]) -> Encode:
    """Returns a function that tokenizes texts, each to at most as many ids as `max_tokens` returns at that time.

    Texts are tokenized before the queue, so that every item knows its cost.
    """

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return tokenizer.encode_many(texts, max_tokens=max_tokens())

    return encode


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

    def count(self, name: str) -> None:
        """Adds one to the counter `name`."""
        self.counts.add(name)

    def items(
        self, events: Sequence[Event], dones: Sequence[Done], is_wanted: Callable[[], bool] = always
    ) -> list[Item]:
        """Returns an item for the queue for each event, with the callback that receives its outcome.

        From here on a text has at most the length that an answer carries back: the model reads what the learner will
        read, and no longer text waits anywhere.
        """
        events = [_truncated(event) for event in events]
        token_ids = self.encode([event.text for event in events])
        return [
            Item(event=event, token_ids=tokens, done=done, is_wanted=is_wanted)
            for event, tokens, done in zip(events, token_ids, dones, strict=True)
        ]


def _truncated(event: Event) -> Event:
    if len(event.text) <= MAX_TEXT_CHARS:
        return event
    return msgspec.structs.replace(event, text=event.text[:MAX_TEXT_CHARS])
