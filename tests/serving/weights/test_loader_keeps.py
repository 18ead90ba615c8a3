"""What the loader keeps: versions, their tensors, and what is known of their probes."""

from typing import Any

import pytest

from serving.config import PrecisionConfig
from serving.errors import VersionRefused
from serving.weights.loader import MAX_PROBES, Loader
from tests.serving.versions import TinyPublisher, build_manifest, head_logits, make_model, tokenizer
from wire.records import Probe
from wire.store import Store


@pytest.fixture
def loader(store: Store) -> Loader:
    return Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05)


def test_a_version_that_changed_only_its_head_costs_only_its_head(
    learner: TinyPublisher, loader: Loader, raw: Any
) -> None:
    learner.publish(1)
    first = loader.load(1)
    second = learner.publish(2)
    heads = {entry.digest for entry in second.tensors if entry.name == "head.out"}
    for name in raw.keys("*:blob:*"):
        if name.decode().rpartition(":")[2] not in heads:
            raw.delete(name)
    second_model = loader.load(2).model
    assert second_model.encoder is first.model.encoder
    assert second_model.head.features is first.model.head.features


def test_many_texts_of_probes_are_checked(learner: TinyPublisher, loader: Loader) -> None:
    """More than are kept: what is known of some is forgotten, and computed again."""
    texts = [f"text {number}" for number in range(MAX_PROBES)]
    for number, some in enumerate((texts[:40], texts[:40], texts[20:]), start=1):
        probes = tuple(Probe(text=text, logits=head_logits(make_model(number), text)) for text in some)
        learner.publish(number, probes=probes)
        assert loader.load(number).number == number
    learner.publish(4, probes=(probes[0],))
    with pytest.raises(VersionRefused, match="probe_mismatch"):
        loader.load(4)


def test_tensors_that_no_kept_version_names_are_forgotten(learner: TinyPublisher, loader: Loader) -> None:
    for number in (1, 2):
        learner.publish(number, encoder_seed=number)
        loader.load(number)
    both = loader.num_bytes
    loader.keep({2})
    num_bytes = build_manifest(2, encoder_seed=2).num_bytes
    assert loader.num_bytes == {"2": num_bytes, "resident": num_bytes}
    assert num_bytes < both["resident"]


def test_versions_that_share_an_encoder_count_it_once_and_its_tensors_stay_while_one_may_come_back(
    learner: TinyPublisher, loader: Loader
) -> None:
    for number in (1, 2):
        learner.publish(number)
        loader.load(number)
    first, second = loader.versions.values()
    assert first.latency is second.latency, "versions of one shape are measured once"
    num_bytes = loader.num_bytes
    assert num_bytes["resident"] < num_bytes["1"] + num_bytes["2"]
    loader.clear()
    assert loader.num_bytes == {"resident": num_bytes["resident"]}
