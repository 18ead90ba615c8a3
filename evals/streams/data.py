"""Loads a stream: the bundled data set, CLINC150, or a folder of JSON lines.

load(name) -> lines, each with its stage and its origin -> checked -> Stream
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.streams.stream import Stage, Stream, StreamItem, TextStage
from learner.errors import DataError
from wire.records import MAX_EVENT_BYTES

SUPPORT = "support"
CLINC150 = "clinc150"
DIGITS = "digits"
BUNDLED = Path(__file__).parent / SUPPORT

SPLITS = ("test", "val")
"""The splits on which a stream may be tested. Settings were chosen on `val`, so results on `test` generalise better."""

MAX_STAGES = 10
"""The most stages into which a data set without named stages is divided."""

MAX_TEXT_BYTES = MAX_EVENT_BYTES // 2
"""The longest text, in bytes. The other half of an event is left for its other fields."""

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
    """An item, its stage if the line names one, and its `origin`: the file and the line number."""

    item: StreamItem
    stage: str | None
    origin: str


def load(
    name: str, data: Path | None, *, split: str = SPLITS[0], num_events: int | None = None, seed: int = 0
) -> Stream:
    """Loads the stream `name`: `support`, or `clinc150` or `digits` (in folders of `data`), or the path of a folder.

    The test items are from `split`. At most `num_events` training events are loaded, spread evenly over the stages, and
    shuffled with `seed` within each stage. Raises DataError.
    """
    if split not in SPLITS:
        raise DataError(f"no split {split!r}: choose {' or '.join(SPLITS)}")
    folder = BUNDLED if name == SUPPORT else Path(name)
    if name == DIGITS:
        # The other streams need no torch and no decoders.
        from evals.streams.digits import stages as digits

        stages = digits(data)
    else:
        stages = _clinc150(data, split) if name == CLINC150 else _folder(folder, split)
    return Stream(name, stages).shuffled(seed).limited(num_events)


def fewshot(shots: int, data: Path | None) -> list[StreamItem]:
    """Loads the few-shot sample of CLINC150 with `shots` texts for each class (Zhang et al. 2021). Raises DataError."""
    path = _in_clinc150(data) / f"fewshot_{shots}.tsv"
    file = _plain_or_gz(path)
    if file is None:
        raise DataError(f"{path} is missing: a line for each text, then a tab, then its class; {FEWSHOT_HOWTO}")
    items = []
    for number, line in enumerate(_text(file).splitlines(), start=1):
        cells = line.split("\t")
        if len(cells) != 2:
            raise DataError(f"{file}:{number}: expected a text, a tab, and a class")
        items.append(StreamItem(*cells))
    return items


def assign_stages(labels: Sequence[str], max_stages: int = MAX_STAGES) -> dict[str, str]:
    """Assigns a stage to each label. All stages have equally many labels, in the order in which the labels appear.

    The number of stages is the largest number up to `max_stages` that divides the number of labels and leaves at least
    two labels in each stage. If there is no such number, there is one stage.

    >>> assign_stages(["b", "a", "b", "c", "d"])
    {'b': 'stage 1', 'a': 'stage 1', 'c': 'stage 2', 'd': 'stage 2'}
    """
    distinct = list(dict.fromkeys(labels))
    divisors = (n for n in range(max_stages, 1, -1) if len(distinct) % n == 0 and len(distinct) >= 2 * n)
    size = len(distinct) // next(divisors, 1)
    return {label: f"stage {index // size + 1}" for index, label in enumerate(distinct)}


def _clinc150(data: Path | None, split: str) -> tuple[TextStage, ...]:
    """Loads the in-scope part of CLINC150 (Larson et al., 2019). Stages are domains, in the order of `domains.json`."""
    folder = _in_clinc150(data)
    full = _json(folder / "data_full.json")
    domains = _json(folder / "domains.json")
    try:
        stage_of: dict[str, str] = {}
        for domain, intents in dict(domains).items():
            stage_of |= dict.fromkeys(intents, domain)
        train = _clinc150_lines(full["train"], stage_of, str(folder))
        test = _clinc150_lines(full[split], stage_of, str(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder} is not the published CLINC150 ({error!r}); {CLINC150_HOWTO}") from error
    return _stages(tuple(domains), train, test)


def _clinc150_lines(pairs: Sequence[Sequence[str]], stage_of: dict[str, str], origin: str) -> list[DataLine]:
    return [DataLine(StreamItem(text, intent), stage_of[intent], origin) for text, intent in pairs]


def _in_clinc150(data: Path | None) -> Path:
    if data is None:
        raise DataError(f"{CLINC150}: LIFELONG_DATA names no folder of data sets; {CLINC150_HOWTO}")
    return data / CLINC150


def _json(path: Path) -> Any:
    file = _plain_or_gz(path)
    if file is None:
        raise DataError(f"{path} is missing; {CLINC150_HOWTO}")
    try:
        return json.loads(_text(file))
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error


def _folder(folder: Path, split: str) -> tuple[TextStage, ...]:
    if not folder.is_dir():
        raise DataError(
            f"no data set {str(folder)!r}: choose {SUPPORT}, {CLINC150}, {DIGITS}, or a folder with train.jsonl and "
            f"{split}.jsonl"
        )
    train = _lines(folder / "train.jsonl")
    test = _lines(folder / f"{split}.jsonl")
    if train[0].stage is None:
        stage_of = assign_stages([line.item.label for line in train])
        train = _with_stages(train, stage_of)
        test = _with_stages(test, stage_of)
    return _stages(tuple(dict.fromkeys(str(line.stage) for line in train)), train, test)


def _with_stages(lines: Sequence[DataLine], stage_of: dict[str, str]) -> list[DataLine]:
    return [replace(line, stage=stage_of.get(line.item.label)) for line in lines]


def _lines(path: Path) -> list[DataLine]:
    """Reads the lines of `path` or `path`.gz. Either all lines have a stage or none has. Raises DataError."""
    file = _plain_or_gz(path)
    if file is None:
        raise DataError(f'{path} is missing (or {path.name}.gz), with lines {{"text": ..., "label": ...}}')
    lines = list(_parse_lines(file))
    if not lines:
        raise DataError(f"{file} is empty")
    differing = next((line for line in lines if (line.stage is None) != (lines[0].stage is None)), None)
    if differing is not None:
        raise DataError(f"{differing.origin}: either every line has a stage or none has")
    return lines


def _parse_lines(path: Path) -> Iterator[DataLine]:
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
    kind = fields.get("kind", "")
    if not isinstance(kind, str):
        raise DataError(f"{origin}: 'kind' must be a string, not {kind!r}")
    item = StreamItem(_sendable(fields["text"], origin), _sendable(fields["label"], origin), kind)
    return DataLine(item, stage, origin)


def _sendable(text: str, origin: str) -> str:
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        # JSON may hold half of a surrogate pair, "\\ud800", which cannot be encoded.
        raise DataError(f"{origin}: {error}") from error
    if num_bytes > MAX_TEXT_BYTES:
        raise DataError(f"{origin}: {num_bytes} bytes of text; an event takes {MAX_TEXT_BYTES}")
    return text


def _stages(names: Sequence[str], train: Sequence[DataLine], test: Sequence[DataLine]) -> tuple[TextStage, ...]:
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
    """Returns `path` or `path`.gz, whichever is a file, or None if neither is."""
    return next((file for file in (path, path.with_name(f"{path.name}.gz")) if file.is_file()), None)


def _text(path: Path) -> str:
    """Reads the text of a file, decompressed if its name ends in .gz. Raises DataError."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
