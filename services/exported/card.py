"""The card of an exported version: what it is, how it was measured, how it is loaded.

    manifest --> README.md, in the form of the model cards of Hugging Face

Rejected: a template of its own (twenty lines of text, and four numbers).
"""

from typing import Final

from wire.receipts import MAX_NAMED
from wire.records import LabelSpace, WeightManifest

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
"""How sentence-transformers loads the folder, where `{scores}` and `{predict}` are those of the kind."""

SET_NAMED: Final = f"""rows = [sorted(zip(row, self.labels), reverse=True) for row in self.scores(texts).tolist()]
        return [[label for score, label in row[:{MAX_NAMED}] if score > 0.5] for row in rows]"""
"""The classes that a version of sets names, best first."""

NAMED: Final = 20
"""Most labels that the card names."""


def scores_of(space: LabelSpace) -> str:
    """Returns the expression that makes scores of `logits`, as replicas do."""
    if space.kind == "score":
        return f"{space.low!r} + logits.clamp(0, 1) * {space.high - space.low!r}"
    return "torch.sigmoid(logits)" if space.kind == "multilabel" else "torch.softmax(logits, dim=1)"


def load_code(space: LabelSpace) -> str:
    """Returns the class that loads the folder. A test runs it for each kind."""
    predict = {
        "class": "return [self.labels[row] for row in self.scores(texts).argmax(dim=1).tolist()]",
        "multilabel": SET_NAMED,
        "score": "return self.scores(texts)[:, 0].tolist()",
    }
    return LOAD.replace("{scores}", scores_of(space)).replace("{predict}", predict[space.kind])


def card(manifest: WeightManifest, *, lacks: str, with_onnx: bool) -> str:
    """Returns the text. `lacks` says why other libraries cannot load the version; "" where they can."""
    evaluation = manifest.evaluation
    measured = "not measured"
    if evaluation.num_labels:
        measured = f"{evaluation.accuracy:.1%} of {evaluation.num_labels} labels that were held back"
    if evaluation.micro_f1:
        measured += f"; micro-F1 {evaluation.micro_f1[0]:.3f}"
    if evaluation.absolute_error:
        measured += f"; mean absolute error {evaluation.absolute_error[0]:.4g}"
    precisions = ", ".join(f"{each.name} (cosine {each.cosine:.4f})" for each in manifest.precisions)
    lines = [
        "---",
        "library_name: sentence-transformers" if not lacks else "library_name: lifelong",
        "pipeline_tag: text-classification",
        "---",
        "",
        f"# Version {manifest.version} of a Lifelong service",
        "",
        *_answers(manifest),
        f"- accuracy: {measured}",
        f"- served in: {precisions or 'not measured'}",
        f"- longest text: {manifest.max_tokens or 256} tokens",
        f"- erasures that were done before it was made: {manifest.erased}",
        "",
    ]
    if lacks:
        lines += [f"Other libraries cannot load it: {lacks}. `lifelong import --model` can.", ""]
        return "\n".join(lines)
    what = "The weights are those that are served, in float32. They answer texts: features of events are not read."
    lines += [what, "", "```python", load_code(manifest.labelled).rstrip(), "```", ""]
    if with_onnx:
        lines += [
            "`model.onnx` takes `input_ids` and `attention_mask`, and returns `logits` and `vectors`. The scores are "
            f"`{scores_of(manifest.labelled)}`.",
            "",
        ]
    return "\n".join(lines)


def _answers(manifest: WeightManifest) -> list[str]:
    """Returns what it answers, a line each."""
    space = manifest.labelled
    if space.kind == "score":
        return [f"- answers: a number from {space.low:g} to {space.high:g}"]
    labels = ", ".join(f"`{label}`" for label in manifest.labels[:NAMED])
    more = f" and {len(manifest.labels) - NAMED} more" if len(manifest.labels) > NAMED else ""
    lines = [f"- labels: {labels or 'none yet'}{more}"]
    if space.kind == "multilabel":
        lines.append(f"- answers: each label whose score is above 0.5, at most {MAX_NAMED}; a text may have none")
    return lines
