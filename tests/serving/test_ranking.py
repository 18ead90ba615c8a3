"""What a version of sets makes of a text: every class above the threshold is named, also in the receipt."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from lifelong.plugins.kinds import class_tensors, set_tensors
from lifelong.plugins.kinds.scores import UNIT_BITS
from model.kinds import UNIT, Ranked, Space
from serving.models import ActiveVersions
from serving.predict import predict_many
from tests.serving.versions import RECEIPTS, live_versions, make_labels, tokenizer
from wire.kinds import name_hash
from wire.receipts import parse_verdicts
from wire.records import Answer, Event, LabelSpace

TEXTS = ["where is my card", "hi"]


def sets(live: ActiveVersions) -> ActiveVersions:
    return replace(
        live,
        versions={
            number: replace(each, labelled=LabelSpace(kind="multilabel")) for number, each in live.versions.items()
        },
    )


def answers(live: ActiveVersions, *, top_scores: int = 2) -> list[Answer]:
    events = [Event(id=text, text=text) for text in TEXTS]
    tokens = tokenizer().encode_many(TEXTS)
    precisions = {number: "int8" for number in live.versions}
    return predict_many(events, tokens, live, precisions, top_scores=top_scores, receipts=RECEIPTS, now_ms=lambda: 0)


def test_an_answer_names_every_class_above_the_threshold_with_its_probability() -> None:
    for answer in answers(sets(live_versions([1])), top_scores=4):
        above = tuple(label for label, score in answer.scores if score > 0.5)
        assert answer.labels == above
        assert answer.label is None
        assert [score for _, score in answer.scores] == sorted((score for _, score in answer.scores), reverse=True)
        assert answer.score == answer.scores[0][1]


def test_the_receipt_has_the_set_that_each_version_names() -> None:
    for answer in answers(sets(live_versions([1, 2]))):
        verdicts = parse_verdicts(answer.receipt)
        assert verdicts is not None and answer.labels is not None
        named = dict(verdicts.names)
        assert named.keys() == {1, 2}
        assert named[answer.weights_version] == tuple(map(name_hash, answer.labels))


def test_more_classes_than_a_receipt_holds_are_not_named_and_none_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_tensors, "MAX_WORDS", 3)
    logits_BC = torch.stack([torch.linspace(1, 2, 4), torch.full((4,), -1.0)])
    ranked = set_tensors.TENSORS.rank(logits_BC, make_labels(1), UNIT, 2)
    full, empty = ranked.predictions([0, 1])
    assert full.value == tuple(reversed(make_labels(1)))[:3]
    assert len(full.scores) == 3
    assert (empty.value, len(empty.scores)) == ((), 2)
    assert ranked.fingerprints()[1] == ()


class Twice:
    """The tensors of a kind that names each text twice."""

    def rank(self, logits_BC: torch.Tensor, labels: Sequence[str], space: Space, top_scores: int) -> Ranked:
        return class_tensors.TENSORS.rank(logits_BC.repeat(2, 1), labels, space, top_scores)


def test_a_kind_that_names_more_texts_than_there_are_is_an_error_that_names_it() -> None:
    live = live_versions([1])
    object.__setattr__(live.versions[1], "tensors", Twice())
    with pytest.raises(ValueError, match=r"version 1: its labels.kind class names 4 of 2 texts"):
        answers(live)


@pytest.mark.parametrize("top_scores", [1, 9])
def test_all_that_are_named_have_a_score(top_scores: int) -> None:
    for answer in answers(sets(live_versions([4])), top_scores=top_scores):
        assert answer.labels is not None
        assert set(answer.labels) <= {label for label, _ in answer.scores} <= set(make_labels(4))


def test_a_version_of_scores_expects_one_between_its_bounds_and_the_receipt_has_its_place() -> None:
    live = live_versions([1])
    versions = {
        number: replace(each, labelled=LabelSpace(kind="score", low=1.0, high=5.0))
        for number, each in live.versions.items()
    }
    for answer in answers(replace(live, versions=versions)):
        assert answer.value is not None and 1.0 <= answer.value <= 5.0
        assert (answer.label, answer.labels, answer.scores) == (None, None, ())
        verdicts = parse_verdicts(answer.receipt)
        assert verdicts is not None
        named = dict(verdicts.names)[1]
        assert isinstance(named, int)
        assert named / UNIT_BITS == pytest.approx((answer.value - 1.0) / 4.0, abs=1e-6)
