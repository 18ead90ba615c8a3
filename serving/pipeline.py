"""The parts that both ways into a replica share, Kafka and HTTP: enrichers, tokenizer, queue, engine, outbox."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from model.errors import UnreadableInput
from model.inputs import tokens_of
from model.packed import Inputs
from serving.config import ServingConfig
from serving.deaths import Deaths, digest_of
from serving.engine import Engine
from serving.filters import filters_of
from serving.kafka.outbox import Outbox, OutboxBounds
from serving.kafka.spool import Spool
from serving.observers import Counts
from serving.predict import predict_many
from serving.queue import DEFAULT, BatchQueue, Done, Encode, Item, Terms
from wire.backoff import Backoff
from wire.bus import Bus
from wire.config import TrustConfig
from wire.errors import BadMessage
from wire.events import content
from wire.inputs import INPUTS, MARK, Enricher, cut, encoded_of, is_text, said_in, sent
from wire.label_set import LabelSet
from wire.receipts import Receipts
from wire.records import Event, text_chars
from wire.timestamps import now_ms

NOTHING_NOTED: Final = Deaths()

log = structlog.get_logger("replica")


def encoding(tokenizer: Inputs, max_tokens: Callable[[], int]) -> Encode:
    """Returns a function that makes tokens of contents, at most as many of each as `max_tokens` returns at that
    time."""

    def encode(contents: Sequence[str]) -> list[list[int]]:
        if MARK not in "".join(contents):  # they are texts alone
            return tokenizer.encode_many(contents, max_tokens=max_tokens())
        return tokens_of([said_in(each) for each in contents], tokenizer, max_tokens())

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
    """An event gets what the `enrichers` add, becomes an `Item` by `encode`, waits in `queue`, is answered by `engine`,
    and leaves by `outbox`.

    `max_tokens` returns how many tokens of an event are read now, `has_weights` whether there are weights to answer
    with.
    """

    encode: Encode
    max_tokens: Callable[[], int]
    queue: BatchQueue[Item]
    engine: Engine
    outbox: Outbox
    counts: Counts
    enrichers: Sequence[Enricher]
    deaths: Deaths
    has_weights: Callable[[], bool]

    def items(self, events: Sequence[Event], dones: Sequence[Done], terms: Terms = DEFAULT) -> list[Item]:
        """Returns an item for each event, with the callback that receives its outcome."""
        # Events on other terms are asked about, and not published.
        if not terms.version and not terms.is_embedding:
            for each in self.enrichers:
                events = self._joined(each, events)
        return items_of(events, dones, self.encode, terms, self.max_tokens(), self.deaths)

    def submit(self, events: Sequence[Event], dones: Sequence[Done], terms: Terms = DEFAULT) -> int:
        """Queues the first events that there is room for, and returns how many. Raises QueueClosed."""
        return self.queue.submit_many(self.items(events, dones, terms))

    def _joined(self, enricher: Enricher, events: Sequence[Event]) -> Sequence[Event]:
        """Returns the events with what an enricher adds; as they are if it fails, as it may be another's."""
        try:
            found = enricher.join(events)
            if [event.id for event in found] != [event.id for event in events]:
                raise ValueError("it returns other events")
        except Exception as error:
            log.warning("enricher_failed", error=str(error), exc_info=error)
            self.counts.add("enricher_failures")
            return events
        return found

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
    max_tokens: int,
    deaths: Deaths = NOTHING_NOTED,
) -> list[Item]:
    """Returns an item for each event, with the callback that receives its outcome.

    From here on an event says no more than its answer carries back: the model reads what the learner will read, and
    nothing longer waits anywhere. What kills the process is not read.
    """
    digests = [digest_of(content(event) if is_text(event) else sent(content(event))) for event in events]
    tokens: list[list[int]] = [[]] * len(events)
    unreadable = [""] * len(events)
    read = [*events]
    encoded = [""] * len(events)
    for rows in deaths.groups(digests):
        with deaths.open([digests[row] for row in rows]):
            for row in rows:
                read[row], encoded[row], unreadable[row] = _cut(events[row], max_tokens)
            readable = [row for row in rows if not unreadable[row]]
            try:
                found = encode([encoded[row] for row in readable])
            except UnreadableInput:
                found = []
                for row in readable:
                    ids, unreadable[row] = _read(encode, encoded[row])
                    found.append(ids)
        for row, ids in zip(readable, found, strict=True):
            tokens[row] = ids
    return [
        Item(event=event, token_ids=ids, done=done, terms=terms, unreadable=why, digest=digest)
        for event, ids, done, why, digest in zip(read, tokens, dones, unreadable, digests, strict=True)
    ]


def _cut(event: Event, max_tokens: int) -> tuple[Event, str, str]:
    """Returns what is read of an event, the content that the encoder reads, and "" or why it cannot be read."""
    max_chars = text_chars(max_tokens)
    if len(event.text) > max_chars:
        event = msgspec.structs.replace(event, text=event.text[:max_chars])
    if is_text(event):
        return event, content(event), ""
    try:
        event = msgspec.structs.replace(event, **cut(event, max_tokens))
    except BadMessage as error:
        return event, "", error.detail
    return event, encoded_of(event), ""


def _read(encode: Encode, said: str) -> tuple[list[int], str]:
    """Returns the tokens of a content, and "" or why it cannot be read."""
    try:
        return encode([said])[0], ""
    except UnreadableInput as error:
        return [], str(error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the enrichers of a replica may ask for: see `InputCodec.enricher`. `labels` are the default task's."""

    settings: ServingConfig
    bus: Bus
    receipts: Receipts
    labels: Callable[[], LabelSet]
    trust: TrustConfig
    backoff: Backoff


def enrichers_of(surroundings: Surroundings) -> list[Enricher]:
    """Returns those that the settings ask for, not started."""
    found = [codec.enricher(surroundings) for codec in INPUTS.all()]
    return [each for each in found if each is not None]


def assembled(
    config: ServingConfig,
    tokenizer: Inputs,
    bus: Bus,
    receipts: Receipts,
    name: str,
    has_weights: Callable[[], bool],
    *,
    labels: Callable[[], LabelSet],
    trust: TrustConfig,
) -> Pipeline:
    """Returns the pipeline of a replica, none of whose threads was started. `labels` are those of the default task."""
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
        enrichers=enrichers_of(
            Surroundings(
                settings=config,
                bus=bus,
                receipts=receipts,
                labels=labels,
                trust=trust,
                backoff=config.reconnect_backoff,
            )
        ),
        deaths=deaths,
        has_weights=has_weights,
    )


def _spool(config: ServingConfig) -> Spool | None:
    if not (config.spool_dir and config.spool_bytes):
        return None
    return Spool(Path(config.spool_dir), max_bytes=config.spool_bytes, is_synced=config.spool_sync)
