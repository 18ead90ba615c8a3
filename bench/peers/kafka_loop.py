"""Runs a hand-written loop: consume, encode with a library, produce, commit.

    python -m bench.peers.kafka_loop ENCODER BOOTSTRAP NUM_EVENTS THREADS

Reads `peer.events.v1` from its beginning ROUNDS times and writes `peer.answers.v1`. Prints, as JSON, the median rate in
events a second, from the first batch of a round to its last acknowledged answer, and the settings of the encoder; or
the reason why the encoder is missing or left out. A loop has every advantage: batches as large as they come, the
fastest settings of its encoder for such a batch, all cores, and no work except a label.
"""

import json
import sys
import time
from itertools import chain
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]

from bench.peers.engines import build_engine
from bench.peers.rectangles import Encode, Prepared, TokenIds
from bench.peers.workloads import NATURAL
from evals.results.row import Skip
from model.bert import load_encoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer

UNPADDED = "torch fp32 unpadded"
"""An encoder that bench/peers/engines.py does not have: torch in full precision, on a batch without padding."""

MAX_BATCH = NATURAL.num_texts
NUM_CLASSES = 150
ROUNDS = 3
POLL_LIMIT_MS = 30_000
MEASURE_S = 8.0
"""A round ends after this many seconds, or when all events are answered."""


@torch.no_grad()
def main(name: str, bootstrap: str, num_events: int, threads: int) -> None:
    torch.set_num_threads(threads)
    strata, tokenizer = load_encoder("minilm-l6")
    try:
        prepared = _encoder(name, strata, tokenizer, threads)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    except Skip as reason:
        print(json.dumps({"left_out": str(reason)}))
        return
    head_DC = np.random.default_rng(0).standard_normal((strata.config.d_model, NUM_CLASSES), dtype=np.float32)
    loop = KafkaLoop(bootstrap, tokenizer, prepared.encode, head_DC)
    paces = [loop.run(f"{name}-{number}", num_events) for number in range(ROUNDS)]
    print(json.dumps({"events_per_s": median(paces), "how": prepared.how, "is_whole": prepared.is_whole}))


def _encoder(name: str, strata: Strata, tokenizer: TextTokenizer, threads: int) -> Prepared:
    """Makes the encoder and prepares it for a batch. Raises Skip or ImportError like `build_engine`."""
    token_ids = NATURAL.batch(tokenizer)
    if name != UNPADDED:
        return build_engine(name, strata, tokenizer, threads).prepare(token_ids)

    def encode(token_ids: TokenIds) -> npt.NDArray[np.float32]:
        z_BD: npt.NDArray[np.float32] = strata(RaggedBatch.of(token_ids)).numpy()
        return z_BD

    encode(token_ids)
    return Prepared("unpadded", encode)


class KafkaLoop:
    """A loop with one producer. Each run has a new consumer, which reads the topic from its beginning."""

    def __init__(
        self, bootstrap: str, tokenizer: TextTokenizer, encode: Encode, head_DC: npt.NDArray[np.float32]
    ) -> None:
        self._bootstrap = bootstrap
        self._tokenizer = tokenizer
        self._encode = encode
        self._head_DC = head_DC
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)

    def run(self, group: str, num_events: int) -> float:
        """Answers the events of the topic; returns the rate in events a second."""
        consumer = KafkaConsumer(
            "peer.events.v1",
            bootstrap_servers=self._bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=MAX_BATCH,
            fetch_max_wait_ms=5,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=500,
        )
        start_s = 0.0
        done = 0
        while done < num_events and (not start_s or time.perf_counter() - start_s < MEASURE_S):
            records = list(chain.from_iterable(consumer.poll(POLL_LIMIT_MS).values()))
            if not records:
                raise SystemExit(f"no event came for {POLL_LIMIT_MS} ms; {done} of {num_events} were answered")
            start_s = start_s or time.perf_counter()
            texts = [json.loads(record.value)["text"] for record in records]
            for record, label in zip(records, self._labels(texts), strict=True):
                self._producer.send("peer.answers.v1", key=record.key, value=json.dumps({"label": label}).encode())
            consumer.commit_async()
            done += len(records)
        self._producer.flush()
        pace = done / (time.perf_counter() - start_s)
        consumer.close()
        return pace

    def _labels(self, texts: list[str]) -> list[int]:
        z_BD = self._encode(self._tokenizer.encode_many(texts))
        labels: list[int] = (z_BD @ self._head_DC).argmax(axis=1).tolist()
        return labels


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
