"""Exports a version as a folder for other libraries and services (`lifelong export`, `lifelong import --model`).

    config.json, model.safetensors, ...    the encoder as sentence-transformers reads it, in float32
    tokenizer.json
    head.safetensors, labels.json          proj, out and bias of the head; the label of each row of out (scores: none)
    README.md                              the model card
    model.onnx                             on request: token ids in, logits and vectors out, in float32
    version/manifest.json                  the manifest, as it was published
    version/weights.safetensors            the stored tensors; `NAME:PART` is a part of a tensor

    store --export_version--> FOLDER --read_version, verified--> import_version: blobs, manifest with a new number

The files outside of `version/` hold the served integers, converted to float32. `version/` holds the integers, so an
imported version answers with the same bits as the original.

An import adds a version, and changes nothing in the learner of the importing service. The learner goes on with the
samples that it has learnt, and publishes versions of them. These compete by labels with the imported version.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from learner.errors import require
from lifelong.compress.plain import PaddedEncoder, to_dense, write_published
from model.config import StrataConfig
from model.encoders import config_from_json
from model.errors import ModelError, WrongConfig
from model.head import OUT, PROJ
from model.inputs import is_state
from model.packed import Inputs
from model.qtensor import QTensor, from_blob
from model.strata import Strata
from model.weights import to_strata
from wire.errors import WireError
from wire.kinds import KINDS, Card
from wire.records import HeadSolution, LabelSpace, Lineage, NameChanges, TensorEntry, WeightManifest
from wire.store import Store
from wire.store.signed import decode_manifest, encode

HEAD: Final = "head.safetensors"
LABELS: Final = "labels.json"
CARD: Final = "README.md"
ONNX: Final = "model.onnx"
MANIFEST: Final = "version/manifest.json"
WEIGHTS: Final = "version/weights.safetensors"

LOAD: Final = """import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer


class Exported:
    def __init__(self, folder):
        self.encoder = SentenceTransformer(str(folder), device="cpu")
        self.labels = json.loads((Path(folder) / "labels.json").read_text())
        self.head = load_file(Path(folder) / "head.safetensors")

    def scores(self, texts):
        z = self.encoder.encode(texts, convert_to_tensor=True, normalize_embeddings=True)
        logits = torch.relu(z @ self.head["proj"].T) @ self.head["out"].T + self.head["bias"]
        return {scores}

    def predict(self, texts):
        {predict}
"""
"""Code that loads the folder with sentence-transformers. The kind of labels gives `{scores}` and `{predict}`."""

NAMED: Final = 20
"""Largest number of labels in the card."""

OPSET: Final = 17


class BadExport(ValueError):
    """A folder is not an exported version, or a version cannot be exported in this way. The message says why."""


def write_version(folder: Path, manifest: WeightManifest, tensors: Mapping[str, QTensor]) -> None:
    """Writes the manifest and the stored tensors into `folder`."""
    (folder / MANIFEST).parent.mkdir(parents=True)
    parts = {f"{name}:{part}": value for name, tensor in tensors.items() for part, value in tensor.parts.items()}
    save_file({name: value.contiguous() for name, value in parts.items()}, folder / WEIGHTS)
    (folder / MANIFEST).write_bytes(encode(manifest))


def read_version(folder: Path) -> tuple[WeightManifest, dict[str, QTensor]]:
    """Returns the manifest and its tensors. Raises BadExport if a tensor has not the digest in the manifest."""
    try:
        manifest = decode_manifest((folder / MANIFEST).read_bytes(), None)
        parts = load_file(folder / WEIGHTS)
    except (OSError, WireError, safetensors.SafetensorError) as error:
        raise BadExport(f"{folder} is not a version that `lifelong export` has written: {error}") from error
    tensors: dict[str, QTensor] = {}
    for entry in manifest.tensors:
        own: dict[str, Tensor] = {}
        for part in entry.parts:
            value = parts.get(f"{entry.name}:{part.name}")
            if value is None:
                raise BadExport(f"{folder / WEIGHTS} lacks a part of {entry.name}: export the version again")
            own[part.name] = value
        tensors[entry.name] = _verified(folder, entry, QTensor(entry.name, entry.scheme, own))
    return manifest, tensors


def _verified(folder: Path, entry: TensorEntry, tensor: QTensor) -> QTensor:
    """Returns the tensor, checked against its digest and decoded from its bytes. Raises BadExport."""
    blob = tensor.to_blob()
    if sha256(blob).hexdigest() != entry.digest:
        raise BadExport(f"{folder / WEIGHTS}: {entry.name} was changed since the export; export the version again")
    try:
        return from_blob(entry, blob)
    except ModelError as error:
        raise BadExport(f"{folder / WEIGHTS}: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The result of an export. `lacks` says why other libraries cannot load the folder; empty if they can."""

    folder: str
    version: int
    labels: int
    bytes: int
    onnx: bool
    lacks: str = ""


def export_version(
    store: Store, number: int, folder: Path, tokenizer_json: bytes, *, with_onnx: bool, say: Callable[[str], None]
) -> Exported:
    """Writes version `number` into `folder`. `tokenizer_json` is empty if a class of the user reads the texts.

    Raises NotFound, and BadExport if `folder` exists or the version has no ONNX form but `with_onnx` is set.
    """
    if folder.exists():
        raise BadExport(f"{folder} exists; choose another name, or move it away")
    manifest = store.versions.manifest(number)
    tensors = fetch_tensors(manifest, store, say)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    say("writing the folder")
    strata, lacks = _dense_encoder(manifest, tensors)
    if strata is not None:
        write_published(partial, strata, tokenizer_json, max_tokens=manifest.max_tokens)
    else:
        partial.mkdir(parents=True)
    write_version(partial, manifest, tensors)
    head = _head(manifest, tensors)
    save_file(head, partial / HEAD)
    # The rows of a kind without classes have no names.
    labels = manifest.labels if KINDS.get(manifest.labelled.kind).has_classes else ()
    (partial / LABELS).write_text(json.dumps(labels, ensure_ascii=False, indent=1) + "\n")
    (partial / CARD).write_text(model_card(manifest, lacks=lacks, with_onnx=with_onnx))
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


def fetch_tensors(manifest: WeightManifest, store: Store, say: Callable[[str], None]) -> dict[str, QTensor]:
    """Returns the stored tensors of a version by name. Raises NotFound and BlobCorrupt."""
    tensors: dict[str, QTensor] = {}
    for number, entry in enumerate(manifest.tensors):
        say(f"fetching {number} of {len(manifest.tensors)} tensors")
        tensors[entry.name] = from_blob(entry, store.blobs.get(entry.digest, entry.num_bytes))
    return tensors


def _dense_encoder(manifest: WeightManifest, tensors: dict[str, QTensor]) -> tuple[Strata | None, str]:
    """Returns the encoder without parameters that layers share, and ""; or None, and why it has no such form."""
    config = config_from_json(manifest.config)
    if not isinstance(config, StrataConfig):
        return None, f"its encoder is {config.shown}"
    if states := [name for name in tensors if is_state(name)]:
        return None, f"it reads more than texts ({', '.join(sorted(states))}), which other libraries do not"
    try:
        strata = to_dense(to_strata(config, tensors))
        if strata.config.positions != "learned":
            return None, "its positions are rotations, which sentence-transformers' BERT does not have"
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


def kind_card(space: LabelSpace) -> Card:
    """Returns the texts of the model card that depend on the kind of labels."""
    return KINDS.get(space.kind).card(space)


def load_code(space: LabelSpace) -> str:
    """Returns the Python code that loads the exported folder. A test runs it for each kind of labels."""
    kind = kind_card(space)
    return LOAD.replace("{scores}", kind.scores).replace("{predict}", kind.predict)


def model_card(manifest: WeightManifest, *, lacks: str, with_onnx: bool) -> str:
    """Returns the model card. `lacks` says why other libraries cannot load the version; empty if they can."""
    evaluation = manifest.evaluation
    measured = "not measured"
    if evaluation.num_labels:
        measured = f"{evaluation.accuracy:.1%} of {evaluation.num_labels} held-out labels"
    if evaluation.micro_f1:
        measured += f"; micro-F1 {evaluation.micro_f1[0]:.3f}"
    if evaluation.absolute_error:
        measured += f"; mean absolute error {evaluation.absolute_error[0]:.4g}"
    for name, (value, _) in (evaluation.figures or {}).items():
        measured += f"; {name} {value:.4g}"
    precisions = ", ".join(f"{precision.name} (cosine {precision.cosine:.4f})" for precision in manifest.precisions)
    lines = [
        "---",
        "library_name: sentence-transformers" if not lacks else "library_name: lifelong",
        "pipeline_tag: text-classification",
        "---",
        "",
        f"# Version {manifest.version} of a Lifelong service",
        "",
        *_answer_lines(manifest),
        f"- accuracy: {measured}",
        f"- served in: {precisions or 'not measured'}",
        f"- longest text: {manifest.max_tokens or 256} tokens",
        f"- erasures before this version: {manifest.erased}",
        "",
    ]
    if lacks:
        lines += [f"Other libraries cannot load it: {lacks}. `lifelong import --model` can.", ""]
        return "\n".join(lines)
    use = "The weights are the served weights in float32. They answer texts; features of events are not read."
    lines += [use, "", "```python", load_code(manifest.labelled).rstrip(), "```", ""]
    if with_onnx:
        lines += [
            "`model.onnx` takes `input_ids` and `attention_mask`, and returns `logits` and `vectors`. The scores are "
            f"`{kind_card(manifest.labelled).scores}`.",
            "",
        ]
    return "\n".join(lines)


def _answer_lines(manifest: WeightManifest) -> list[str]:
    """Returns the lines of the card about the answers and the labels."""
    answers = kind_card(manifest.labelled).answers
    lines = [f"- answers: {answers}"] if answers else []
    if not KINDS.get(manifest.labelled.kind).has_classes:
        return lines
    labels = ", ".join(f"`{label}`" for label in manifest.labels[:NAMED])
    more = f" and {len(manifest.labels) - NAMED} more" if len(manifest.labels) > NAMED else ""
    return [f"- labels: {labels or 'none yet'}{more}", *lines]


class PaddedClassifier(nn.Module):
    """The encoder for padded texts, with the head: ids [B, T] and mask [B, T] to logits [B, C] and vectors [B, D]."""

    def __init__(self, strata: Strata, head: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.encoder = PaddedEncoder(strata, fused=False)
        for name, value in head.items():
            self.register_buffer(name, value)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        z_BD = self.encoder(ids_BT, mask_BT)
        features_BR = torch.relu(z_BD @ self.get_buffer("proj").T)
        return features_BR @ self.get_buffer("out").T + self.get_buffer("bias"), z_BD


def write_onnx(folder: Path, strata: Strata, head: Mapping[str, Tensor]) -> None:
    """Writes the ONNX graph into `folder`. Raises DataError, which names the extra, if onnx is not installed."""
    require("onnx", extra="onnx")
    ids_BT = torch.ones(2, 8, dtype=torch.int64)
    axes = {0: "batch", 1: "tokens"}
    with warnings.catch_warnings():
        # The TorchScript exporter warns that it is deprecated. Unlike its successor, it needs only the package onnx.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            PaddedClassifier(strata, head).eval(),
            (ids_BT, ids_BT),
            str(folder / ONNX),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits", "vectors"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}, "vectors": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def import_version(store: Store, folder: Path, inputs: Inputs, *, now_ms: int) -> WeightManifest:
    """Stores the version in `folder`, and returns its manifest with its new number.

    Raises BadExport if the version was made for another tokenizer or class than `inputs`.
    """
    exported, tensors = read_version(folder)
    spec = config_from_json(exported.config).spec_hash(inputs.digest)
    if spec != exported.model_spec:
        raise BadExport(
            f"{folder} was made for another tokenizer or class: `encoder` names {inputs.name} here. Set `encoder` to "
            "the encoder of the exported version, and restart the service"
        )
    current = store.versions.current()
    erased = store.versions.manifest(current).erased if current else 0
    manifest = msgspec.structs.replace(
        exported,
        version=store.versions.next_number(),
        parent=0,
        epoch=0,
        created_ms=now_ms,
        trained_through={},
        # Counts the erasures of this service. The operator who imports a version answers for erasures elsewhere.
        erased=erased,
        label_commands=0,
        lineage=Lineage(gap=f"it was imported from {folder.name}, version {exported.version} there"),
        name_changes=NameChanges(),
        solution=HeadSolution(),
    )
    for tensor in tensors.values():
        store.blobs.put(tensor.to_blob())
    store.versions.add(manifest, detail=f"imported from {folder.name}")
    return manifest
