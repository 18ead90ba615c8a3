"""Tests that sentence-transformers, with twenty lines of code, and ONNX Runtime load an exported version."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.bert import load_encoder
from model.ragged import RaggedBatch
from model.source import encoder_folder
from model.tokenizer import TextTokenizer
from services.exported import BadExport, Exported, export_version, load_code
from tests.learner.publish_rig import PublishRig
from tests.learner.streams import label_of, make_text
from tests.required import imported
from tests.stores import KEYS
from wire.config import StoreConfig
from wire.records import CLASSES
from wire.store import Store

pytestmark = pytest.mark.live

TEXTS = [make_text(number) for number in range(200, 260)]


@pytest.fixture(scope="module")
def exported(redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    store = Store(StoreConfig(url=redis_server.url, prefix="exported:"), KEYS)
    rig = PublishRig(store, folder / "state")
    rig.learn(0, 200)
    number = rig.publish()
    tokenizer_json = (encoder_folder("minilm-l6") / "tokenizer.json").read_bytes()
    made = export_version(
        store, number, folder / "out", tokenizer_json, with_onnx=find_spec("onnx") is not None, say=lambda text: None
    )
    store.close()
    return made


def full_precision(folder: Path) -> torch.Tensor:
    """The probabilities of the exported encoder as we read it back, and the exported head."""
    strata, tokenizer = load_encoder(str(folder))
    head = load_file(folder / "head.safetensors")
    with torch.no_grad():
        z_BD = strata(RaggedBatch.of(tokenizer.encode_many(TEXTS)))
    return torch.softmax(torch.relu(z_BD @ head["proj"].T) @ head["out"].T + head["bias"], dim=1)


def test_the_folder_has_what_the_version_has(exported: Exported) -> None:
    folder = Path(exported.folder)
    labels = json.loads((folder / "labels.json").read_text())
    assert len(labels) == exported.labels and "refund" in labels and exported.lacks == ""
    card = (folder / "README.md").read_text()
    assert "# Version 1 of a Lifelong service" in card and "`refund`" in card and load_code(CLASSES) in card
    named = [labels[row] for row in full_precision(folder).argmax(dim=1).tolist()]
    right = [name == label_of(number) for number, name in enumerate(named, 200)]
    assert sum(right) / len(right) > 0.9


def test_sentence_transformers_loads_it(exported: Exported) -> None:
    imported("sentence_transformers")
    names: dict[str, Any] = {}
    exec(load_code(CLASSES), names)
    loaded = names["Exported"](exported.folder)
    assert loaded.predict(TEXTS[:3]) == [label_of(number) for number in (200, 201, 202)]
    assert np.allclose(loaded.scores(TEXTS).numpy(), full_precision(Path(exported.folder)).numpy(), atol=1e-3)


def test_onnx_runtime_gives_the_same_scores(exported: Exported) -> None:
    imported("onnx")
    runtime = imported("onnxruntime")
    folder = Path(exported.folder)
    ids = TextTokenizer.from_folder(folder).encode_many(TEXTS)
    longest = max(map(len, ids))
    padded = np.array([row + [0] * (longest - len(row)) for row in ids])
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    logits, vectors = session.run(None, {"input_ids": padded, "attention_mask": mask})
    scores = torch.softmax(torch.from_numpy(logits), dim=1)
    assert torch.allclose(scores, full_precision(folder), atol=1e-3)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


def test_a_folder_that_exists_is_left_alone(exported: Exported, store: Store) -> None:
    with pytest.raises(BadExport, match="exists; choose another name"):
        export_version(store, 1, Path(exported.folder), b"", with_onnx=False, say=lambda text: None)
