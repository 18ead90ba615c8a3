"""Checks that both encoders of row E6 are the same, apart from their precision and their spans."""

import json
import subprocess
import sys

import torch

from bench.techniques.lone_server import LEARNED_POSITIONS, OURS, PLAIN, make_encoder, shape_for
from model.ragged import RaggedBatch


def test_only_long_texts_are_rotated_and_routed() -> None:
    short = shape_for(LEARNED_POSITIONS, is_routed=True)
    long = shape_for(1_024, is_routed=True)
    assert (short.positions, short.spans) == ("learned", ())
    assert (long.positions, long.max_pos, len(long.spans)) == ("rope", 1_024, 1)
    assert shape_for(1_024, is_routed=False).spans == ()


@torch.no_grad()
def test_our_encoder_is_the_plain_one_in_int8() -> None:
    batch = RaggedBatch.of([[5, 6, 7, 8]])
    vectors: list[torch.Tensor] = []
    for name in (OURS, PLAIN):
        torch.manual_seed(0)
        vectors.append(make_encoder(name, 16)(batch)[0])
    assert float(vectors[0] @ vectors[1]) > 0.95


def test_each_encoder_prints_its_figures() -> None:
    # The figure is the memory of the whole process, so it runs in a process of its own.
    command = [sys.executable, "-m", "bench.techniques.lone_server", PLAIN, "8", "0.001"]
    measured = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert set(measured) == {"memory", "p50", "rate"} and min(measured.values()) > 0
