"""The parts that both ways into a replica share, Kafka and HTTP: series, tokenizer, queue, engine, outbox, counters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from model.errors import UnreadableInput
from model.packed import Inputs
from serving.config import SeriesConfig, ServingConfig
from serving.deaths import Deaths, digest_of
from serving.engine import Engine
from serving.filters import filters_of
from serving.kafka.outbox import Outbox, OutboxBounds
from serving.kafka.spool import Spool
from serving.observers import Counts
from serving.predict import predict_many
from serving.queue import DEFAULT, BatchQueue, Done, Encode, Item, Terms
from wire.bus import Bus
from wire.events import content
from wire.features import own_content
from wire.receipts import Receipts
from wire.records import Event, text_chars
from wire.timestamps import now_ms

if TYPE_CHECKING:
    from serving.series import Series

NOTHING_NOTED: Final = Deaths()


def encoding(tokenizer: Inputs, max_tokens: Callable[[], int]) -> Encode:
    """Returns a function that tokenizes texts, each to at most as many ids as `max_tokens` returns at that time."""

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return tokenizer.encode_many(texts, max_tokens=max_tokens())

    return encode


def queue_of(config: ServingConfig, counts: Counts) -> BatchQueue[Item]:
    """Returns an empty queue with the bounds of the settings, which counts the events that nobody waits for any more
    (`abandoned`)."""
    return BatchQueue(
        max_items=config.max_queue_items,
        max_bytes=config.max_queue_bytes,
        max_batch_items=config.max_batch_items,
        max_batch_tokens=config.max_batch_tokens,
        max_wait_ms=config.max_wait_ms,
        on_abandoned=partial(counts.add, "abandoned"),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """An event joins its `series` (None: there are none), becomes an `Item` by `encode`, waits in `queue`, is answered
    by `engine`, and leaves by `outbox`.

    `max_tokens` returns how many tokens of a text are read now, `has_weights` whether there are weights to answer with.
    """

    encode: Encode
    max_tokens: Callable[[], int]
    queue: BatchQueue[Item]
    engine: Engine
    outbox: Outbox
    counts: Counts
    series: "Series | None"
    deaths: Deaths
    has_weights: Callable[[], bool]

    def items(self, events: Sequence[Event], dones: Sequence[Done], terms: Terms = DEFAULT) -> list[Item]:
        """Returns an item for each event, with the callback that receives its outcome."""
        # Events on other terms are asked about, and not published.
        if self.series is not None and not terms.version and not terms.is_embedding:
            events = self.series.joined(events)
        return items_of(events, dones, self.encode, terms, text_chars(self.max_tokens()), self.deaths)

    def submit(self, events: Sequence[Event], dones: Sequence[Done], terms: Terms = DEFAULT) -> int:
        """Queues the first events that there is room for, and returns how many. Raises QueueClosed."""
        return self.queue.submit_many(self.items(events, dones, terms))

    @property
    def is_ready(self) -> bool:
        """Whether there are weights to answer with."""
        return self.has_weights()

    def count(self, name: str) -> None:
        """Adds one to the counter `name`."""
        self.counts.add(name)


def items_of(
    events: Sequence[Event],
    dones: Sequence[Done],
    encode: Encode,
    terms: Terms,
    max_chars: int,
    deaths: Deaths = NOTHING_NOTED,
) -> list[Item]:
    """Returns an item for each event, with the callback that receives its outcome.

    From here on a text has at most `max_chars`, the length that an answer carries back: the model reads what the
    learner will read, and no longer text waits anywhere. What kills the process is not read.
    """
    events = [
        msgspec.structs.replace(event, text=event.text[:max_chars]) if len(event.text) > max_chars else event
        for event in events
    ]
    contents = [content(event) for event in events]
    digests = [
        digest_of(own_content(said) if event.features else said) for event, said in zip(events, contents, strict=True)
    ]
    tokens: list[list[int]] = [[]] * len(events)
    unreadable = [""] * len(events)
    for rows in deaths.groups(digests):
        with deaths.open([digests[row] for row in rows]):
            try:
                encoded = encode([events[row].text for row in rows])
            except UnreadableInput:
                encoded = []
                for row in rows:
                    ids, unreadable[row] = _read(encode, events[row].text)
                    encoded.append(ids)
        for row, ids in zip(rows, encoded, strict=True):
            tokens[row] = ids
    return [
        Item(event=event, token_ids=ids, done=done, terms=terms, unreadable=why, digest=digest)
        for event, ids, done, why, digest in zip(events, tokens, dones, unreadable, digests, strict=True)
    ]


def _read(encode: Encode, text: str) -> tuple[list[int], str]:
    """Returns the tokens of a text, and "" or why the encoder of the user cannot read it."""
    try:
        return encode([text])[0], ""
    except UnreadableInput as error:
        return [], str(error)


def assembled(
    config: ServingConfig,
    tokenizer: Inputs,
    bus: Bus,
    receipts: Receipts,
    name: str,
    has_weights: Callable[[], bool],
) -> Pipeline:
    """Returns the pipeline of a replica, none of whose threads was started."""
    counts = Counts()
    queue = queue_of(config, counts)
    deaths = Deaths(Path(config.spool_dir) if config.spool_dir else None)
    predict = partial(predict_many, top_scores=config.top_scores, receipts=receipts, now_ms=now_ms)
    engine = Engine(
        queue,
        counts,
        predict,
        precision=config.precision,
        deaths=deaths,
        filters=filters_of(config.audit_share, receipts),
    )

    def max_tokens() -> int:
        live = engine.live
        return live.max_tokens if live else tokenizer.max_tokens

    return Pipeline(
        encode=encoding(tokenizer, max_tokens),
        max_tokens=max_tokens,
        queue=queue,
        engine=engine,
        outbox=Outbox(
            bus.publisher,
            counts,
            OutboxBounds(
                max_items=config.max_queue_items, max_bytes=config.outbox_bytes, backoff=config.reconnect_backoff
            ),
            name=name,
            spool=_spool(config),
        ),
        counts=counts,
        series=_series(config.series),
        deaths=deaths,
        has_weights=has_weights,
    )


def _series(config: SeriesConfig) -> "Series | None":
    if not config.is_used:
        return None
    from serving.series import Series

    return Series(config)


def _spool(config: ServingConfig) -> Spool | None:
    if not (config.spool_dir and config.spool_bytes):
        return None
    return Spool(Path(config.spool_dir), max_bytes=config.spool_bytes, is_synced=config.spool_sync)
