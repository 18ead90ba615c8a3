"""The encoder alone: 64 real texts at once, ours against torch in full precision with padding."""

import os
import statistics
from collections.abc import Iterator

from bench.process import measured
from bench.row import Goal, Peer, Row
from bench.supply import Supply

ROUNDS = 2
"""Ours and the peer take turns, so that a slow moment of the machine hits both."""


def measure(supply: Supply) -> Iterator[Row]:
    """On one thread, and on all cores. One thread is what a replica has."""
    for threads in dict.fromkeys((1, len(os.sched_getaffinity(0)))):
        found: dict[str, list[float]] = {"int8": [], "fp32": []}
        for _ in range(ROUNDS):
            for kind, rates in found.items():
                rates.append(measured("bench.peers.encoder_once", kind, str(threads))["texts_per_s"])
        ours, theirs = (round(statistics.median(found[kind])) for kind in ("int8", "fp32"))
        yield Row(
            name=f"encoder.{threads}_threads" if threads > 1 else "encoder.1_thread",
            value=ours,
            unit="texts/s",
            goal=Goal(">=", 1.75 * theirs) if threads > 1 else None,
            peer=Peer("torch fp32, padded", theirs),
        )
