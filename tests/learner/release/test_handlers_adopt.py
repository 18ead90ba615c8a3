"""Tests of offered encoders: one is adopted as by a slow round, or refused without any change."""

import copy
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from learner.release.handlers import SUPERSEDED
from learner.rounds.round import Phase
from model.config import StaticConfig, StrataConfig
from model.strata import Strata
from model.strata_family import built_in
from tests.learner.adopt_rig import AdoptRig, published_rig
from tests.learner.offers import NARROW, PRUNED, make_offer, make_strata, offer_of_head
from tests.learner.publish_rig import withdraw
from tests.learner.small_learner import CONFIG
from tests.learner.streams import make_text, stream
from tests.model.small_static import small_static
from wire.store import GAP, Store

pytestmark = pytest.mark.live


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> AdoptRig:
    return published_rig(store, tmp_path)


@pytest.mark.parametrize("config", [PRUNED, NARROW], ids=["pruned", "narrow"])
def test_an_encoder_of_another_shape_is_adopted_and_published(
    rig: AdoptRig, store: Store, config: StrataConfig
) -> None:
    num_texts = rig.learner.fast_head.ridge.num_texts
    outcome = rig.offer(make_offer(store, config))
    assert outcome is not None and (outcome.state, outcome.version, outcome.reasons) == ("published", 2, ())
    assert outcome.numbers["held"] > 0
    manifest = store.versions.manifest(2)
    shape = StrataConfig.from_json(manifest.config)
    assert shape.without_labels == replace(config, head_features=96).without_labels
    assert manifest.lineage.gap == "encoder other was adopted"
    assert rig.learner.fast_head.ridge.num_texts == num_texts
    assert [entry.action for entry in store.versions.history(3)] == ["adopted", "published", "published"]
    rig.learn(300, 360)
    assert rig.publish() == 3
    rig.train()
    assert rig.publish() == 4


def test_a_static_encoder_is_adopted_restored_and_left_again(store: Store, tmp_path: Path) -> None:
    rig = AdoptRig(store, tmp_path, max_negative_flips=1.0, accuracy_tolerance=1.0)
    rig.learn(0, 300)
    rig.publish()
    whole = small_static(StaticConfig(vocab=CONFIG.vocab, pairs=4, d_model=32))
    outcome = rig.offer(make_offer(store, strata=whole))
    assert outcome is not None and (outcome.state, outcome.version, outcome.reasons) == ("published", 2, ())
    manifest = store.versions.manifest(2)
    assert StaticConfig.from_json(manifest.config).d_model == 32
    assert {each.name for each in manifest.tensors} == {"embed.table", "embed.pairs", "head.proj", "head.out"}
    vectors = rig.learner.fast_head.served.z_many([make_text(5)])
    rig.publisher.checkpoint()
    rig.start()
    assert torch.equal(rig.learner.fast_head.served.z_many([make_text(5)]), vectors)
    again = rig.offer(make_offer(store, NARROW, id="two"))
    # A learner that was restored leaves a gap, since the version after its checkpoint may be in use.
    assert again is not None and (again.state, again.version) == ("published", 3 + GAP)


def test_what_is_not_in_memory_is_carried_over_to_another_width(store: Store, tmp_path: Path) -> None:
    rig = AdoptRig(store, tmp_path, replay_samples=60, max_negative_flips=1.0, accuracy_tolerance=1.0)
    rig.learn(0, 300)
    rig.publish()
    counts = rig.learner.fast_head.ridge.num_by_class
    outcome = rig.offer(make_offer(store, NARROW))
    assert outcome is not None and outcome.state == "published"
    assert rig.learner.fast_head.ridge.num_by_class == counts


def test_a_refused_encoder_changes_nothing_and_the_reason_is_in_the_history(store: Store, tmp_path: Path) -> None:
    rig = AdoptRig(store, tmp_path, trainable_layers=1, min_holdout=5, holdout_share=0.4)
    rig.learn(0, 400)
    rig.publish()
    before = rig.learner.export(None)
    outcome = rig.offer(make_offer(store, strata=blind()))
    assert outcome is not None and outcome.state == "refused" and outcome.version == 1
    assert "worse_than_parent" in outcome.reasons and outcome.numbers["held_lost"] > outcome.numbers["held_won"]
    assert store.versions.history(1)[0].detail.startswith("encoder other: ")
    after = rig.learner.export(None)
    assert after.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(value, before.tensors[name]) for name, value in after.tensors.items())
    assert after.facts.adopted is None and after.facts.lineage == before.facts.lineage
    assert not rig.publisher.is_due()
    assert store.commands.open_offer() is None


def blind() -> Strata:
    """Returns an encoder that gives all words the same vector."""
    strata = copy.deepcopy(make_strata(PRUNED))
    with torch.no_grad():
        strata.embed.word.weight.copy_(strata.embed.word.weight[:1].expand_as(strata.embed.word.weight))
    return strata


def test_an_operator_may_accept_a_loss_but_no_forgotten_class(store: Store, tmp_path: Path) -> None:
    rig = AdoptRig(store, tmp_path, trainable_layers=1, min_holdout=5, holdout_share=0.4)
    rig.learn(0, 400)
    rig.publish()
    outcome = rig.offer(make_offer(store, strata=blind(), max_loss=1.0))
    assert outcome is not None and outcome.state == "refused" and "worse_than_parent" not in outcome.reasons
    outcome = rig.offer(make_offer(store, id="two", max_loss=1.0))
    assert outcome is not None and outcome.state == "published"
    assert rig.learner.knowledge.anchor is not None and rig.learner.knowledge.anchor.version == 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tokenizer": "a" * 64}, "it has another tokenizer"),
        ({"config": "{"}, "JSON"),
        ({"config": replace(CONFIG, max_pos=100).canonical_json()}, "it has 100 positions"),
        ({"config": replace(CONFIG, vocab=99).canonical_json()}, "it knows 99 tokens"),
        ({"label_capacity": 4}, "4 rows of the head; expected 8 or more"),
        ({"num_features": 7}, "7 features; expected 16 to 16384"),
        ({"config": CONFIG.canonical_json()}, "expected n8g64"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(
    rig: AdoptRig, store: Store, changed: dict[str, object], reason: str
) -> None:
    outcome = rig.offer(msgspec.structs.replace(make_offer(store), **changed))
    assert outcome is not None and outcome.state == "refused" and reason in outcome.reasons[0]
    assert rig.learner.knowledge.base.adopted is None


def test_blobs_that_are_gone_refuse_the_offer(rig: AdoptRig, store: Store) -> None:
    offer = make_offer(store)
    server = store._server
    server.ask("DEL", server.key("blob", offer.tensors[0].digest))
    outcome = rig.offer(offer)
    assert outcome is not None and "blob" in outcome.reasons[0]


def test_the_head_gets_more_features_and_more_rows_under_the_same_encoder(rig: AdoptRig, store: Store) -> None:
    before = rig.learner.fast_head.served.z_many(["where is my card"])
    outcome = rig.offer(offer_of_head(num_features=128, label_capacity=16))
    assert outcome is not None and outcome.state == "published"
    manifest = store.versions.manifest(2)
    assert StrataConfig.from_json(manifest.config).head_features == 128
    assert rig.learner.knowledge.config.label_capacity == 16
    assert torch.equal(rig.learner.fast_head.served.z_many(["where is my card"]), before)
    rig.learner.learn_many(stream(300, 360), {"feedback.v1/0": 360})
    assert rig.publish() == 3


def test_a_restart_goes_on_with_what_was_adopted(rig: AdoptRig, store: Store) -> None:
    rig.offer(make_offer(store))
    expected = rig.learner.export(None)
    rig.publisher.checkpoint()
    rig.start()
    found = rig.learner.export(None)
    assert found.facts.adopted == expected.facts.adopted is not None
    assert all(torch.equal(value, expected.tensors[name]) for name, value in found.tensors.items())
    assert built_in(rig.learner.fast_head.served.config).layers == PRUNED.layers
    rig.learn(300, 360)
    assert rig.publish() == 3 + GAP


def test_a_version_that_is_withdrawn_takes_the_encoder_before_back(rig: AdoptRig, store: Store) -> None:
    key = rig.learner.fast_head.served.key
    rig.offer(make_offer(store))
    withdraw(store, to=1)
    rig.learn(300, 310)
    assert rig.publish() == 1
    assert rig.learner.knowledge.base.adopted is None and rig.learner.fast_head.served.key == key
    rig.decide()
    assert rig.learner.knowledge.base.adopted is None  # the offer was decided on


def test_after_a_change_of_the_settings_these_hold_again(rig: AdoptRig, store: Store) -> None:
    rig.offer(make_offer(store))
    rig.publisher.checkpoint()
    rig.start(num_features=80)
    assert rig.learner.knowledge.base.adopted is None
    assert rig.learner.fast_head.served.config.head_features == 80
    assert rig.learner.fast_head.ridge.num_samples == len(rig.learner.replay)


def test_the_next_offer_takes_the_place_of_one_under_way(rig: AdoptRig, store: Store) -> None:
    first = store.commands.append(make_offer(store, id="one"))
    rig.follow()
    rig.learner.tick()
    outcome = rig.offer(make_offer(store, NARROW, id="two"))
    assert outcome is not None and outcome.state == "published"
    superseded = store.commands.outcome(first)
    assert superseded is not None and (superseded.state, superseded.reasons) == ("refused", (SUPERSEDED,))
    assert [entry.action for entry in store.versions.history(2)] == ["adopted", "published"]
    assert rig.learner.fast_head.served.config.d_model == NARROW.d_model


@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.MEASURE])
def test_an_offer_takes_the_place_of_a_round_that_trains(rig: AdoptRig, store: Store, phase: Phase) -> None:
    """A round takes a minute or more under load, and its encoder would be replaced at once."""
    rig.learner.begin("labels")
    training = rig.learner.knowledge.round
    assert training is not None
    while training.phase is not phase:
        rig.learner.tick()
        assert rig.learner.knowledge.round is training
    outcome = rig.offer(make_offer(store, NARROW))
    assert outcome is not None and (outcome.state, outcome.version) == ("published", 2)
    assert [each.outcome for each in rig.learner.knowledge.lineage.rounds] == ["dropped"]
    rig.learn(300, 360)
    rig.train()
    assert rig.publish() == 3


def test_a_restart_amid_the_round_decides_again_with_the_same_result(rig: AdoptRig, store: Store) -> None:
    command = store.commands.append(make_offer(store))
    rig.publisher.checkpoint()
    rig.follow()
    for _ in range(5):
        rig.learner.tick()
    rig.start()
    rig.decide()
    rig.publish()
    outcome = rig.follow(command)
    assert outcome is not None and outcome.state == "published"
    first = store.versions.manifest(rig.learner.version)
    again = rig.learner.fast_head.successor(rig.learner.fast_head.served)
    again.relearn(rig.learner.replay.samples())
    sums = rig.learner.fast_head.export()
    assert all(torch.equal(value, sums[name]) for name, value in again.export().items() if "recent" not in name)
    assert first.parent == 1
