"""Provides the texts on which static quantization measures the range of every activation; none of them is timed."""

from collections.abc import Iterator
from itertools import cycle, islice

from bench.peers.rectangles import Ids, pad
from bench.peers.workloads import calibration_texts, fill_to_length
from model.tokenizer import TextTokenizer

ENCODER = "minilm-l6"
NUM_NATURAL = 270
LONG = (64, 128, 128, 256, 512) * 6
"""The lengths of the long texts in the set. Without these the cosine at 512 tokens is 0.986 instead of 0.996."""

NUM_BATCHES = NUM_NATURAL + len(LONG)


def calibration_batches() -> Iterator[tuple[Ids, Ids]]:
    """Yields ids_BT and mask_BT of one text at a time: NUM_NATURAL texts as they are, and one of each long length."""
    token_ids = TextTokenizer.from_encoder(ENCODER).encode_many(calibration_texts(NUM_NATURAL))
    yield from (pad([ids]) for ids in token_ids)
    sources = cycle(token_ids)
    for length in LONG:
        yield pad(fill_to_length(list(islice(sources, length)), 1, length))
