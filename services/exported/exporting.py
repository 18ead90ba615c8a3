"""`lifelong export`: writes a version of the store into a folder, for other libraries and for another service.

    manifest, blobs --verified--> stored tensors --version/--> as they are
                                                 --to_strata, to_dense--> the encoder as sentence-transformers reads it
                                                 --dequantized--> the head     --> labels, card, ONNX on request

The folder appears as a whole or not at all: it is written under another name and renamed.

Rejected: the learner's own full precision (what is exported is what answers).
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.config import StrataConfig
from model.convert.plain import to_dense, write_published
from model.errors import WrongConfig
from model.features import FeatureMap
from model.head import OUT, PROJ
from model.module_code import config_from_json
from model.qtensor import QTensor, from_blob
from model.strata import Strata
from model.weights import to_strata
from services.exported.card import card
from services.exported.format import CARD, HEAD, LABELS, BadExport, write_version
from services.exported.onnx import write_onnx
from wire.records import WeightManifest
from wire.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written. `lacks` says why other libraries cannot load it; "" where they can."""

    folder: str
    version: int
    labels: int
    bytes: int
    onnx: bool
    lacks: str = ""


def export_version(
    store: Store, number: int, folder: Path, tokenizer_json: bytes, *, with_onnx: bool, say: Callable[[str], None]
) -> Exported:
    """Writes version `number` into `folder`. `tokenizer_json` is empty where a class of the user reads the texts.

    Raises NotFound, BadExport where something has the name of the folder, or ONNX was asked for and cannot be written.
    """
    if folder.exists():
        raise BadExport(f"{folder} exists; choose another name, or move it away")
    manifest = store.versions.manifest(number)
    tensors: dict[str, QTensor] = {}
    for place, entry in enumerate(manifest.tensors):
        say(f"fetching {place} of {len(manifest.tensors)} tensors")
        tensors[entry.name] = from_blob(entry, store.blobs.get(entry.digest, entry.num_bytes))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    say("writing the folder")
    strata, lacks = _plain(manifest, tensors)
    if strata is not None:
        write_published(partial, strata, tokenizer_json, max_tokens=manifest.max_tokens)
    else:
        partial.mkdir(parents=True)
    write_version(partial, manifest, tensors)
    head = _head(manifest, tensors)
    save_file(head, partial / HEAD)
    labels = () if manifest.labelled.kind == "score" else manifest.labels  # its only row has no name to tell
    (partial / LABELS).write_text(json.dumps(labels, ensure_ascii=False, indent=1) + "\n")
    (partial / CARD).write_text(card(manifest, lacks=lacks, with_onnx=with_onnx))
    if with_onnx:
        if strata is None:
            raise BadExport(f"version {number} has no ONNX form: {lacks}")
        say("writing the graph")
        write_onnx(partial, strata, head)
    partial.rename(folder)
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Exported(
        folder=str(folder),
        version=number,
        labels=len(labels),
        bytes=num_bytes,
        onnx=with_onnx,
        lacks=lacks,
    )


def _plain(manifest: WeightManifest, tensors: dict[str, QTensor]) -> tuple[Strata | None, str]:
    """Returns the encoder in which layers share nothing, or None and why there is none."""
    config = config_from_json(manifest.config)
    if not isinstance(config, StrataConfig):
        return None, f"its encoder is {config.shown}"
    if numbers := FeatureMap.from_tensors(config.d_model, tensors).scales:
        return None, f"it was taught with features of events ({', '.join(sorted(numbers))}), which they do not read"
    try:
        strata = to_dense(to_strata(config, tensors))
        if strata.config.positions != "learned":
            return None, "its positions are rotations, which sentence-transformers' BERT has not"
    except WrongConfig as error:
        return None, str(error)
    return strata, ""


def _head(manifest: WeightManifest, tensors: dict[str, QTensor]) -> dict[str, Tensor]:
    """Returns proj [R, D], out [C, R] and bias [C], without the unused rows."""
    out = tensors[OUT]
    num_labels = len(manifest.labels)
    bias_C = out.bias if out.bias is not None else torch.zeros(out.shape[0])
    return {
        "proj": tensors[PROJ].dequantize(),
        "out": out.dequantize()[:num_labels].clone(),
        "bias": bias_C[:num_labels].clone(),
    }
