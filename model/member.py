"""A member: a folder with an encoder of the built-in family that was derived from a published encoder.

    config.json          {"family": "strata", "config": .., "max_tokens": .., "history": [..], "schemes": {..}}
    tokenizer.json       the tokenizer of the published encoder
    model.safetensors    the parameters and input scales, float32, by name; or the stored weights, by part

The setting `encoder` can name such a folder. The folder is written atomically: it is written under another name, and
then renamed. `history` lists the steps by which the encoder was derived, such as pruning or distillation.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import FAMILY, StrataConfig
from model.errors import BadBlob, WrongConfig, WrongShape
from model.qtensor import PartSpec, QTensor, from_blob
from model.strata import Strata, rebuilt, state_of
from model.weights import to_strata

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A derived encoder: the contents of its config.json."""

    config: StrataConfig
    max_tokens: int
    """The number of tokens to which texts are truncated, if no setting says otherwise."""
    history: tuple[Mapping[str, Any], ...] = ()
    """The steps by which the encoder was made: the name and the options of each."""
    schemes: Mapping[str, str] = field(default_factory=dict)
    """The scheme of each stored weight; empty if the folder has parameters in full precision."""


def read_member(folder: Path) -> Member | None:
    """Reads the config.json of a member; returns None if the folder has another format.

    Raises WrongConfig for invalid fields.
    """
    try:
        fields = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        # `model.published` reads the same file next, and raises an error that names the problem.
        return None
    if not isinstance(fields, dict) or fields.get("family") != FAMILY:
        return None
    try:
        config = StrataConfig.from_json(json.dumps(fields["config"]))
        member = Member(
            config=config,
            max_tokens=int(fields["max_tokens"]),
            history=tuple(fields["history"]),
            schemes=dict(fields["schemes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WrongConfig(f"{folder / CONFIG} is not a valid config of the family {FAMILY!r}: {error!r}") from error
    if not 0 < member.max_tokens <= config.max_sequence:
        raise WrongConfig(f"{folder / CONFIG}: max_tokens is {member.max_tokens}; expected 1 to {config.max_sequence}")
    return member


def read_strata(folder: Path, member: Member) -> Strata:
    """Reads the encoder of a member in full precision, in evaluation mode. Stored weights are dequantized.

    Raises BadBlob, MissingWeight or WrongShape.
    """
    if member.schemes:
        return to_strata(member.config, read_stored(folder, member))
    try:
        return rebuilt(member.config, _tensors(folder))
    except RuntimeError as error:
        # load_state_dict raises it, and names the tensors that are missing, unknown, or of another shape.
        raise WrongShape(f"{folder / WEIGHTS}: {error}") from error


def read_stored(folder: Path, member: Member) -> dict[str, QTensor]:
    """Reads the stored weights of a member, by name. They are checked in the same way as on a replica.

    Raises BadBlob, WrongShape or NonFinite.
    """
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in member.schemes}
    for full_name, part in _tensors(folder).items():
        name, _, part_name = full_name.partition(":")
        if name not in parts:
            raise WrongShape(f"{folder / WEIGHTS} has {full_name!r}, for which {CONFIG} has no scheme")
        parts[name][part_name] = part
    return {name: _verified(QTensor(name, scheme, parts[name])) for name, scheme in member.schemes.items()}


@dataclass(frozen=True, slots=True)
class _Description:
    """The description of a stored weight, as in a manifest, which `from_blob` needs."""

    name: str
    scheme: str
    digest: str
    num_bytes: int
    parts: tuple[PartSpec, ...]


def _verified(tensor: QTensor) -> QTensor:
    """Returns the weight after `from_blob` has checked its bytes."""
    blob = tensor.to_blob()
    try:
        specs = tensor.specs
    except KeyError as error:
        raise WrongShape(f"{tensor.name}: no scheme {tensor.scheme!r} with a part {error}") from error
    return from_blob(_Description(tensor.name, tensor.scheme, sha256(blob).hexdigest(), len(blob), specs), blob)


def _tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except safetensors.SafetensorError as error:
        raise BadBlob(f"{folder / WEIGHTS}: {error}") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder, which becomes `path` when the block ends, or is removed if the block raises.

    Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_member(folder: Path, member: Member, weights: Strata | Mapping[str, QTensor], tokenizer_json: bytes) -> None:
    """Writes the folder of a member, with parameters in full precision or with stored weights.

    `member.schemes` is ignored, since `weights` have their schemes. Raises OSError, or FileExistsError if the path
    exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another name, or move it away")
    fields: dict[str, Any] = {
        "family": FAMILY,
        "config": json.loads(member.config.canonical_json()),
        "max_tokens": member.max_tokens,
        "history": list(member.history),
        "schemes": {},
    }
    if isinstance(weights, Strata):
        tensors = state_of(weights)
    else:
        fields["schemes"] = {name: tensor.scheme for name, tensor in weights.items()}
        tensors = _parts(weights)
    with new_folder(folder) as draft:
        (draft / CONFIG).write_text(json.dumps(fields, indent=2) + "\n")
        (draft / TOKENIZER).write_bytes(tokenizer_json)
        save_file({name: value.contiguous() for name, value in tensors.items()}, draft / WEIGHTS)


def _parts(tensors: Mapping[str, QTensor]) -> dict[str, Tensor]:
    parts: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        parts |= {f"{name}:{part_name}": part for part_name, part in tensor.parts.items()}
    return parts
