"""Answers as a function of events, tokens and weights."""

from dataclasses import replace

import msgspec
import pytest
import torch

from kernels.linear_i8 import pack
from model.quantized import QuantizedModel
from model.ragged import RaggedBatch
from serving.models import ActiveVersions, Version
from serving.predict import LONG_TOKENS, predict_many
from tests.serving.versions import PRECISIONS, RECEIPTS, build_plan, label_of, live_versions, make_model, tokenizer
from wire.kinds import name_hash
from wire.receipts import Verdicts, parse_verdicts
from wire.records import Event, Feedback

TEXTS = ["where is my card", "hi", "a somewhat longer text than the others, about my account", "hi again"]


INT8 = {1: "int8", 2: "int8", 4: "int8"}


@pytest.mark.parametrize("precisions", [INT8, {1: "int4", 2: "int4"}, {1: "int8", 2: "int4"}])
def test_an_answer_does_not_depend_on_its_batch(precisions: dict[int, str]) -> None:
    live = live_versions([1, 2])
    events = [Event(id=f"{index}", text=text) for index, text in enumerate(TEXTS)]
    tokens = tokenizer().encode_many(TEXTS)
    together = predict_many(events, tokens, live, precisions, top_scores=4, receipts=RECEIPTS, now_ms=lambda: 5)
    with_only = [
        predict_many([event], [ids], live, precisions, top_scores=4, receipts=RECEIPTS, now_ms=lambda: 5)[0]
        for event, ids in zip(events, tokens, strict=True)
    ]
    assert together == with_only
    assert {answer.weights_version for answer in together} == {1, 2}


def test_an_answer_is_given_under_the_precision_that_it_names() -> None:
    scores = {}
    for precision in ("int8", "int4"):
        (answer,) = predict_many(
            [Event(id="e", text="hi")],
            tokenizer().encode_many(["hi"]),
            live_versions([1]),
            {1: precision},
            top_scores=4,
            receipts=RECEIPTS,
            now_ms=lambda: 0,
        )
        assert answer.precision == precision
        scores[precision] = dict(answer.scores)
    assert scores["int8"] != scores["int4"]


def test_the_label_is_that_of_the_best_class() -> None:
    (answer,) = predict_many(
        [Event(id="e", text="hi")],
        tokenizer().encode_many(["hi"]),
        live_versions([4]),
        INT8,
        top_scores=9,
        receipts=RECEIPTS,
        now_ms=lambda: 0,
    )
    assert answer.label == label_of(4, "hi")
    assert sum(score for _, score in answer.scores) == pytest.approx(1)


def test_an_answer_has_the_receipt_that_its_label_is_asked_for() -> None:
    events = [Event(id="e", text="hi"), Event(id="f", text="hi", key="customer-9")]
    tokens = tokenizer().encode_many(["hi", "hi"])
    answers = predict_many(events, tokens, live_versions([1]), INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 7)
    for answer in answers:
        feedback = Feedback(event_id=answer.event_id, label="x", key=answer.key, receipt=answer.receipt, time_ms=8)
        assert RECEIPTS.refusal(feedback, is_required=True, max_age_ms=1) == ""
    assert len({answer.receipt for answer in answers}) == 2


def test_a_receipt_has_what_every_version_beside_the_answering_one_names() -> None:
    """Whichever answers, those that share its encoder are judged by the same label; others are not."""
    stranger = Version(number=3, model=make_model(3, encoder_seed=1), precisions=PRECISIONS, num_bytes=1)
    live = live_versions([1, 2])
    live = replace(live, versions={**live.versions, 3: stranger})
    events = [Event(id=f"{index}", text=text) for index, text in enumerate(TEXTS)]
    tokens = tokenizer().encode_many(TEXTS)
    answers = predict_many(events, tokens, live, INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 7)
    assert {answer.arm for answer in answers} == {"stable", "candidate"}
    for answer in answers:
        names = tuple((number, name_hash(label_of(number, answer.text))) for number in (1, 2))
        assert parse_verdicts(answer.receipt) == Verdicts(answer.arm, answer.weights_version, names)


def test_a_share_of_the_events_is_named_by_the_arms_of_other_encoders_too() -> None:
    """So a label judges a version with a new encoder; which events are sampled depends on their ids alone."""
    stranger = Version(number=2, model=make_model(2, encoder_seed=1), precisions=PRECISIONS, num_bytes=1)
    live = live_versions([1, 2])
    live = replace(live, versions={1: live.versions[1], 2: stranger}, paired_share=0.25)
    events = [Event(id=f"{index}", text=TEXTS[index % len(TEXTS)]) for index in range(200)]
    tokens = tokenizer().encode_many([event.text for event in events])
    answers = predict_many(events, tokens, live, INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 7)
    seeds = {1: 0, 2: 1}
    num_paired = 0
    for answer in answers:
        verdicts = parse_verdicts(answer.receipt)
        assert verdicts is not None
        named = [number for number, _ in verdicts.names]
        assert named in ([1, 2], [answer.weights_version])
        assert [name for _, name in verdicts.names] == [
            name_hash(label_of(number, answer.text, encoder_seed=seeds[number])) for number in named
        ]
        num_paired += len(named) == 2
    assert 0.15 < num_paired / len(answers) < 0.35
    every = predict_many(
        events, tokens, replace(live, paired_share=1.0), INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 7
    )
    whole = [parse_verdicts(answer.receipt) for answer in every]
    assert all(verdicts is not None and len(verdicts.names) == 2 for verdicts in whole)
    (with_only,) = predict_many(events[:1], tokens[:1], live, INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 7)
    assert with_only == answers[0]


def test_an_answer_that_sheds_extras_is_the_same_otherwise() -> None:
    """Without other encoders' verdicts and without a vector, while events come faster than they are answered."""
    stranger = Version(number=2, model=make_model(2, encoder_seed=1), precisions=PRECISIONS, num_bytes=1)
    live = live_versions([1, 2])
    live = replace(live, versions={1: replace(live.versions[1], encoding="as ours"), 2: stranger})
    events = [Event(id=f"{index}", text=TEXTS[index % len(TEXTS)]) for index in range(40)]
    tokens = tokenizer().encode_many([event.text for event in events])
    whole, lean = (
        predict_many(events, tokens, each, INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 7)
        for each in (live, replace(live, sheds_extras=True))
    )
    assert any(answer.vector for answer in whole)
    assert not any(answer.vector for answer in lean)
    for answer, other in zip(lean, whole, strict=True):
        assert msgspec.structs.replace(other, vector=None, receipt=answer.receipt) == answer
        verdicts = parse_verdicts(answer.receipt)
        assert verdicts is not None
        assert [number for number, _ in verdicts.names] == [answer.weights_version]


def test_an_answer_that_sheds_extras_has_the_vector_of_a_long_text() -> None:
    live = live_versions([1])
    version = replace(live.versions[1], encoding="as ours", max_tokens=2 * LONG_TOKENS)
    events = [Event(id=f"{num_words}", text="word " * num_words) for num_words in (LONG_TOKENS - 3, LONG_TOKENS - 2)]
    tokens = tokenizer().encode_many([event.text for event in events], max_tokens=2 * LONG_TOKENS)
    lean = replace(live, versions={1: version}, sheds_extras=True)
    answers = predict_many(events, tokens, lean, INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 7)
    assert [answer.vector is not None for answer in answers] == [False, True]


def test_a_version_without_classes_names_none() -> None:
    model = QuantizedModel(make_model(1).encoder, make_model(1).head, ())
    empty = Version(number=1, model=model, precisions=PRECISIONS, num_bytes=1)
    live = replace(live_versions([1, 2], share=0.0), versions={**live_versions([2]).versions, 1: empty})
    tokens = tokenizer().encode_many(["hi"])
    (answer,) = predict_many(
        [Event(id="e", text="hi")], tokens, live, INT8, top_scores=5, receipts=RECEIPTS, now_ms=lambda: 7
    )
    assert (answer.label, answer.score, answer.scores) == (None, 0.0, ())
    assert parse_verdicts(answer.receipt) == Verdicts("stable", 1, ((1, 0), (2, name_hash(label_of(2, "hi")))))


def test_a_score_that_is_not_finite_is_no_answer() -> None:
    model = make_model(1, encoder_seed=99)
    size = model.head.config.label_capacity, model.head.config.head_features
    broken_N = torch.full(size[:1], float("nan"))
    model.head._out = pack(torch.ones(size, dtype=torch.int8), broken_N)  # what a broken kernel would give
    live = ActiveVersions(
        number=1,
        plan=build_plan(1),
        versions={1: Version(number=1, model=model, precisions=PRECISIONS, num_bytes=1)},
    )
    with pytest.raises(ValueError, match="not finite"):
        predict_many(
            [Event(id="e", text="hi")], [[101, 102]], live, INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 0
        )


def test_an_answer_has_the_vector_of_its_text_where_the_encoding_has_a_name() -> None:
    events = [Event(id=f"{index}", text=text) for index, text in enumerate(TEXTS)]
    tokens = tokenizer().encode_many(TEXTS)
    live = live_versions([1])
    named = replace(live, versions={1: replace(live.versions[1], encoding="as ours")})
    answers = predict_many(events, tokens, named, INT8, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 0)
    z_BD = live.versions[1].model.encoder.encode(RaggedBatch.of(tokens))
    for answer, z_D in zip(answers, z_BD, strict=True):
        assert answer.vector is not None and answer.vector.z == z_D.numpy().tobytes()
        assert RECEIPTS.is_own_vector(answer.vector, answer.text)
    for other, precisions in ((live, INT8), (named, {1: "int4"})):
        assert not any(
            answer.vector
            for answer in predict_many(
                events, tokens, other, precisions, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 0
            )
        )
