"""Runs a replica's engine in this process: its queue, batches, precision and head, without Kafka and HTTP.

texts --tokenizer--> BatchQueue --Engine--> answers         `answer_labels`: the label of each text
the same with a queue that is never empty                   `busy_share`: time within predict / all time
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from model.quantized import QuantizedModel
from model.tokenizer import TextTokenizer
from serving.config import ServingConfig
from serving.encodings import EncodingCache
from serving.engine import Engine
from serving.models import ActiveVersions, Version
from serving.observers import Counts
from serving.pipeline import NOTHING_NOTED, make_encode, make_items, make_queue
from serving.predict import predict_many
from serving.queue import DEFAULT, BatchQueue, Item, Outcome
from wire.receipts import Receipts
from wire.records import STABLE, Answer, Arm, Event, PrecisionEvaluation, RolloutPlan

CHUNK = 256
"""The number of texts that are submitted at once: four batches of the default size."""

DRAIN_S = 600.0


class RunningEngine:
    """An engine with one version. It answers every text that the queue accepts."""

    def __init__(self, model: QuantizedModel, tokenizer: TextTokenizer) -> None:
        config = ServingConfig()
        self.busy_s = 0.0
        """The time within predict, in seconds."""
        self.answers: dict[str, Answer] = {}
        """Event id -> answer."""
        counts = Counts()
        self.queue: BatchQueue[Item] = make_queue(config, counts)
        self.max_items = config.max_queue_items
        self._predict_many = partial(
            predict_many, top_scores=config.top_scores, receipts=Receipts(b"a key"), now_ms=lambda: 1
        )
        self._engine = Engine(self.queue, counts, self._predict, precision=config.precision, deaths=NOTHING_NOTED)
        self._engine.activate(_live(model, tokenizer))
        self._encode = make_encode(tokenizer, lambda: tokenizer.max_tokens)
        self._max_tokens = tokenizer.max_tokens

    def submit(self, first: int, texts: Sequence[str]) -> int:
        """Submits texts as events with the ids `first`, `first + 1`, ... Returns the number that the queue accepted."""
        events = [Event(id=str(first + place), text=text, key=str(place)) for place, text in enumerate(texts)]
        dones = [partial(self._done, event.id) for event in events]
        return self.queue.submit_many(make_items(events, dones, self._encode, DEFAULT, self._max_tokens))

    def start(self) -> None:
        self._engine.start()

    def close(self) -> None:
        """Answers all waiting texts, and ends the engine's thread."""
        self.queue.close()
        self._engine.join(DRAIN_S)

    def _done(self, name: str, outcome: Outcome) -> None:
        assert isinstance(outcome, Answer), outcome
        self.answers[name] = outcome

    def _predict(
        self,
        events: Sequence[Event],
        token_ids: Sequence[list[int]],
        live: ActiveVersions,
        precisions: Mapping[int, str],
        encodings: EncodingCache | None,
    ) -> list[Answer]:
        start_s = time.perf_counter()
        answers = self._predict_many(events, token_ids, live, precisions, encodings)
        self.busy_s += time.perf_counter() - start_s
        return answers


@contextmanager
def running(model: QuantizedModel, tokenizer: TextTokenizer) -> Iterator[RunningEngine]:
    """Yields an engine that is not started yet. On exit every text has an answer."""
    engine = RunningEngine(model, tokenizer)
    try:
        yield engine
    finally:
        engine.close()


def answer_labels(model: QuantizedModel, tokenizer: TextTokenizer, texts: Sequence[str]) -> list[Any]:
    """Returns the label that an engine with this model gives to each text."""
    num_sent = 0
    with running(model, tokenizer) as engine:
        engine.start()
        while num_sent < len(texts):
            num_sent += engine.submit(num_sent, texts[num_sent : num_sent + CHUNK])
    return [engine.answers[str(place)].label for place in range(len(texts))]


def busy_share(model: QuantizedModel, tokenizer: TextTokenizer, texts: Sequence[str], *, seconds: float) -> float:
    """Returns the fraction of time in which the engine computes while the queue is never empty, in [0, 1]."""

    def submit_chunk() -> int:
        chunk = [texts[(num_sent + place) % len(texts)] for place in range(CHUNK)]
        return engine.submit(num_sent, chunk)

    num_sent = 0
    with running(model, tokenizer) as engine:
        while num_sent < 4 * CHUNK:
            num_sent += submit_chunk()
        start_s = time.perf_counter()
        engine.start()
        while time.perf_counter() - start_s < seconds:
            if len(engine.queue) <= engine.max_items - CHUNK:
                num_sent += submit_chunk()
            else:
                time.sleep(0.001)
        share = engine.busy_s / (time.perf_counter() - start_s)
    assert len(engine.answers) == num_sent, "every text has an answer"
    return share


def _live(model: QuantizedModel, tokenizer: TextTokenizer) -> ActiveVersions:
    arm = Arm(name=STABLE, version=1, share=1.0)
    precisions = tuple(PrecisionEvaluation(name=name) for name in model.encoder.precisions)
    version = Version(number=1, model=model, precisions=precisions, num_bytes=0, max_tokens=tokenizer.max_tokens)
    return ActiveVersions(number=1, plan=RolloutPlan(revision=1, salt="s", arms=(arm,)), versions={1: version})
