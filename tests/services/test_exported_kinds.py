"""Tests exported versions with sets of labels, scores and features.

The code that loads the folder answers as the service does, or the card says why the version cannot be loaded.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from model.kinds import Predicted
from model.source import encoder_folder
from model.tokenizer import TextTokenizer
from services.exported import BadExport, Exported, export_version, kind_card, load_code, model_card
from serving.config import PrecisionConfig
from serving.ranking import rank_texts
from serving.weights.loader import Loader
from tests.learner.kind_rig import KindRig, ScoreRig
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import tokenizer
from tests.learner.streams import make_text
from tests.learner.test_standardisation import records
from tests.required import imported
from wire.records import LabelSpace
from wire.store import Store

pytestmark = pytest.mark.live

TEXTS: Final = [make_text(number) for number in range(300, 360)]
NEAR: Final = 0.08
"""Largest error of a probability: replicas round the inputs of the head, and this head has few of them."""


def exported(store: Store, rig: PublishRig, *, with_onnx: bool = False) -> Exported:
    tokenizer_json = (encoder_folder("minilm-l6") / "tokenizer.json").read_bytes()
    return export_version(
        store, rig.publish(), rig.folder / "out", tokenizer_json, with_onnx=with_onnx, say=lambda text: None
    )


def loaded_from(made: Exported, space: LabelSpace) -> Any:
    imported("sentence_transformers")
    names: dict[str, Any] = {}
    code = load_code(space)
    assert code in (Path(made.folder) / "README.md").read_text()
    exec(code, names)
    return names["Exported"](made.folder)


def served(store: Store, number: int, z_BD: torch.Tensor) -> list[Predicted]:
    """Returns a replica's answers for these vectors."""
    loader = Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05)
    ranking = rank_texts(z_BD, [loader.load(number)], 5)[number]
    return [each.predicted for each in ranking.scored(range(len(z_BD)))]


def logits_of_onnx(folder: Path) -> torch.Tensor:
    runtime = imported("onnxruntime")
    ids = TextTokenizer.from_folder(folder).encode_many(TEXTS)
    longest = max(map(len, ids))
    padded = np.array([row + [0] * (longest - len(row)) for row in ids])
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    logits, _ = session.run(None, {"input_ids": padded, "attention_mask": mask})
    return torch.from_numpy(logits)


@pytest.mark.parametrize("rig_class", [KindRig, ScoreRig])
def test_onnx_runtime_gives_the_same_scores_by_what_the_card_says(
    store: Store, tmp_path: Path, rig_class: type[KindRig]
) -> None:
    imported("onnx")
    rig = rig_class(store, tmp_path)
    rig.learn(0, 200)
    made = exported(store, rig, with_onnx=True)
    space = store.versions.manifest(1).labelled
    assert f"The scores are `{kind_card(space).scores}`." in (Path(made.folder) / "README.md").read_text()
    names: dict[str, Any] = {"torch": torch, "logits": logits_of_onnx(Path(made.folder))}
    exec(f"scores = {kind_card(space).scores}", names)
    assert torch.allclose(names["scores"], loaded_from(made, space).scores(TEXTS), atol=1e-3)


def test_an_exported_version_of_sets_names_the_sets_that_replicas_name(store: Store, tmp_path: Path) -> None:
    rig = KindRig(store, tmp_path)
    rig.learn(0, 200)
    made = exported(store, rig)
    loaded = loaded_from(made, store.versions.manifest(1).labelled)
    sets = loaded.predict(TEXTS)
    expected = served(store, 1, loaded.encoder.encode(TEXTS, convert_to_tensor=True))
    sizes = set(map(len, sets))
    assert {0, 1, 2} <= sizes
    scores_BC = loaded.scores(TEXTS)
    is_sure_B = ((scores_BC - 0.5).abs() > NEAR).all(dim=1).tolist()
    pairs = [(names, each.value) for names, each, is_sure in zip(sets, expected, is_sure_B, strict=True) if is_sure]
    assert len(pairs) > len(TEXTS) / 2
    assert all(set(names) == set(theirs or ()) for names, theirs in pairs)
    for row, each in zip(scores_BC.tolist(), expected, strict=True):
        mine = dict(zip(loaded.labels, row, strict=True))
        assert dict(each.scores) == pytest.approx({label: mine[label] for label, _ in each.scores}, abs=NEAR)


def test_an_exported_version_of_scores_expects_the_numbers_that_replicas_expect(store: Store, tmp_path: Path) -> None:
    rig = ScoreRig(store, tmp_path)
    rig.learn(0, 200)
    made = exported(store, rig)
    assert made.labels == 0
    loaded = loaded_from(made, store.versions.manifest(1).labelled)
    values = loaded.predict(TEXTS)
    expected = served(store, 1, loaded.encoder.encode(TEXTS, convert_to_tensor=True))
    assert max(values) - min(values) > 1.0
    assert values == pytest.approx([each.value for each in expected], abs=2 * NEAR)


def test_a_version_of_features_says_that_others_cannot_read_them_and_has_no_onnx_form(
    store: Store, tmp_path: Path
) -> None:
    rig = PublishRig(store, tmp_path)
    for first in range(0, 200, 20):
        rig.learner.learn_many(records(range(first, first + 20)), {"feedback.v1/0": first + 20})
        rig.learner.tick()
    made = exported(store, rig)
    lacks = "it reads more than texts (features.scales), which other libraries do not"
    assert made.lacks == lacks and not (Path(made.folder) / "model.safetensors").exists()
    assert (Path(made.folder) / "README.md").read_text() == model_card(
        store.versions.manifest(made.version), lacks=lacks, with_onnx=False
    )
    with pytest.raises(BadExport, match="no ONNX form: it reads more than texts"):
        export_version(store, made.version, tmp_path / "onnx", b"", with_onnx=True, say=lambda text: None)
