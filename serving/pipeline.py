"""The parts of a replica that Kafka, HTTP and gRPC share: enrichers, tokenizer, queue, engine, outbox.

Event --enrichers--> Event --make_items: truncated, tokenized--> Item --queue--> engine --done(outcome)--> caller
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from model.errors import UnreadableInput
from model.inputs import tokenize_contents
from model.packed import Inputs
from serving.config import ServingConfig
from serving.deaths import Deaths, compute_digest
from serving.engine import Engine
from serving.filters import build_filters
from serving.kafka.outbox import Outbox, OutboxBounds
from serving.kafka.spool import Spool
from serving.observers import Counts
from serving.predict import predict_many
from serving.queue import DEFAULT, BatchQueue, Done, Encode, Item, ItemOptions
from wire.backoff import Backoff
from wire.bus import Bus
from wire.config import TrustConfig
from wire.errors import BadMessage
from wire.events import content
from wire.inputs import INPUTS, MARK, Enricher, cut, encoder_content, is_text, parse_content, sent
from wire.label_set import LabelSet
from wire.receipts import Receipts
from wire.records import Event, text_chars
from wire.timestamps import now_ms

NOTHING_NOTED: Final = Deaths()

log = structlog.get_logger("replica")


def make_encode(tokenizer: Inputs, max_tokens: Callable[[], int]) -> Encode:
    """Returns a function that tokenizes contents. At each call, it gets the current length limit from `max_tokens`."""

    def encode(contents: Sequence[str]) -> list[list[int]]:
        # Without the mark, all contents are plain texts.
        if MARK not in "".join(contents):
            return tokenizer.encode_many(contents, max_tokens=max_tokens())
        return tokenize_contents([parse_content(content) for content in contents], tokenizer, max_tokens())

    return encode


def make_queue(config: ServingConfig, counts: Counts) -> BatchQueue[Item]:
    """Returns an empty queue with the bounds of the settings.

    The counter `abandoned` counts events whose callers no longer wait.
    """
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
    """The parts through which an event passes in a replica: `enrichers`, `encode`, `queue`, `engine`, `outbox`.

    `max_tokens` returns the current length limit in tokens. `has_weights` returns whether weights are loaded; without
    them, no event can be answered.
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

    def items(self, events: Sequence[Event], dones: Sequence[Done], item_options: ItemOptions = DEFAULT) -> list[Item]:
        """Returns an item for each event, with the callback that receives its outcome."""
        # If a request names a version, or asks for a vector, nothing is published, so the event is not enriched.
        if not item_options.version and not item_options.is_embedding:
            for enricher in self.enrichers:
                events = self._enrich(enricher, events)
        return make_items(events, dones, self.encode, item_options, self.max_tokens(), self.deaths)

    def submit(self, events: Sequence[Event], dones: Sequence[Done], item_options: ItemOptions = DEFAULT) -> int:
        """Queues as many of the first events as there is room for, and returns their number. Raises QueueClosed."""
        return self.queue.submit_many(self.items(events, dones, item_options))

    def _enrich(self, enricher: Enricher, events: Sequence[Event]) -> Sequence[Event]:
        """Returns the enriched events; if the enricher fails, the events unchanged."""
        # The enricher may be a plug-in, so any error is caught.
        try:
            enriched = enricher.join(events)
            if [event.id for event in enriched] != [event.id for event in events]:
                raise ValueError("it returns other events")
        except Exception as error:
            log.warning("enricher_failed", error=str(error), exc_info=error)
            self.counts.add("enricher_failures")
            return events
        return enriched

    @property
    def is_ready(self) -> bool:
        """Whether weights are loaded, so that events can be answered."""
        return self.has_weights()

    def count(self, name: str) -> None:
        """Adds one to the counter `name`."""
        self.counts.add(name)


def make_items(
    events: Sequence[Event],
    dones: Sequence[Done],
    encode: Encode,
    item_options: ItemOptions,
    max_tokens: int,
    deaths: Deaths = NOTHING_NOTED,
) -> list[Item]:
    """Returns an item for each event, in order; `dones[i]` receives the outcome of `events[i]`.

    Events are truncated to the length limit. The answer contains the truncated event, so the learner reads exactly what
    the model has read. The rest of the text is not kept. Events that are refused because they kill processes are not
    tokenized.
    """
    # The digest is computed from the event as it was sent, before truncation, so a redelivered event has the same
    # digest.
    digests = [compute_digest(content(event) if is_text(event) else sent(content(event))) for event in events]
    tokens: list[list[int]] = [[]] * len(events)
    unreadable = [""] * len(events)
    truncated = [*events]
    contents = [""] * len(events)
    for rows in deaths.groups(digests):
        with deaths.open([digests[row] for row in rows]):
            for row in rows:
                truncated[row], contents[row], unreadable[row] = _truncate(events[row], max_tokens)
            readable = [row for row in rows if not unreadable[row]]
            try:
                ids_by_row = encode([contents[row] for row in readable])
            except UnreadableInput:
                # One of them is unreadable: tokenize each event alone to find out which.
                ids_by_row = []
                for row in readable:
                    ids, unreadable[row] = _encode_alone(encode, contents[row])
                    ids_by_row.append(ids)
        for row, ids in zip(readable, ids_by_row, strict=True):
            tokens[row] = ids
    return [
        Item(event=event, token_ids=ids, done=done, item_options=item_options, unreadable=reason, digest=digest)
        for event, ids, done, reason, digest in zip(truncated, tokens, dones, unreadable, digests, strict=True)
    ]


def _truncate(event: Event, max_tokens: int) -> tuple[Event, str, str]:
    """Returns the truncated event, its content for the encoder, and the reason why it is unreadable ("": it is not)."""
    max_chars = text_chars(max_tokens)
    if len(event.text) > max_chars:
        event = msgspec.structs.replace(event, text=event.text[:max_chars])
    if is_text(event):
        return event, content(event), ""
    try:
        event = msgspec.structs.replace(event, **cut(event, max_tokens))
    except BadMessage as error:
        return event, "", error.detail
    return event, encoder_content(event), ""


def _encode_alone(encode: Encode, text: str) -> tuple[list[int], str]:
    """Returns the tokens of one content, and the reason why it is unreadable ("": it is not)."""
    try:
        return encode([text])[0], ""
    except UnreadableInput as error:
        return [], str(error)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnricherContext:
    """The parts of a replica that its enrichers may use: see `InputCodec.enricher`.

    `labels` returns the default task's set of labels.
    """

    settings: ServingConfig
    bus: Bus
    receipts: Receipts
    labels: Callable[[], LabelSet]
    trust: TrustConfig
    backoff: Backoff


def make_enrichers(context: EnricherContext) -> list[Enricher]:
    """Returns the enrichers that the settings turn on, not started."""
    enrichers = [codec.enricher(context) for codec in INPUTS.all()]
    return [enricher for enricher in enrichers if enricher is not None]


def assemble_pipeline(
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
    """Returns the pipeline of a replica, with no thread started.

    `name` is the replica's name. `labels` returns the default task's set of labels.
    """
    counts = Counts()
    queue = make_queue(config, counts)
    deaths = Deaths(Path(config.spool_dir) if config.spool_dir else None)
    predict = partial(predict_many, top_scores=config.top_scores, receipts=receipts, now_ms=now_ms)
    engine = Engine(
        queue,
        counts,
        predict,
        precision=config.precision,
        deaths=deaths,
        filters=build_filters(config.audit_share, receipts),
    )

    def max_tokens() -> int:
        live = engine.live
        return live.max_tokens if live else tokenizer.max_tokens

    return Pipeline(
        encode=make_encode(tokenizer, max_tokens),
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
        enrichers=make_enrichers(
            EnricherContext(
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
