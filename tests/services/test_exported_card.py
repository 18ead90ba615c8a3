"""Tests that the model card describes the version, and how other libraries load it, if they can."""

import pytest

from services.exported import load_code, model_card
from tests.serving.versions import build_manifest
from wire.records import CLASSES, Evaluation, LabelSpace


def test_a_card_names_labels_accuracy_and_how_to_load() -> None:
    text = model_card(build_manifest(3, evaluation=Evaluation(num_labels=50, accuracy=0.9)), lacks="", with_onnx=True)
    assert "# Version 3 of a" in text and "`v3.0`, `v3.1`" in text and "90.0% of 50 held-out labels" in text
    assert load_code(CLASSES).rstrip() in text and "model.onnx" in text
    assert "features of events are not read" in text


@pytest.mark.parametrize(
    ("space", "answers"),
    [
        (CLASSES, "- labels: `v3.0`"),
        (LabelSpace(kind="multilabel", threshold=0.4), "each label whose score is above 0.5, at most 12"),
        (LabelSpace(kind="score", low=1.0, high=5.0), "a number from 1 to 5"),
    ],
)
def test_a_card_says_what_is_answered_and_loads_it_in_twenty_lines(space: LabelSpace, answers: str) -> None:
    text = model_card(build_manifest(3, label_space=space), lacks="", with_onnx=True)
    assert answers in text and load_code(space) in text
    assert len(load_code(space).strip().splitlines()) <= 22


def test_a_card_has_the_figures_of_sets_and_of_scores() -> None:
    sets = Evaluation(num_labels=50, accuracy=0.9, micro_f1=(0.91, 0.8))
    assert "- accuracy: 90.0% of 50 held-out labels; micro-F1 0.910\n" in model_card(
        build_manifest(3, evaluation=sets), lacks="", with_onnx=False
    )
    scores = Evaluation(num_labels=50, accuracy=0.9, absolute_error=(0.25, 0.5))
    assert "; mean absolute error 0.25\n" in model_card(build_manifest(3, evaluation=scores), lacks="", with_onnx=False)


def test_a_card_says_why_others_cannot_load_it() -> None:
    labels = tuple(f"label {number}" for number in range(30))
    text = model_card(build_manifest(3, labels=labels), lacks="its encoder is a class", with_onnx=False)
    assert "library_name: lifelong" in text and "Other libraries cannot load it: its encoder is a class." in text
    assert "and 10 more" in text and "not measured" not in text
