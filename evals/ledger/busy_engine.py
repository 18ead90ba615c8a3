"""Measures for which share of the time a replica's engine computes while texts always wait.

    texts --tokenizer--> BatchQueue, never empty --Engine--> answers         share = time within predict / time of all

Rejected: the whole service under load (the sender would take the processor that is measured).
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial

from model.quantized import QuantizedModel
from model.tokenizer import TextTokenizer
from serving.batcher import Item, Outcome
from serving.config import ServingConfig
from serving.counts import Counts
from serving.engine import Engine
from serving.pipeline import NOTHING_NOTED, encoding, items_of, queue_of
from serving.predict import predict_many
from serving.terms import DEFAULT
from serving.weights.active import ActiveVersions, Version
from wire.receipts import Receipts
from wire.records import STABLE, Answer, Arm, Event, PrecisionEvaluation, RolloutPlan, text_chars

CHUNK = 256
"""Texts that come at once: four batches of the default size."""


def busy_share(model: QuantizedModel, tokenizer: TextTokenizer, texts: Sequence[str], *, seconds: float) -> float:
    """Returns the share, in [0, 1], over at least so many seconds."""
    config = ServingConfig()
    queue = queue_of(config)
    busy_s = 0.0

    def predict(
        events: Sequence[Event], token_ids: Sequence[list[int]], live: ActiveVersions, precisions: Mapping[int, str]
    ) -> list[Answer]:
        nonlocal busy_s
        start_s = time.perf_counter()
        answers = answer(events, token_ids, live, precisions)
        busy_s += time.perf_counter() - start_s
        return answers

    answer = partial(predict_many, top_scores=config.top_scores, receipts=Receipts(b"a key"), now_ms=lambda: 1)
    engine = Engine(queue, Counts(), predict, precision=config.precision, deaths=NOTHING_NOTED)
    engine.activate(_live(model, tokenizer))
    encode = encoding(tokenizer, lambda: tokenizer.max_tokens)
    num_done = 0

    def done(outcome: Outcome) -> None:
        nonlocal num_done
        num_done += 1

    def more(first: int) -> list[Item]:
        chosen = [texts[(first + place) % len(texts)] for place in range(CHUNK)]
        events = [Event(id=str(first + place), text=text, key=str(place)) for place, text in enumerate(chosen)]
        return items_of(events, [done] * CHUNK, encode, DEFAULT, text_chars(tokenizer.max_tokens))

    num_sent = 0
    while num_sent < 4 * CHUNK:
        num_sent += queue.submit_many(more(num_sent))
    engine.start()
    start_s = time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        if len(queue) <= config.max_queue_items - CHUNK:
            num_sent += queue.submit_many(more(num_sent))
        else:
            time.sleep(0.001)
    share = busy_s / (time.perf_counter() - start_s)
    queue.close()
    engine.join(60.0)
    assert num_done == num_sent, "every text has an answer"
    return share


def _live(model: QuantizedModel, tokenizer: TextTokenizer) -> ActiveVersions:
    arm = Arm(name=STABLE, version=1, share=1.0)
    precisions = tuple(PrecisionEvaluation(name=name) for name in model.encoder.precisions)
    version = Version(number=1, model=model, precisions=precisions, num_bytes=0, max_tokens=tokenizer.max_tokens)
    return ActiveVersions(number=1, plan=RolloutPlan(revision=1, salt="s", arms=(arm,)), versions={1: version})
