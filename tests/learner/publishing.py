"""A learner and its publisher on a real store, for the tests of what lies between them."""

from pathlib import Path

from learner.checkpoint import Checkpoints
from learner.publish import Publisher
from tests.learner.small import small_config, small_learner
from tests.learner.streams import stream
from wire.records import Arm, RolloutPlan
from wire.store import Lease, Store


class Bench:
    """A learner that publishes into a store, with a clock that stands still unless it is moved."""

    def __init__(self, store: Store, folder: Path, **changed: float | str) -> None:
        self.config = small_config(trainable_layers=0, **changed)
        self.store, self.folder, self.now_s = store, folder, 0.0
        lease = store.acquire("learner", "test", 60_000)
        assert lease is not None
        self.start(lease)

    def start(self, lease: Lease) -> None:
        """As a new process would: from the newest checkpoint."""
        self.checkpoints = Checkpoints(self.folder, num_newest=3)
        self.learner = small_learner(trainable_layers=0)
        self.publisher = Publisher(
            self.learner,
            self.store,
            self.checkpoints,
            lease,
            config=self.config,
            now_ms=lambda: 1,
            clock_s=lambda: self.now_s,
        )
        snapshot = self.checkpoints.newest()
        if snapshot is not None:
            self.learner.restore(snapshot)
        self.publisher.recover(snapshot.facts.pending if snapshot else None, {})

    def learn(self, first: int, last: int) -> None:
        self.learner.learn(stream(first, last), {"feedback.v1/0": last})

    def publish(self) -> int:
        self.now_s += 10.0
        assert self.publisher.is_due()
        self.publisher.publish()
        self.publisher.settle(wait=True)
        return self.learner.version


def renewed(store: Store) -> Lease:
    lease = store.acquire("learner", "test", 60_000)
    assert lease is not None
    return lease


def withdraw(store: Store, *, to: int) -> None:
    plan = store.plan()
    arms = (Arm(name="stable", version=to, share=1.0),)
    revision = plan.revision + 1 if plan else 1
    store.write_plan(RolloutPlan(revision=revision, salt="s", arms=arms), current=to)
