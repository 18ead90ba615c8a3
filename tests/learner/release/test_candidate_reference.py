"""Tests that a manifest has the changes of predictions compared with the baseline of the rollout."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from learner.encoder.served import ServedEncoder
from learner.samples import Labelled
from learner.standardisation import MIN_LABELS
from tests.learner.publish_rig import PublishRig
from tests.learner.streams import label_of, labelled_events
from tests.learner.test_standardisation import records
from wire.records import Arm, NameChanges, RolloutPlan, WeightManifest
from wire.store import Store

pytestmark = pytest.mark.live


def refer_to(rig: PublishRig, version: int) -> None:
    plan = rig.store.plans.read()
    arms = (Arm(name="stable", version=version, share=1.0),)
    rig.store.plans.write(
        RolloutPlan(revision=plan.revision + 1 if plan else 1, salt="s", arms=arms, reference=version)
    )


def test_without_a_reference_nothing_is_compared(rig: PublishRig) -> None:
    rig.learn(0, 40)
    assert rig.store.versions.manifest(rig.publish()).name_changes.reference == 0


def test_a_version_is_compared_with_the_reference_on_the_last_events(rig: PublishRig) -> None:
    rig.publish()
    rig.learn(0, 40)
    assert rig.publish() == 2
    refer_to(rig, 2)
    rig.learn(40, 80)
    changes = rig.store.versions.manifest(rig.publish()).name_changes
    assert changes.reference == 2 and changes.texts == changes.labels > 60
    assert changes.between_old <= changes.texts // 4 and not changes.to_new and not changes.new_classes
    refer_to(rig, 1)  # which knows no class
    rig.learn(80, 90)
    changes = rig.store.versions.manifest(rig.publish()).name_changes
    assert changes.reference == 1 and changes.to_new == changes.texts and changes.new_classes and changes.wins > 0


def test_a_reference_of_another_encoder_or_one_that_is_gone_is_none(rig: PublishRig) -> None:
    rig.learn(0, 40)
    manifest = rig.store.versions.manifest(rig.publish())
    known = rig.learner.knowledge
    finder = rig.publisher._reference
    assert finder.find(known) is None
    refer_to(rig, 1)
    found = finder.find(known)
    assert found is not None and found.number == 1 and finder.find(known) is found
    others = tuple(
        msgspec.structs.replace(tensor, digest="0" * 64) if tensor.name.startswith("layers") else tensor
        for tensor in manifest.tensors
    )
    other = msgspec.structs.replace(manifest, tensors=others)
    assert rig.publisher._maker.load(other, known, rig.store.blobs) is None


def test_a_reference_with_other_scales_of_numbers_is_read_under_its_own(rig: PublishRig) -> None:
    def learn(first: int, last: int) -> WeightManifest:
        rig.learner.learn_many(records(range(first, last)), {"feedback.v1/0": last})
        rig.learner.tick()
        return rig.store.versions.manifest(rig.publish())

    digests = [learn(0, MIN_LABELS // 2).encoder_digests]
    refer_to(rig, 1)
    for first, last in pairwise([MIN_LABELS // 2, 2 * MIN_LABELS, 5 * MIN_LABELS, 10 * MIN_LABELS]):
        manifest = learn(first, last)
        digests.append(manifest.encoder_digests)
        changes = manifest.name_changes
        assert digests[-1] != digests[-2], "numbers were standardised"
        assert changes.reference == 1 and changes.texts > 0.7 * last
        assert changes.wins + changes.ties + changes.losses > 0.7 * (last - MIN_LABELS // 2)
        assert not changes.held_wins + changes.held_ties + changes.held_losses
    assert changes.wins > 2 * changes.losses, "the reference read no number"
    refer_to(rig, 3)
    rig.start()
    assert learn(10 * MIN_LABELS, 11 * MIN_LABELS).name_changes.reference == 3, "also after a restart"


def test_a_plan_that_cannot_be_read_stops_no_publication(rig: PublishRig, raw: Any, key: Callable[..., str]) -> None:
    rig.learn(0, 40)
    rig.publish()
    refer_to(rig, 1)
    rig.learn(40, 60)
    assert rig.store.versions.manifest(rig.publish()).name_changes.reference == 1
    raw.hset(key("plan"), "body", b"{}")
    rig.learn(60, 80)
    assert rig.publish() == 3 and rig.store.versions.manifest(3).name_changes.reference == 0


ROUNDS = {"trainable_layers": 1, "slow_rate": 1e-4, "holdout_share": 0.4, "slow_every_labels": 1e6}
NO_GATE = {"accuracy_tolerance": 1.0, "max_negative_flips": 1.0, "max_head_update": 1e9}


def learn_mixed(rig: PublishRig, first: int, last: int) -> None:
    for number in range(first, last):
        learn_as(rig, number, number + 1, "" if number % 2 else label_of(number + 1))


def learn_as(rig: PublishRig, first: int, last: int, label: str) -> None:
    rig.learner.learn_many(labelled_events(range(first, last), label=label), {"feedback.v1/0": last})


def is_settled(rig: PublishRig) -> bool:
    return rig.learner.schedule.is_settled


def named_rightly(rig: PublishRig, version: int, served: ServedEncoder) -> set[Labelled]:
    """Returns the holdout samples that a stored version predicts correctly, encoded and scored one at a time."""
    manifest = rig.store.versions.manifest(version)
    (entry,) = [each for each in manifest.tensors if each.name == "head.out"]
    candidate = rig.publisher._maker.load(manifest, rig.learner.knowledge, rig.store.blobs, served=served)
    assert candidate is not None and candidate.tensors["head.out"].entry == entry
    head = candidate.version.head
    found = set[Labelled]()
    for sample in rig.learner.knowledge.holdout.samples.samples():
        scores = head.logits(served.z_many([sample.text], "int8"), len(manifest.labels))
        if manifest.labels[int(scores.argmax())] == sample.label:
            found.add(sample)
    return found


@pytest.fixture
def slow_rig(store: Store, tmp_path: Path) -> PublishRig:
    """A learner whose baseline, version 1, lacks a later class, and predicts some samples incorrectly.

    Half of the labels belong to another topic, so the predictions of two versions differ.
    """
    rig = PublishRig(store, tmp_path, **ROUNDS, **NO_GATE)
    learn_mixed(rig, 0, 40)
    refer_to(rig, rig.publish())
    learn_mixed(rig, 40, 140)
    learn_as(rig, 140, 170, "complaint")
    return rig


def test_a_version_with_a_new_encoder_is_compared_on_the_holdout_samples_of_the_reference_s_classes(
    slow_rig: PublishRig,
) -> None:
    rig = slow_rig
    before = rig.learner.fast_head.served
    assert rig.store.versions.manifest(rig.publish()).name_changes.texts > 60, "the encoder is the same"
    rig.train()
    version = rig.publish()
    after = rig.learner.fast_head.served
    assert before.key != after.key
    samples = {each for each in rig.learner.knowledge.holdout.samples.samples() if each.label != "complaint"}
    assert 20 < len(samples) < len(rig.learner.knowledge.holdout)
    right_before = named_rightly(rig, 1, before)
    right_after = named_rightly(rig, version, after)
    changes = rig.store.versions.manifest(version).name_changes
    assert changes == NameChanges(
        reference=1,
        held_wins=len((right_after - right_before) & samples),
        held_losses=len((right_before - right_after) & samples),
        held_ties=len(samples) - len((right_after ^ right_before) & samples),
    )
    assert changes.held_wins and changes.held_losses, changes
    rig.learn(170, 180)
    later = rig.store.versions.manifest(rig.publish()).name_changes
    assert later.reference == 1 and later.held_ties, "the samples that were known stay known"


def test_versions_after_a_new_encoder_are_compared_with_it_by_the_last_events_again(slow_rig: PublishRig) -> None:
    rig = slow_rig
    rig.publish()
    assert is_settled(rig)
    rig.train()
    newer = rig.publish()
    assert not is_settled(rig), "no round begins before the new encoder is decided on"
    refer_to(rig, newer)
    rig.learn(170, 230)
    changes = rig.store.versions.manifest(rig.publish()).name_changes
    assert is_settled(rig)
    assert (changes.reference, changes.held_ties) == (newer, 0) and changes.texts > 20
    rig.train()
    again = rig.store.versions.manifest(rig.publish()).name_changes
    assert (again.reference, again.texts) == (newer, 0) and again.held_ties > 20


def test_without_a_version_of_the_reference_s_encoder_nothing_is_claimed(slow_rig: PublishRig) -> None:
    rig = slow_rig
    rig.publish()
    rig.train()
    # After an erasure there is no parent.
    rig.publisher.start_over()
    assert rig.store.versions.manifest(rig.publish()).name_changes == NameChanges()
    assert not rig.publisher._reference._holdout_results.right
    assert is_settled(rig), "as far as is known"


def test_a_restart_before_the_first_version_with_a_new_encoder_loses_nothing(slow_rig: PublishRig) -> None:
    rig = slow_rig
    rig.publish()
    rig.publisher.checkpoint()
    rig.train()
    rig.publisher.checkpoint()
    rig.start()
    assert rig.store.versions.manifest(rig.publish()).name_changes.held_ties > 20
