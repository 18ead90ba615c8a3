"""The texts and tasks that a command is given: data sets by name, folders of lines, and files of texts.

NAME, FOLDER, FILE.txt --> token ids without labels        NAME, FOLDER --> token ids and classes
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from evals.streams.text_sets import text_set
from learner.errors import DataError
from model.convert.heads import LabelledTexts
from model.packed import Inputs

MAX_TEXTS = 1_000_000
"""The most texts of a command."""


def unlabelled(names: Sequence[str], data: Path | None, tokenizer: Inputs) -> list[list[int]]:
    """Returns the token ids of the training texts of all sets, each text once. Raises DataError."""
    texts: dict[str, None] = {}
    for name in names:
        texts |= dict.fromkeys(_texts_of(name, data))
    if not texts:
        raise DataError("no texts: name a data set, a folder of lines, or a file with a text in each line")
    if len(texts) > MAX_TEXTS:
        raise DataError(f"{len(texts)} texts; at most {MAX_TEXTS} can be used")
    return tokenizer.encode_many(list(texts))


def labelled(
    names: Sequence[str], data: Path | None, tokenizer: Inputs, *, max_texts: int, seed: int
) -> list[LabelledTexts]:
    """Returns at most `max_texts` training texts of each set, with their classes. Raises DataError."""
    if not names:
        raise DataError("no task: name a data set or a folder of lines with labels")
    tasks: list[LabelledTexts] = []
    for name in names:
        whole = text_set(name, data)
        rows = {label: row for row, label in enumerate(whole.labels)}
        items = whole.cut(train=max_texts, test=0, seed=seed).train
        labels_B = torch.tensor([rows[item.label] for item in items])
        tasks.append(LabelledTexts(tokenizer.encode_many([item.text for item in items]), labels_B))
    return tasks


def _texts_of(name: str, data: Path | None) -> list[str]:
    path = Path(name)
    if path.suffix != ".txt":
        return [item.text for item in text_set(name, data).train]
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    return [line for line in lines if line.strip()]
