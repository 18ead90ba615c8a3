"""Labelled texts for several tasks: CLINC150, SNIPS, TREC-6, SST-2, CUAD's clauses, the bundled data set, or a folder.

    text_set(name) -> TextSet: training and test items --cut--> a random sample of them

Sets in tab-separated files (text, label, maybe more columns) are read here. The other sets are streams
(`evals/streams/data.py`), whose stages are joined. CUAD has no test set of clauses, so the clauses of every fifth
contract are the test set; no contract is in both.
"""

import gzip
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evals.streams.data import load
from evals.streams.stream import StreamItem
from learner.errors import DataError

TABLES = ("snips", "trec6", "sst2")
"""The sets in tab-separated files: train.tsv.gz and test.tsv.gz in a folder of the set's name."""


CUAD = "cuad"

CUAD_TEST_EVERY = 5
"""The clauses of one contract in this many are test items."""


@dataclass(frozen=True, slots=True)
class TextSet:
    """A task: training items, and test items of the same classes."""

    name: str
    train: Sequence[StreamItem]
    test: Sequence[StreamItem]

    @property
    def labels(self) -> list[str]:
        return sorted({item.label for item in self.train})

    def cut(self, *, train: int, test: int, seed: int) -> "TextSet":
        """Returns a random sample of at most `train` and `test` items. The training sample is balanced over classes."""
        rng = random.Random(seed)
        return replace(self, train=_balanced(self.train, train, rng), test=_drawn(self.test, test, rng))


def text_set(name: str, data: Path | None) -> TextSet:
    """Loads a set by its name, or from a folder with train.jsonl and test.jsonl. Raises DataError."""
    if name in (*TABLES, CUAD):
        if data is None:
            raise DataError(f"{name}: LIFELONG_DATA names no folder of data sets; it would have a folder {name}")
        if name == CUAD:
            return _clauses(data / CUAD / "clauses.tsv.gz")
        return TextSet(name, _items(data / name / "train.tsv.gz"), _items(data / name / "test.tsv.gz"))
    stream = load(name, data)
    return TextSet(name, stream.train_items, stream.test_items)


def _items(path: Path) -> tuple[StreamItem, ...]:
    return tuple(StreamItem(cells[0], cells[1]) for cells in _rows(path, num_columns=2))


def _clauses(path: Path) -> TextSet:
    """Reads clauses: a text, a class and a contract in each line."""
    rows = _rows(path, num_columns=3)
    tested = set(sorted({contract for *_, contract in rows})[::CUAD_TEST_EVERY])
    train, test = (
        tuple(StreamItem(text, label) for text, label, contract in rows if (contract in tested) == is_test)
        for is_test in (False, True)
    )
    return TextSet(CUAD, train, test)


def _rows(path: Path, *, num_columns: int) -> list[list[str]]:
    """Returns the first columns of each line. Raises DataError, which names the line."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    rows = [line.split("\t") for line in lines if line.strip()]
    wrong = next(
        (place for place, cells in enumerate(rows, 1) if len(cells) < num_columns or not cells[0].strip()), None
    )
    if wrong is not None or not rows:
        columns = ("a text and a class", "a text, a class and a contract")[num_columns - 2]
        raise DataError(f"{path}:{wrong or 1}: expected {columns}, separated by tabs")
    return [cells[:num_columns] for cells in rows]


def _balanced(items: Sequence[StreamItem], count: int, rng: random.Random) -> list[StreamItem]:
    """Returns `count` items in random order, balanced: one of every class, then a second of every class, and so on."""
    by_rank: list[tuple[int, float, StreamItem]] = []
    ranks: dict[str, int] = {}
    for item in _drawn(items, len(items), rng):
        ranks[item.label] = ranks.get(item.label, -1) + 1
        by_rank.append((ranks[item.label], rng.random(), item))
    chosen = sorted(by_rank, key=lambda entry: entry[:2])[:count]
    return [item for _, _, item in sorted(chosen, key=lambda entry: entry[1])]


def _drawn(items: Sequence[StreamItem], count: int, rng: random.Random) -> list[StreamItem]:
    return rng.sample(list(items), min(count, len(items)))
