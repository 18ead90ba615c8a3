"""Where streams come from: the carried data set, CLINC150, or a folder of lines.

    load(name) -> lines, each with its stage and where it was read -> checked -> Stream

Rejected: a data set library. One format of lines is enough, and the demo must work offline.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.streams.stream import Stage, Stream, StreamItem, limited, shuffled
from learner.errors import DataError
from wire.records import MAX_EVENT_BYTES

SUPPORT = "support"
CLINC150 = "clinc150"
CARRIED = Path(__file__).parent / SUPPORT

MAX_STAGES = 10
"""Stages that are made of a data set which names none."""

MAX_TEXT_BYTES = MAX_EVENT_BYTES // 2
"""Room is left for what surrounds a text in its event."""

CLINC150_HOWTO = (
    "git clone https://github.com/clinc/oos-eval, put its data/data_full.json and data/domains.json in a folder "
    "clinc150, and let LIFELONG_DATA name the folder around it"
)

FEWSHOT_HOWTO = (
    "join seq.in and label of Datasets/CLINC150/train_5 or train_10 in https://github.com/jianguoz/"
    "Few-Shot-Intent-Detection line by line (paste seq.in label)"
)


@dataclass(frozen=True, slots=True)
class DataLine:
    """An item, its stage if it names one, and `origin`: the file and line it was read from."""

    item: StreamItem
    stage: str | None
    origin: str


def load(name: str, data: Path | None, *, num_events: int | None = None, seed: int = 0) -> Stream:
    """The stream `name`: `support`, `clinc150` (in the folder `clinc150` of `data`), or the path of a folder.

    `num_events` bounds the training events, spread evenly over the stages; `seed` shuffles inside each stage.
    Raises `DataError`.
    """
    stages = _clinc150(data) if name == CLINC150 else _folder(CARRIED if name == SUPPORT else Path(name))
    return limited(shuffled(Stream(name, stages), seed), num_events)


def fewshot(shots: int, data: Path | None) -> list[StreamItem]:
    """The draw of `shots` texts for each class of CLINC150 that few-shot studies share (Zhang et al. 2021).

    Raises `DataError`.
    """
    path = _in_clinc150(data) / f"fewshot_{shots}.tsv"
    found = _plain_or_gz(path)
    if found is None:
        raise DataError(f"{path} is missing: a line for each text, then a tab, then its class; {FEWSHOT_HOWTO}")
    lines = [line.split("\t") for line in _text(found).splitlines()]
    odd = next((number for number, line in enumerate(lines, start=1) if len(line) != 2), None)
    if odd is not None:
        raise DataError(f"{found}:{odd}: expected a text, a tab, and a class")
    return [StreamItem(text, label) for text, label in lines]


def stages_of_labels(labels: Sequence[str], max_stages: int = MAX_STAGES) -> dict[str, str]:
    """Which stage each label goes to: equally many labels a stage, in the order the labels appear in.

    As many stages as divide the number of labels, at most `max_stages` and at least two labels in each, else one.

    >>> stages_of_labels(["b", "a", "b", "c", "d"])
    {'b': 'stage 1', 'a': 'stage 1', 'c': 'stage 2', 'd': 'stage 2'}
    """
    distinct = list(dict.fromkeys(labels))
    fitting = (n for n in range(max_stages, 1, -1) if len(distinct) % n == 0 and len(distinct) >= 2 * n)
    size = len(distinct) // next(fitting, 1)
    return {label: f"stage {place // size + 1}" for place, label in enumerate(distinct)}


def _clinc150(data: Path | None) -> tuple[Stage, ...]:
    """The in-scope part of CLINC150 (Larson et al., 2019): a stage is a domain, in the order of `domains.json`."""
    folder = _in_clinc150(data)
    full = _json(folder / "data_full.json")
    domains = _json(folder / "domains.json")
    try:
        stage_of = {intent: domain for domain, intents in domains.items() for intent in intents}
        train, test = (
            [DataLine(StreamItem(text, intent), stage_of[intent], str(folder)) for text, intent in full[split]]
            for split in ("train", "test")
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder} is not the published CLINC150 ({error!r}); {CLINC150_HOWTO}") from error
    return _stages(tuple(domains), train, test)


def _in_clinc150(data: Path | None) -> Path:
    if data is None:
        raise DataError(f"{CLINC150}: LIFELONG_DATA names no folder of data sets; {CLINC150_HOWTO}")
    return data / CLINC150


def _json(path: Path) -> Any:
    found = _plain_or_gz(path)
    if found is None:
        raise DataError(f"{path} is missing; {CLINC150_HOWTO}")
    try:
        return json.loads(_text(found))
    except ValueError as error:
        raise DataError(f"{found}: {error}") from error


def _folder(folder: Path) -> tuple[Stage, ...]:
    if not folder.is_dir():
        raise DataError(
            f"no data set {str(folder)!r}: say {SUPPORT}, {CLINC150}, or a folder with train.jsonl and test.jsonl"
        )
    train = _lines(folder / "train.jsonl")
    test = _lines(folder / "test.jsonl")
    if train[0].stage is None:
        stage_of = stages_of_labels([line.item.label for line in train])
        train, test = ([replace(line, stage=stage_of.get(line.item.label)) for line in each] for each in (train, test))
    return _stages(tuple(dict.fromkeys(str(line.stage) for line in train)), train, test)


def _lines(path: Path) -> list[DataLine]:
    """The lines of `path` (or `path`.gz), all of them with a stage or none."""
    found = _plain_or_gz(path)
    if found is None:
        raise DataError(f'{path} is missing (or {path.name}.gz), with lines {{"text": ..., "label": ...}}')
    lines = list(_parsed(found))
    if not lines:
        raise DataError(f"{found} is empty")
    odd = next((line for line in lines if (line.stage is None) != (lines[0].stage is None)), None)
    if odd is not None:
        raise DataError(f"{odd.origin}: either every line has a stage or none has")
    return lines


def _parsed(path: Path) -> Iterator[DataLine]:
    for number, text in enumerate(_text(path).split("\n"), start=1):
        if text.strip():
            yield _parse(text, f"{path}:{number}")


def _parse(text: str, origin: str) -> DataLine:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise DataError(f"{origin}: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise DataError(f"{origin}: not an object but {type(fields).__name__}")
    for name in ("text", "label"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise DataError(f"{origin}: {name!r} must be a string with something in it, not {fields.get(name)!r}")
    stage = fields.get("stage")
    if stage is not None and not isinstance(stage, str):
        raise DataError(f"{origin}: 'stage' must be a string, not {stage!r}")
    return DataLine(StreamItem(_sendable(fields["text"], origin), _sendable(fields["label"], origin)), stage, origin)


def _sendable(text: str, origin: str) -> str:
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError as error:  # "\\ud800" is JSON, but no text
        raise DataError(f"{origin}: {error}") from error
    if num_bytes > MAX_TEXT_BYTES:
        raise DataError(f"{origin}: {num_bytes} bytes of text; an event takes {MAX_TEXT_BYTES}")
    return text


def _stages(names: Sequence[str], train: Sequence[DataLine], test: Sequence[DataLine]) -> tuple[Stage, ...]:
    _check_test(names, {line.item.label for line in train}, test)
    stages = tuple(Stage(name, _items(train, name), _items(test, name)) for name in names)
    for stage in stages:
        if not stage.train or not stage.test:
            raise DataError(f"stage {stage.name!r} has {len(stage.train)} training and {len(stage.test)} test items")
    return stages


def _check_test(names: Sequence[str], labels: set[str], test: Sequence[DataLine]) -> None:
    for line in test:
        if line.item.label not in labels:
            raise DataError(f"{line.origin}: no training item has the label {line.item.label!r}")
        if line.stage not in names:
            raise DataError(f"{line.origin}: no training item has the stage {line.stage!r}")


def _items(lines: Sequence[DataLine], stage: str) -> tuple[StreamItem, ...]:
    return tuple(line.item for line in lines if line.stage == stage)


def _plain_or_gz(path: Path) -> Path | None:
    return next((each for each in (path, path.with_name(f"{path.name}.gz")) if each.is_file()), None)


def _text(path: Path) -> str:
    """The text of a file, unpacked where its name ends in .gz."""
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
