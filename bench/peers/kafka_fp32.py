"""Runs the service that one would write in an afternoon: consume, compute in full precision, produce, commit.

    python -m bench.peers.kafka_fp32 BOOTSTRAP NUM_EVENTS THREADS

Reads `peer.events.v1` from its beginning, writes `peer.answers.v1`, and prints events a second from the first batch to
the last acknowledged answer. It gets the help that it can: batches as large as they come, sorted and unpadded.
"""

import json
import sys
import time
from itertools import chain

import torch
from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]

from model.minilm import load_encoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer

MAX_BATCH = 64
NUM_CLASSES = 150
PATIENCE_MS = 30_000
MEASURE_S = 30.0
"""The run ends after this long, or when all events are answered."""


def main(bootstrap: str, num_events: int, threads: int) -> None:
    torch.set_num_threads(threads)
    strata, tokenizer = load_encoder("minilm-l6")
    head_DC = torch.randn(strata.config.d_model, NUM_CLASSES)
    _answer(strata, tokenizer, head_DC, ["warm up"] * MAX_BATCH)
    consumer = KafkaConsumer(
        "peer.events.v1",
        bootstrap_servers=bootstrap,
        group_id="peer",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=MAX_BATCH,
        fetch_max_wait_ms=10,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=500,
    )
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=2)
    start_s = 0.0
    done = 0
    while done < num_events and (not start_s or time.perf_counter() - start_s < MEASURE_S):
        records = list(chain.from_iterable(consumer.poll(PATIENCE_MS).values()))
        if not records:
            raise SystemExit(f"nothing came for {PATIENCE_MS} ms; {done} of {num_events} were answered")
        start_s = start_s or time.perf_counter()
        texts = [json.loads(record.value)["text"] for record in records]
        for record, label in zip(records, _answer(strata, tokenizer, head_DC, texts), strict=True):
            producer.send("peer.answers.v1", key=record.key, value=json.dumps({"label": label}).encode())
        consumer.commit_async()
        done += len(records)
    producer.flush()
    print(json.dumps({"events_per_s": done / (time.perf_counter() - start_s)}))


@torch.no_grad()
def _answer(strata: Strata, tokenizer: TextTokenizer, head_DC: torch.Tensor, texts: list[str]) -> list[int]:
    z_BD = strata(RaggedBatch.of(tokenizer.encode_many(texts)))
    labels: list[int] = (z_BD @ head_DC).argmax(dim=1).tolist()
    return labels


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
