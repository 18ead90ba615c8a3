"""What the encoders are timed on: token ids of real texts, in batches of one length or as they come.

    Work("8x16") --batch--> 8 texts of 16 tokens        Work("64_texts") --batch--> 64 texts of natural length
                 --sample--> what the accuracy at that length is taken over

Texts of a given length are real ones laid end to end. All is the same in every process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from bench.row import Skip
from bench.texts import clinc150, some_texts
from evals.streams.data import SUPPORT, load
from model.tokenizer import TextTokenizer

NUM_SOURCES = 1024
"""Texts that longer ones are made of."""

SAMPLES = {None: 256, 16: 64, 128: 8, 512: 2}
"""Length -> texts in the sample."""


@dataclass(frozen=True, slots=True)
class Work:
    """`num_texts` texts of `length` tokens each; None: of the length they have."""

    name: str
    num_texts: int
    length: int | None

    def texts_per_s(self, ms: float) -> float:
        """`ms` for the whole batch."""
        return 1e3 * self.num_texts / ms

    def batch(self, tokenizer: TextTokenizer) -> list[list[int]]:
        """What is timed."""
        return self._texts(tokenizer, self.num_texts)

    def sample(self, tokenizer: TextTokenizer) -> list[list[int]]:
        """What the cosine to full precision is taken over: a batch of one says little."""
        return self._texts(tokenizer, max(self.num_texts, SAMPLES.get(self.length, 1)))

    def _texts(self, tokenizer: TextTokenizer, number: int) -> list[list[int]]:
        if self.length is None:
            return tokenizer.encode_many(some_texts(number))
        return filled(tokenizer.encode_many(some_texts(NUM_SOURCES)), number, self.length)


def natural(num_texts: int) -> Work:
    return Work(f"{num_texts}_texts", num_texts, None)


def fixed(num_texts: int, length: int) -> Work:
    return Work(f"{num_texts}x{length}", num_texts, length)


NATURAL = natural(64)
ONE_TOKEN = fixed(1, 1)
ONE_SHORT = fixed(1, 16)
ONE_LONG = fixed(1, 512)
SHORT = (fixed(8, 16), fixed(32, 16), fixed(64, 16))
EIGHT_LONG = fixed(8, 128)
WORKS = (ONE_SHORT, NATURAL, *SHORT, EIGHT_LONG, ONE_LONG)
BY_NAME = {work.name: work for work in (*WORKS, ONE_TOKEN)}


def calibration_texts(number: int) -> list[str]:
    """Texts to learn from, which are none of those that are timed."""
    try:
        stream = clinc150()
    except Skip:
        stream = load(SUPPORT, None)
    texts = list(dict.fromkeys(item.text for stage in stream.stages for item in stage.train))
    return texts[:: max(1, len(texts) // number)][:number]


def filled(sources: Sequence[Sequence[int]], number: int, length: int) -> list[list[int]]:
    """`number` texts of exactly `length` tokens: the insides of the sources one after the other, framed like each.

    >>> filled([[1, 7, 8, 2], [1, 9, 2]], 2, 5)
    [[1, 7, 8, 9, 2], [1, 7, 8, 9, 2]]
    >>> filled([[1, 7, 2]], 1, 1)
    [[1]]
    """
    first = sources[0][0]
    last = sources[0][-1]
    endless = cycle(sources)
    texts: list[list[int]] = []
    for _ in range(number):
        inside: list[int] = []
        while len(inside) < length - 2:
            inside += next(endless)[1:-1]
        texts.append([first, *inside[: max(0, length - 2)], last][:length])
    return texts
