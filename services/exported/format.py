"""The folder of a version: what other libraries read, and the version itself, bit for bit.

    config.json, model.safetensors, ...    the encoder as sentence-transformers reads it, in float32
    tokenizer.json
    head.safetensors, labels.json          proj, out and bias of the head; the label of each row of out; none of scores
    README.md                              the card
    model.onnx                             on request
    version/manifest.json                  the manifest, as it was published
    version/weights.safetensors            the stored tensors; `NAME:PART` is a part of one

The first files are of the integers that are served, as float32. The last two are those integers.

Rejected: pickled models (reading one runs what is in it), and the version alone (nobody else could load it).
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import safetensors
from safetensors.torch import load_file, save_file

from model.errors import ModelError
from model.qtensor import QTensor, from_blob
from wire.errors import WireError
from wire.records import TensorEntry, WeightManifest
from wire.store.signed import decode_manifest, encode

HEAD: Final = "head.safetensors"
LABELS: Final = "labels.json"
CARD: Final = "README.md"
ONNX: Final = "model.onnx"
MANIFEST: Final = "version/manifest.json"
WEIGHTS: Final = "version/weights.safetensors"


class BadExport(ValueError):
    """A folder is no exported version, or the version cannot be exported so; the message says why."""


def write_version(folder: Path, manifest: WeightManifest, tensors: Mapping[str, QTensor]) -> None:
    """Writes the manifest and the stored tensors into `folder`."""
    (folder / MANIFEST).parent.mkdir(parents=True)
    parts = {f"{name}:{part}": value for name, tensor in tensors.items() for part, value in tensor.parts.items()}
    save_file({name: value.contiguous() for name, value in parts.items()}, folder / WEIGHTS)
    (folder / MANIFEST).write_bytes(encode(manifest))


def read_version(folder: Path) -> tuple[WeightManifest, dict[str, QTensor]]:
    """Returns the manifest and its tensors, each with the digest that the manifest says. Raises BadExport."""
    try:
        manifest = decode_manifest((folder / MANIFEST).read_bytes(), None)
        parts = load_file(folder / WEIGHTS)
    except (OSError, WireError, safetensors.SafetensorError) as error:
        raise BadExport(f"{folder} is no version that `lifelong export` has written: {error}") from error
    tensors: dict[str, QTensor] = {}
    for entry in manifest.tensors:
        own = {part.name: parts.get(f"{entry.name}:{part.name}") for part in entry.parts}
        if None in own.values():
            raise BadExport(f"{folder / WEIGHTS} lacks a part of {entry.name}: export the version again")
        tensors[entry.name] = _verified(
            folder, entry, QTensor(entry.name, entry.scheme, {k: v for k, v in own.items() if v is not None})
        )
    return manifest, tensors


def _verified(folder: Path, entry: TensorEntry, tensor: QTensor) -> QTensor:
    """Returns the tensor as it is read from its bytes, which have the digest of the manifest. Raises BadExport."""
    blob = tensor.to_blob()
    if sha256(blob).hexdigest() != entry.digest:
        raise BadExport(f"{folder / WEIGHTS}: {entry.name} is not what was exported; export the version again")
    try:
        return from_blob(entry, blob)
    except ModelError as error:
        raise BadExport(f"{folder / WEIGHTS}: {error}") from error
