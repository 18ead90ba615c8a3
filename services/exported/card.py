"""The card of an exported version: what it is, how it was measured, how it is loaded.

    manifest --> README.md, in the form of the model cards of Hugging Face

Rejected: a template of its own (twenty lines of text, and four numbers).
"""

from typing import Final

from wire.records import WeightManifest

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
        features = torch.relu(z @ self.head["proj"].T)
        return torch.softmax(features @ self.head["out"].T + self.head["bias"], dim=1)

    def predict(self, texts):
        return [self.labels[row] for row in self.scores(texts).argmax(dim=1).tolist()]
"""
"""How sentence-transformers loads the folder. A test runs it."""

NAMED: Final = 20
"""Most labels that the card names."""


def card(manifest: WeightManifest, *, lacks: str, with_onnx: bool) -> str:
    """Returns the text. `lacks` says why other libraries cannot load the version; "" where they can."""
    evaluation = manifest.evaluation
    measured = "not measured"
    if evaluation.num_labels:
        measured = f"{evaluation.accuracy:.1%} of {evaluation.num_labels} labels that were held back"
    labels = ", ".join(f"`{label}`" for label in manifest.labels[:NAMED])
    more = f" and {len(manifest.labels) - NAMED} more" if len(manifest.labels) > NAMED else ""
    precisions = ", ".join(f"{each.name} (cosine {each.cosine:.4f})" for each in manifest.precisions)
    lines = [
        "---",
        "library_name: sentence-transformers" if not lacks else "library_name: lifelong",
        "pipeline_tag: text-classification",
        "---",
        "",
        f"# Version {manifest.version} of a Lifelong service",
        "",
        f"- labels: {labels or 'none yet'}{more}",
        f"- accuracy: {measured}",
        f"- served in: {precisions or 'not measured'}",
        f"- longest text: {manifest.max_tokens or 256} tokens",
        f"- erasures that were done before it was made: {manifest.erased}",
        "",
    ]
    if lacks:
        lines += [f"Other libraries cannot load it: {lacks}. `lifelong import --model` can.", ""]
    else:
        lines += ["The weights are those that are served, in float32:", "", "```python", LOAD.rstrip(), "```", ""]
    if with_onnx:
        lines += ["`model.onnx` takes `input_ids` and `attention_mask`, and returns `logits` and `vectors`.", ""]
    return "\n".join(lines)
