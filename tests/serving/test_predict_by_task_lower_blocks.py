"""Encoders of tasks or arms that have lower blocks in common: these run once, and the answers are the same."""

from dataclasses import replace
from functools import cache

import msgspec
import pytest

from model.packed import PackedEncoder
from model.plan import layer_index
from model.quantized import QuantizedEncoder, QuantizedHead, QuantizedModel
from serving.encodings import Health
from serving.models import ActiveVersions, PrecisionChoice, Version, all_versions
from serving.predict import predict_by_task
from tests.model.small_encoder import stored
from tests.serving.test_predict_by_task import PREDICT, TEXTS, CountingHealth, answered, events
from tests.serving.versions import PRECISIONS, TINY, build_plan, encoder_weights, make_labels, make_model, tokenizer

DEEP = replace(TINY, n_layers=3)


@pytest.fixture
def forwards() -> list[int]:
    return []


@cache
def trained_from(layer: int, seed: int) -> QuantizedEncoder:
    """Returns the encoder of seed 0 whose blocks from `layer` on are those of another seed, as after a slow round."""
    upper = {name: each for name, each in encoder_weights(seed, DEEP).items() if layer_index(name) >= layer}
    return QuantizedEncoder.from_tensors(DEEP, stored(encoder_weights(0, DEEP) | upper))


def on(encoder: PackedEncoder, number: int) -> Version:
    """Returns version `number` of this encoder."""
    head = QuantizedHead(DEEP, make_model(number).head.features, make_model(number).head._out)
    return Version(
        number=number, model=QuantizedModel(encoder, head, make_labels(number)), precisions=PRECISIONS, num_bytes=1
    )


def trained_tasks(forwards: list[int], lower: list[tuple[int, int]]) -> dict[str, ActiveVersions]:
    """Returns three tasks, one of which has a candidate, whose four encoders have one of three blocks in common."""
    versions = {
        "": [on(trained_from(2, 1), 1)],
        "queue": [on(trained_from(1, 2), 2)],
        "urgency": [on(trained_from(2, 3), 3), on(trained_from(0, 0), 4)],
    }
    live: dict[str, ActiveVersions] = {}
    for task, of_task in versions.items():
        by_number = {each.number: each for each in of_task}
        health = CountingHealth(forwards, lower)
        live[task] = ActiveVersions(number=1, plan=build_plan(*by_number), versions=by_number, task=task, health=health)
    return live


def test_blocks_that_encoders_have_in_common_run_once(forwards: list[int]) -> None:
    """All events that any of them reads go through these once, for the candidate and for sampled verdicts, too; the
    answers are those of whole forwards."""
    lower: list[tuple[int, int]] = []
    live = trained_tasks(forwards, lower)
    given = events((), ("urgency",), ("queue", ""), ())
    together = answered(live, given)
    assert lower == [(1, 4)]
    assert forwards == []
    whole = {task: replace(versions, health=Health()) for task, versions in live.items()}
    for event, answer in zip(given, together, strict=True):
        for task in event.tasks or live:
            versions = whole[task]
            tokens = tokenizer().encode_many([event.text])
            (with_only,) = PREDICT([event], tokens, versions, dict.fromkeys(versions.versions, "int8"), None)
            own = answer.of_task(task)
            assert own is not None
            assert msgspec.structs.replace(own, vector=None) == msgspec.structs.replace(with_only, vector=None)


def test_arms_of_one_task_share_their_lower_blocks(forwards: list[int]) -> None:
    lower: list[tuple[int, int]] = []
    urgency = trained_tasks(forwards, lower)["urgency"]
    given = events((), (), (), ())
    found = answered({"urgency": urgency}, given)
    assert (lower, forwards) == ([(2, 4)], [])
    with_only = PREDICT(given, tokenizer().encode_many(TEXTS), urgency, dict.fromkeys(urgency.versions, "int8"), None)
    assert found == with_only
    assert len(forwards) > 1


def test_equal_blocks_under_other_features_are_all_in_common(forwards: list[int]) -> None:
    """Encoders whose numbers are scaled by each task are different objects, with the same blocks."""
    lower: list[tuple[int, int]] = []
    live = {task: trained_tasks(forwards, lower)[task] for task in ("", "queue")}
    for task, versions in live.items():
        (number,) = versions.versions
        encoder = QuantizedEncoder.from_tensors(DEEP, stored(encoder_weights(0, DEEP)))
        live[task] = replace(versions, versions={number: on(encoder, number)})
    answered(live, events((), (), (), ()))
    assert (lower, forwards) == ([(3, 4)], [])


def test_encoders_without_a_common_block_run_whole(forwards: list[int]) -> None:
    lower: list[tuple[int, int]] = []
    live = trained_tasks(forwards, lower)
    other = QuantizedEncoder.from_tensors(DEEP, stored(encoder_weights(5, DEEP)))
    live[""] = replace(live[""], versions={1: on(other, 1)})
    answered(live, events((), (), (), ()))
    assert lower == [(1, 4)]
    assert forwards == [4]


def test_a_precision_shares_within_itself(forwards: list[int]) -> None:
    """Each of two precisions has its own rows; an encoder alone in its precision runs whole."""
    lower: list[tuple[int, int]] = []
    live = trained_tasks(forwards, lower)
    precisions = dict.fromkeys(all_versions(live), "int8") | {("queue", 2): "int4"}
    given = events((), (), (), ())
    together = predict_by_task(PREDICT, given, tokenizer().encode_many(TEXTS), live, PrecisionChoice(precisions))
    assert lower == [(2, 4)]
    assert forwards == [4]
    assert {answer.tasks["queue"].precision for answer in together} == {"int4"}
