"""Opens the encoder that a command starts from, and writes the member of the family that it has made.

minilm-l6, a folder, a cached id --open_source--> Source --a command--> Strata --write--> folder, Made
"""

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model.bert import load_encoder
from model.calibration import TEXTS
from model.config import StrataConfig
from model.cost import num_bytes, parameters
from model.errors import WrongConfig
from model.grid import Grid
from model.member import TOKENIZER, Member, read_member, write_member
from model.source import encoder_folder
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors, to_strata

BATCH = 32

Say = Callable[[str], None]
"""Shows what is under way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An encoder, and what a folder made of it needs."""

    strata: Strata
    tokenizer: TextTokenizer
    tokenizer_json: bytes
    max_tokens: int
    """Tokens of the longest text that what is made of it is to read."""
    history: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a command has made. `cosine` is the mean with the vectors of its source, over a few texts of many kinds."""

    path: str
    parameters: int
    saved: float
    """Share of the source's stored parameters that are saved."""
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
    """Raises WrongConfig where something has the name of the result: before the work, not after it."""
    if out.exists():
        raise WrongConfig(f"{out} exists; choose another name, or move it away")


def write(source: Source, strata: Strata, out: Path, step: str, options: Mapping[str, Any]) -> Made:
    """Writes the folder `out`, and says what it holds beside its source. `options` are those of the step.

    An encoder on grids (`model.grid`) is written as the weights that are stored on them.
    """
    member = Member(
        config=strata.config,
        max_tokens=min(source.max_tokens, strata.config.max_sequence),
        history=(*source.history, step_of(step, options)),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if not any(isinstance(module, Grid) for module in strata.modules()):
        write_member(out, member, strata, source.tokenizer_json)
        served_bytes = num_bytes(strata.config)
        return compared(source, strata.config, out, num_bytes=served_bytes, cosine=mean_cosine(source, strata))
    tensors = encoder_tensors(strata)
    write_member(out, member, tensors, source.tokenizer_json)
    stored_bytes = sum(len(tensor.to_blob()) for tensor in tensors.values())
    stored_cosine = mean_cosine(source, to_strata(strata.config, tensors))
    return compared(source, strata.config, out, num_bytes=stored_bytes, cosine=stored_cosine)


def step_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a step of a history."""
    return {"step": name, **options, "lifelong": importlib.metadata.version("lifelong")}


def compared(source: Source, config: StrataConfig, out: Path, *, num_bytes: int, cosine: float) -> Made:
    """Returns what `out`, which holds an encoder of `config`, is beside its source."""
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
    """Returns the mean cosine of the rows."""
    return float(functional.cosine_similarity(one_BD, other_BD).mean())
