"""Tests of class weights: a version has them, is rebuilt with them, and is compared only with versions of the same."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from learner.learner import Learner
from learner.relabelling import follow_settings
from learner.release.rebuild import differences, rebuild
from learner.rounds.worker import INLINE
from learner.samples import HoldoutDraw
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import Setting, small_learner
from tests.learner.streams import stream
from wire.config import LabelConfig
from wire.inputs import Features
from wire.receipts import Receipts
from wire.records import Answer, Feedback, WeightManifest
from wire.store import Store

pytestmark = pytest.mark.live


class WeightedRig(PublishRig):
    """A learner with class weights in its settings."""

    labels = LabelConfig(class_weights={"refund": 20.0})

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        learner = small_learner(receipts, INLINE, folder, **changed)
        learner.label_config = self.labels
        follow_settings(learner)
        return learner


def manifest(rig: PublishRig) -> WeightManifest:
    return rig.store.versions.manifest(rig.publish())


def share_named(rig: PublishRig, label: str) -> float:
    """Returns the share of the holdout samples for which the last version predicts `label`."""
    version = rig.publisher.last
    assert version is not None
    holdout = rig.learner.knowledge.holdout
    z_ND, _ = holdout.vectors(version.version.served, version.version.classes)
    rows_N = version.version.head.logits(z_ND, len(version.version.classes)).argmax(dim=1)
    return float((rows_N == version.version.classes.index(label)).float().mean())


def test_a_class_of_a_higher_weight_is_named_more_often_and_its_average_precision_is_known(
    store: Store, tmp_path: Path
) -> None:
    rig = WeightedRig(store, tmp_path, holdout_share=0.4)
    rig.learn(0, 120)
    found = manifest(rig)
    assert found.solution.class_weights == {"refund": 20.0}
    assert found.evaluation.average_precision
    value, parent = found.evaluation.average_precision["refund"]
    assert 0.5 < value == parent
    weighted = share_named(rig, "refund")
    rig.labels = LabelConfig()
    rig.start()
    # A version is due without new labels, since the last one has other class weights.
    found = manifest(rig)
    assert not found.solution.class_weights and not found.evaluation.average_precision
    assert share_named(rig, "refund") < weighted


def test_a_version_of_other_weights_is_no_parent_to_compare_with(store: Store, tmp_path: Path) -> None:
    rig = WeightedRig(store, tmp_path, holdout_share=0.4)
    rig.learn(0, 120)
    rig.publish()
    rig.labels = LabelConfig(class_weights={"refund": 1e6})
    rig.start()
    found = manifest(rig)
    assert share_named(rig, "refund") == 1.0
    assert (found.parent, found.evaluation.parent_accuracy, found.evaluation.anchor) == (1, 0.0, 0)
    rig.learn(120, 130)
    assert manifest(rig).evaluation.parent_accuracy > 0


def test_a_version_is_rebuilt_with_the_weights_that_it_had(store: Store, tmp_path: Path) -> None:
    rig = WeightedRig(store, tmp_path)
    rig.learn(0, 60)
    found = manifest(rig)
    read: list[int] = []

    def read_to(offsets: Mapping[str, int]) -> Iterator[Sequence[Answer | Feedback]]:
        end = offsets.get("feedback.v1/0", 0)
        yield list(stream(sum(read), end))
        read.append(end - sum(read))

    again = rebuild(found, small_learner(trainable_layers=0), rig.config, read_to)
    assert differences(found, again) == []


class FraudRig(WeightedRig):
    """Payments: 2 in 1,000 are fraud. All fraud comes from one country, and 3 in 5 payments from there are fine."""

    labels = LabelConfig(class_weights={"fraud": 1.1})

    def teach(self, batch: str, labels: Mapping[int, str]) -> None:
        """Learns labels of payments, by their numbers. Only the batch "stream" has holdout samples."""
        records = list[Answer | Feedback]()
        for number, label in labels.items():
            event_id = f"{batch}-{number}"
            if batch == "stream" or not HoldoutDraw(self.config.holdout_share)(("", event_id)):
                records.append(Feedback(event_id=event_id, label=label, features=payment(number), time_ms=1))
        self.learner.learn_many(records, {"feedback.v1/0": len(labels)})


def payment(number: int) -> Features:
    place = number % 1_000
    country = {100: "rare", 50: "other"}.get(place % 200, f"country {number % 7}")
    return {"country": country, "channel": f"channel {number * number % 1_009 % 3}"}


def label_of_payment(number: int) -> str:
    return "fraud" if number % 1_000 in (100, 500) else "fine"


def test_a_version_that_ranks_two_in_a_thousand_worse_is_refused_for_its_average_precision_alone(
    store: Store, tmp_path: Path
) -> None:
    rig = FraudRig(store, tmp_path, holdout_share=0.5, holdout_samples=20_000, learn_names=False)
    rig.teach("stream", {number: label_of_payment(number) for number in range(10_000)})
    first = manifest(rig).evaluation
    assert first.average_precision and first.accuracy > 0.99
    rig.teach("stream", {number: label_of_payment(number) for number in range(10_000, 11_000)})
    assert rig.publish() == 2 and not rig.publisher.refusals  # more of the same is no worse
    # somebody clears what comes from the rare country, and blames another one
    rig.teach("cleared", dict.fromkeys(range(100, 10_000, 200), "fine"))
    rig.teach("blamed", dict.fromkeys(range(50, 8_000, 200), "fraud"))
    assert rig.publish() == 2
    assert rig.publisher.refusals == ("average_precision",)
    kept = rig.learner.knowledge.holdout.samples.samples()
    assert sum(sample.label == "fraud" for sample in kept) < 0.003 * len(kept)
