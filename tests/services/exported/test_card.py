"""The card says what a version is, and how it is loaded, where it can be."""

from services.exported.card import LOAD, card
from tests.serving.versions import manifest_of
from wire.records import Evaluation


def test_a_card_names_labels_accuracy_and_how_to_load() -> None:
    text = card(manifest_of(3, evaluation=Evaluation(num_labels=50, accuracy=0.9)), lacks="", with_onnx=True)
    assert "# Version 3" in text and "`v3.0`, `v3.1`" in text and "90.0% of 50 labels" in text
    assert LOAD.rstrip() in text and "model.onnx" in text
    assert len(LOAD.strip().splitlines()) <= 22


def test_a_card_says_why_others_cannot_load_it() -> None:
    labels = tuple(f"label {number}" for number in range(30))
    text = card(manifest_of(3, labels=labels), lacks="its encoder is a class", with_onnx=False)
    assert "library_name: lifelong" in text and "Other libraries cannot load it: its encoder is a class." in text
    assert "and 10 more" in text and "not measured" not in text
