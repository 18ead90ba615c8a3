"""The manifest of a version says what it names differently from the reference of the rollout."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.learner.publish_rig import PublishRig
from wire.records import Arm, RolloutPlan

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
    assert rig.publisher._maker.stored(other, known, rig.store.blobs) is None


def test_a_plan_that_cannot_be_read_stops_no_publication(rig: PublishRig, raw: Any, key: Callable[..., str]) -> None:
    rig.learn(0, 40)
    rig.publish()
    refer_to(rig, 1)
    rig.learn(40, 60)
    assert rig.store.versions.manifest(rig.publish()).name_changes.reference == 1
    raw.hset(key("plan"), "body", b"{}")
    rig.learn(60, 80)
    assert rig.publish() == 3 and rig.store.versions.manifest(3).name_changes.reference == 0
