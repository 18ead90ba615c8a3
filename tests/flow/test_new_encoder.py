"""A slow round ends while no label comes: its version becomes stable by the holdout alone, and those after it, too.

learner --slow round--> version with a new encoder --manifest--> controller, without a judge --> plan --> learner
"""

from pathlib import Path

import pytest

from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.judge import Judge
from tests.learner.publish_rig import PublishRig
from wire.records import NameChanges, RolloutPlan
from wire.store import Store

pytestmark = pytest.mark.live


class LearnerAndController:
    """A learner whose versions a controller follows, one step at a time. No label is judged."""

    def __init__(self, store: Store, folder: Path, **changed: float) -> None:
        self._store = store
        self._controller = Controller(store, _no_judge, config=RolloutConfig(), holder="test", now_ms=lambda: 1)
        self.rig = PublishRig(
            store,
            folder,
            **{"trainable_layers": 1, "slow_rate": 1e-4, "slow_every_labels": 1e6, "holdout_share": 0.4, **changed},
        )

    def publish(self) -> tuple[RolloutPlan, NameChanges]:
        """Publishes a version; returns the plan that follows, and what the manifest says of the reference."""
        version = self.rig.publish()
        self._controller.follow_current()
        plan = self._store.plans.read()
        assert plan is not None and plan.stable == version, plan
        return plan, self._store.versions.manifest(version).name_changes


def _no_judge() -> Judge:
    raise AssertionError("the test follows by itself")


def test_versions_with_new_encoders_are_stable_when_they_are_published(store: Store, tmp_path: Path) -> None:
    both = LearnerAndController(store, tmp_path)
    both.rig.learn(0, 400)
    both.publish()
    both.rig.learn(400, 1_600)
    assert both.publish()[0].reference == 1
    both.rig.train()
    plan, changes = both.publish()
    assert plan.reference == plan.stable == 3
    assert changes.held_wins + changes.held_ties > 500 and changes.texts == 0
    both.rig.learn(1_600, 2_200)
    plan, changes = both.publish()
    assert (plan.reference, changes.reference, changes.held_ties) == (3, 3, 0) and changes.texts > 300
    both.rig.train()
    plan, changes = both.publish()
    assert plan.reference == plan.stable == 5 and changes.reference == 3


def test_an_encoder_is_tried_on_labels_where_the_holdout_is_small(store: Store, tmp_path: Path) -> None:
    """Meanwhile versions with the encoder in use become stable; its own is stable when it is published."""
    both = LearnerAndController(store, tmp_path, holdout_share=0.01, trial_labels=1_000)
    both.rig.learn(0, 400)
    both.publish()
    both.rig.learner.begin("labels")
    found = list[NameChanges]()
    while not found or both.rig.learner.knowledge.round is not None:
        while both.rig.learner.has_work:
            both.rig.learner.tick()
        num_labels = 400 + 100 * len(found)
        both.rig.learn(num_labels, num_labels + 100)
        plan, changes = both.publish()
        found.append(changes)
    assert len(found) > 4 and not any(changes.trial_ties for changes in found[:-1])
    assert plan.reference == plan.stable == len(found) + 1
    assert found[-1].trial_ties > 300 and found[-1].trial_wins >= found[-1].trial_losses
