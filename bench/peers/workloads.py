"""Defines the workloads of the encoders: token ids of real texts, in batches of one length or of natural lengths.

    Workload("8x16") --batch--> 8 texts of 16 tokens        Workload("64_texts") --batch--> 64 texts of natural length
    Workload("zipf") --batch--> 64 texts of 8 to 512 tokens
                     --sample--> the texts on which the accuracy at that length is measured

Texts of a given length are real texts that are concatenated and cut. The batches are the same in every process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from bench.harness.texts import any_stream, some_texts, spread_texts
from model.tokenizer import TextTokenizer

NUM_SOURCES = 1024
"""The number of source texts for texts of a given length."""

SAMPLES = {None: 256, 16: 64, 128: 8, 512: 2}
"""Length -> the number of texts in the sample."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A batch of `num_texts` texts of `length` tokens each.

    If `length` is None, the texts have `lengths`, or their natural lengths if `lengths` is empty.
    """

    name: str
    num_texts: int
    length: int | None
    lengths: tuple[int, ...] = ()

    def texts_per_s(self, ms: float) -> float:
        """Converts the time of the whole batch in ms to texts a second."""
        return 1e3 * self.num_texts / ms

    def batch(self, tokenizer: TextTokenizer) -> list[list[int]]:
        """Returns the token ids of the timed batch."""
        return self._texts(tokenizer, self.num_texts)

    def sample(self, tokenizer: TextTokenizer) -> list[list[int]]:
        """Returns the token ids on which the cosine to full precision is measured: more than a batch of one text."""
        return self._texts(tokenizer, max(self.num_texts, SAMPLES.get(self.length, 1)))

    def _texts(self, tokenizer: TextTokenizer, number: int) -> list[list[int]]:
        if self.lengths:
            sources = tokenizer.encode_many(some_texts(NUM_SOURCES))
            longest = fill_to_length(sources, len(self.lengths), max(self.lengths))
            return [[*ids[: length - 1], ids[-1]] for ids, length in zip(longest, self.lengths, strict=True)]
        if self.length is None:
            return tokenizer.encode_many(some_texts(number))
        return fill_to_length(tokenizer.encode_many(some_texts(NUM_SOURCES)), number, self.length)


def natural(num_texts: int) -> Workload:
    return Workload(f"{num_texts}_texts", num_texts, None)


def fixed(num_texts: int, length: int) -> Workload:
    return Workload(f"{num_texts}x{length}", num_texts, length)


def zipf(num_texts: int, shortest: int, longest: int) -> Workload:
    """Returns a workload whose lengths follow Zipf's law: the probability of a length is proportional to its inverse.

    The lengths are the quantiles of that distribution.

    >>> zipf(3, 10, 80).lengths
    (14, 28, 57)
    """
    ratio = longest / shortest
    lengths = [round(shortest * ratio ** ((place + 0.5) / num_texts)) for place in range(num_texts)]
    return Workload("zipf", num_texts, None, tuple(lengths))


NATURAL = natural(64)
ONE_TOKEN = fixed(1, 1)
ONE_SHORT = fixed(1, 16)
ONE_LONG = fixed(1, 512)
SHORT = (fixed(8, 16), fixed(32, 16), fixed(64, 16))
EIGHT_LONG = fixed(8, 128)
WORKLOADS = (ONE_SHORT, NATURAL, *SHORT, EIGHT_LONG, ONE_LONG)
ZIPF = zipf(64, 8, 512)
BY_NAME = {workload.name: workload for workload in (*WORKLOADS, ONE_TOKEN, ZIPF)}


def calibration_texts(number: int) -> list[str]:
    """Returns training texts, none of which is timed."""
    return spread_texts(any_stream().train_items, number)


def fill_to_length(sources: Sequence[Sequence[int]], number: int, length: int) -> list[list[int]]:
    """Makes `number` texts of exactly `length` tokens from the sources in turn.

    Each text begins and ends with the first and the last token of a source, and joins the inner tokens of sources.

    >>> fill_to_length([[1, 7, 8, 2], [1, 9, 2]], 2, 5)
    [[1, 7, 8, 9, 2], [1, 7, 8, 9, 2]]
    >>> fill_to_length([[1, 7, 2]], 1, 1)
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
