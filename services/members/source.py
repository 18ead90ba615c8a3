"""Input and output of the commands of `lifelong model`: the encoder and texts that they read, the folder they write.

minilm-l6, a folder, a cached id --open_source--> Source --a command--> Strata --write--> folder, Made
NAME, FOLDER, FILE.txt --> token ids without labels        NAME, FOLDER --> token ids and classes
config --shape_and_costs, cost_lines--> the shape of an encoder and its costs (`lifelong.compress.cost`)
"""

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evals.streams.text_sets import text_set
from learner.errors import DataError
from lifelong.compress.cost import BF16, flops, num_bytes, parameters
from lifelong.compress.heads import LabelledTexts
from model.bert import load_encoder
from model.calibration import TEXTS
from model.config import StrataConfig
from model.errors import WrongConfig
from model.grid import Grid
from model.member import TOKENIZER, Member, read_member, write_member
from model.packed import Inputs
from model.plan import BlockPlan, build_plan
from model.qtensor import FP32, W4G64
from model.source import encoder_folder
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors, to_strata

BATCH = 32

Say = Callable[[str], None]
"""A function that shows the progress of a command."""

MAX_TEXTS = 1_000_000
"""Largest number of texts of a command."""

SCHEMES = (FP32, BF16, W4G64)
"""Schemes for which the size of all matrices is shown, in addition to the size with the stored schemes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An encoder, with all that a folder with a changed encoder needs."""

    strata: Strata
    tokenizer: TextTokenizer
    tokenizer_json: bytes
    max_tokens: int
    """Tokens of the longest text that the changed encoder reads."""
    history: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """The result of a command. `cosine` is the mean cosine with the source's vectors over the calibration texts."""

    path: str
    parameters: int
    saved: float
    """Fraction of the source's stored parameters that are saved."""
    bytes: int
    cosine: float

    def lines(self) -> list[str]:
        return [
            f"{self.path}: {self.parameters / 1e6:.2f} M parameters, {self.saved:.1%} fewer than its source,"
            f" {self.bytes / 1e6:.1f} MB as served",
            f"cosine with its source {self.cosine:.4f}",
        ]

    def fields(self) -> dict[str, Any]:
        return asdict(self)


def open_source(encoder: str) -> Source:
    """Loads an encoder. Raises EncoderNotFound, and the errors of its files."""
    folder = encoder_folder(encoder)
    strata, tokenizer = load_encoder(encoder)
    member = read_member(folder)
    return Source(
        strata=strata.requires_grad_(False),
        tokenizer=tokenizer,
        tokenizer_json=(folder / TOKENIZER).read_bytes(),
        max_tokens=tokenizer.max_tokens,
        history=member.history if member else ({"step": "published", "encoder": encoder},),
    )


def require_free(out: Path) -> None:
    """Raises WrongConfig if `out` exists. Commands call this before their work, so that no work is lost."""
    if out.exists():
        raise WrongConfig(f"{out} exists; choose another name, or move it away")


def write(
    source: Source,
    strata: Strata,
    out: Path,
    step: str,
    options: Mapping[str, Any],
    *,
    grams: Mapping[str, Tensor] = MappingProxyType({}),
) -> Made:
    """Writes the encoder to the folder `out`; returns how it compares with its source.

    `step` and its `options` are added to the encoder's history. An encoder on grids (`model.grid`) is written as the
    stored integer weights; a matrix without a grid is rounded for the inputs in `grams` (`model.calibration`).
    """
    member = Member(
        config=strata.config,
        max_tokens=min(source.max_tokens, strata.config.max_sequence),
        history=(*source.history, history_step(step, options)),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if not any(isinstance(module, Grid) for module in strata.modules()):
        write_member(out, member, strata, source.tokenizer_json)
        served_bytes = num_bytes(strata.config)
        return compare_to_source(source, strata.config, out, num_bytes=served_bytes, cosine=mean_cosine(source, strata))
    tensors = encoder_tensors(strata, grams=grams)
    write_member(out, member, tensors, source.tokenizer_json)
    stored_bytes = sum(len(tensor.to_blob()) for tensor in tensors.values())
    stored_cosine = mean_cosine(source, to_strata(strata.config, tensors))
    return compare_to_source(source, strata.config, out, num_bytes=stored_bytes, cosine=stored_cosine)


def history_step(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entry of a step in an encoder's history."""
    return {"step": name, **options, "lifelong": importlib.metadata.version("lifelong")}


def compare_to_source(source: Source, config: StrataConfig, out: Path, *, num_bytes: int, cosine: float) -> Made:
    """Returns how the encoder of `config` in `out` compares with its source."""
    before = parameters(source.strata.config).total
    after = parameters(config).total
    return Made(path=str(out), parameters=after, saved=1 - after / before, bytes=num_bytes, cosine=cosine)


@torch.no_grad()
def mean_cosine(source: Source, strata: Strata) -> float:
    """Returns the mean cosine of the vectors of both encoders over the calibration texts."""
    token_ids = source.tokenizer.encode_many(TEXTS)
    expected_BD = encode_many(source.strata, token_ids, batch_size=BATCH)
    return cosine(expected_BD, encode_many(strata, token_ids, batch_size=BATCH))


def cosine(one_BD: Tensor, other_BD: Tensor) -> float:
    """Returns the mean cosine between the rows of two matrices."""
    return float(functional.cosine_similarity(one_BD, other_BD).mean())


def unlabelled(
    names: Sequence[str], data: Path | None, tokenizer: Inputs, *, spares_tests: bool = False
) -> list[list[int]]:
    """Returns the token ids of the training texts of all sets, each text once. Raises DataError.

    With `spares_tests`, a text that is also a test text of one of the sets is left out.
    """
    texts: dict[str, None] = {}
    tests = set[str]()
    for name in names:
        texts |= dict.fromkeys(load_texts(name, data))
        if spares_tests:
            tests |= set(load_texts(name, data, is_test=True))
    if spares_tests:
        texts = {text: None for text in texts if text not in tests}
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


def load_texts(name: str, data: Path | None, *, is_test: bool = False) -> list[str]:
    """Returns the training texts of a data set, or its test texts. Raises DataError.

    The lines of a file are training texts; it has no test texts.
    """
    path = Path(name)
    if not _is_lines(path):
        whole = text_set(name, data)
        return [item.text for item in (whole.test if is_test else whole.train)]
    if is_test:
        return []
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    return [line for line in lines if line.strip()]


def texts_to_leave_out(name: str, data: Path | None) -> list[str]:
    """Returns the texts that a training must not see: the test texts of a data set, or all lines of a file.

    Raises DataError.
    """
    return load_texts(name, data, is_test=not _is_lines(Path(name)))


def _is_lines(path: Path) -> bool:
    """Returns whether the name means a file with a text in each line, and not a data set."""
    return path.suffix == ".txt"


def shape_and_costs(config: StrataConfig, num_tokens: Sequence[int]) -> dict[str, Any]:
    """Returns the shape and the costs of an encoder, with the operations for one text of each of `num_tokens`."""
    counted = parameters(config)
    return {
        "config": json.loads(config.canonical_json()),
        "parameters": dataclasses.asdict(counted) | {"total": counted.total},
        "bytes": {"stored": num_bytes(config)} | {scheme: num_bytes(config, scheme) for scheme in SCHEMES},
        "flops": {str(length): _operations(config, length) for length in num_tokens},
    }


def cost_lines(config: StrataConfig, num_tokens: Sequence[int]) -> Iterator[str]:
    """Yields the values of `shape_and_costs` as lines of text."""
    facts = shape_and_costs(config, num_tokens)
    yield from (_layer(block) for block in build_plan(config).blocks)
    parts = ", ".join(f"{name} {number / 1e6:.2f} M" for name, number in facts["parameters"].items() if name != "total")
    yield f"parameters {facts['parameters']['total'] / 1e6:.2f} M: {parts}"
    yield "bytes      " + ", ".join(f"{name} {number / 1e6:.1f} MB" for name, number in facts["bytes"].items())
    for length, operations in facts["flops"].items():
        share = operations["attention"] / operations["total"]
        yield f"{length:>6} tokens: {operations['total'] / 1e9:.2f} GFLOP, {share:.0%} of them attention"


def _operations(config: StrataConfig, num_tokens: int) -> dict[str, int]:
    counted = flops(config, num_tokens)
    return dataclasses.asdict(counted) | {"total": counted.total}


def _layer(block: BlockPlan) -> str:
    spans = ", ".join(f"{heads} {span.kind}" for heads, span in block.spans)
    tied = ", ".join(
        f"{matrix.path.rpartition('.')[2]} of {matrix.name}" for matrix in block.matrices if not matrix.is_first
    )
    rank = max(matrix.lora_rank for matrix in block.matrices)
    shared = f"; {tied}" if tied else ""
    if tied and rank:
        shared += f", rank {rank} of its own"
    heads = f"{spans} heads x {block.head_width}, {block.kv_heads} of keys"
    return f"layer {block.index}: {heads}, inner {block.inner}{shared}"
