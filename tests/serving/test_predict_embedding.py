"""The vectors of texts, as the engine gives them to those who ask for no label."""

import numpy as np
import pytest

from lifelong.plugins.inputs.feature_tensors import SCALES, FeatureMap, Scale
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from serving.engine import Engine
from serving.observers import Counts
from serving.predict import embed_many
from serving.queue import BatchQueue, EmbeddedText, Item, ItemFailure, ItemOptions
from serving.weights.loader import encode_contents
from tests.serving.callers import Caller, answered, running
from tests.serving.versions import TINY, build_encoder, encoder_weights, label_of, live_versions, tokenizer
from wire.events import content
from wire.records import Answer, Event

TEXT = "where is my card"


def asked(caller: Caller, text: str, item_options: ItemOptions) -> Item:
    item = caller.item(text)
    return Item(event=item.event, token_ids=item.token_ids, done=item.done, item_options=item_options)


def test_a_vector_is_what_the_encoder_makes_of_the_text() -> None:
    token_ids = tokenizer().encode_many([TEXT])
    (embedding,) = embed_many(token_ids, live_versions([1]))
    expected_D = build_encoder().encode(RaggedBatch.of(token_ids))[0].numpy()
    assert np.frombuffer(embedding.z, "<f4") == pytest.approx(expected_D, abs=1e-6)
    assert (embedding.weights_version, embedding.arm, embedding.precision) == (1, "stable", "int8")
    assert embedding.num_tokens == len(token_ids[0])


def test_a_batch_may_ask_for_answers_for_vectors_and_for_a_version_at_once(
    engine: Engine, queue: BatchQueue[Item], counts: Counts
) -> None:
    caller = Caller()
    all_terms = (
        ItemOptions(),
        ItemOptions(is_embedding=True),
        ItemOptions(version=4),
        ItemOptions(),
        ItemOptions(is_embedding=True, version=4),
    )
    queue.submit_many([asked(caller, TEXT, item_options) for item_options in all_terms])
    with running(engine, queue, live_versions([3, 4], share=0.0)):
        outcomes = caller.wait(5)
    by_plan, vector, named, again, other_vector = outcomes
    assert isinstance(vector, EmbeddedText)
    assert isinstance(other_vector, EmbeddedText)
    assert (vector.z, vector.arm, other_vector.arm) == (other_vector.z, "stable", "candidate")
    labels = [answer.label for answer in answered([by_plan, named, again])]
    assert labels == [label_of(number, TEXT) for number in (3, 4, 3)]
    assert isinstance(named, Answer)
    assert (named.weights_version, named.arm) == (4, "candidate")
    assert (counts.snapshot()["answers"], counts.snapshot()["embeddings"]) == (3, 2)


def test_a_version_that_has_gone_meanwhile_is_named(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    queue.submit(asked(caller, TEXT, ItemOptions(version=9)))
    with running(engine, queue, live_versions([3])):
        (outcome,) = caller.wait(1)
    assert isinstance(outcome, ItemFailure)
    assert outcome.reason == "version_gone"


def test_a_text_that_has_no_vector_fails_alone(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    poison = caller.item(TEXT, token_ids=[1 << 20])
    item_options = ItemOptions(is_embedding=True)
    queue.submit(asked(caller, TEXT, item_options))
    queue.submit(Item(event=poison.event, token_ids=poison.token_ids, done=poison.done, item_options=item_options))
    with running(engine, queue, live_versions([3])):
        good, bad = caller.wait(2)
    assert isinstance(good, EmbeddedText)
    assert isinstance(bad, ItemFailure)


def test_an_event_has_the_vector_of_its_content_whatever_else_is_in_the_batch() -> None:
    """A replica encodes events, and checks the probes of a version, which are contents, in one and the same way."""
    scales = FeatureMap(TINY.d_model, {"amount": Scale(10.0, 2.0)})
    encoder = QuantizedEncoder.from_tensors(TINY, {**encoder_weights(), SCALES: scales.to_tensor()})
    events = [
        Event(id="1", text="where is my card"),
        Event(id="2", features={"amount": 12.0, "country": "nz"}),
        Event(id="3", text="where is my card", features={"amount": 12.0}),
    ]
    tokens = tokenizer().encode_many([event.text for event in events])
    live = live_versions([1])
    z_BD = live.health.encode_events(events, tokens, encoder, "int8")
    for row, event in enumerate(events):
        assert z_BD[row].equal(live.health.encode_events([event], [tokens[row]], encoder, "int8")[0])
        assert z_BD[row].equal(encode_contents([content(event)], encoder, tokenizer(), "int8", 64)[0])
    assert z_BD[0].equal(live.health.encode_events(events[:1], tokens[:1], build_encoder(), "int8")[0])
    assert len({tuple(z_D.tolist()) for z_D in z_BD}) == 3
