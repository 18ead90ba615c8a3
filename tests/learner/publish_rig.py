"""A learner and its publisher on a real store, for the tests of publishing and restoring."""

from pathlib import Path

from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.commands import CommandRunner
from learner.release.publisher import WeightPublisher
from learner.rounds.worker import INLINE
from learner.state.checkpoints import Checkpoints
from learner.stopwatch import Clocks
from tests.learner.small_learner import Setting, small_config, small_learner
from tests.learner.streams import stream
from wire.receipts import Receipts
from wire.records import Arm, Command, CommandOutcome, RolloutPlan
from wire.store import Store


class PublishRig:
    """A learner that publishes into a store, with a clock that only the test advances."""

    def __init__(self, store: Store, folder: Path, receipts: Receipts | None = None, /, **changed: Setting) -> None:
        self._receipts = receipts
        self._changed: dict[str, Setting] = {"trainable_layers": 0, **changed}
        self.store = store
        self.folder = folder
        self.now_s = 0.0
        # The processor time of an attempt to publish.
        self.attempt_s = 0.0
        self._worked_s = 0.0
        self.start()

    def start(self, **changed: Setting) -> None:
        """Restores the newest checkpoint as a new process would, under `changed` settings."""
        self._changed |= changed
        self.checkpoints = Checkpoints(self.folder, num_newest=3)
        self.leadership = Leadership(
            self.store.leases, "learner", "test", ttl_ms=60_000, highest_epoch=self.checkpoints.highest_epoch
        )
        assert self.leadership.acquire()
        self.config = small_config(**self._changed)
        self.learner = self.make_learner(self._receipts, self.folder, **self._changed)
        self.publisher = WeightPublisher(
            self.learner,
            self.store,
            self.checkpoints,
            self.leadership,
            config=self.config,
            now_ms=lambda: 1,
            clocks=Clocks(lambda: self.now_s, self._processor_s),
        )
        snapshot = self.checkpoints.newest()
        if snapshot is not None:
            self.learner.restore(snapshot)
        self.publisher.recover(snapshot.facts.pending if snapshot else None, {})
        self.runner = self.make_runner()

    def make_runner(self, *, verify_every_s: float = 0.0) -> CommandRunner:
        """Returns a runner of the operators' commands."""
        return CommandRunner(
            self.learner,
            self.store,
            self.checkpoints,
            self.publisher,
            leadership=self.leadership,
            now_ms=lambda: 7,
            verify_every_s=verify_every_s,
            clock_s=lambda: self.now_s,
        )

    def follow(self, command: Command | None = None) -> CommandOutcome | None:
        """Executes the commands ten seconds later; returns the outcome of `command` in the store."""
        self.now_s += 10.0
        self.runner.poll()
        return None if command is None else self.store.commands.outcome(command)

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        """Returns an empty learner."""
        return small_learner(receipts, INLINE, folder, **changed)

    def _processor_s(self) -> float:
        # Called once before an attempt, and once after it.
        self._worked_s += self.attempt_s
        return self._worked_s

    def learn(self, first: int, last: int) -> None:
        """Learns the events from `first` up to and excluding `last`."""
        self.learner.learn_many(stream(first, last), {"feedback.v1/0": last})

    def train(self) -> None:
        """Runs a slow round, whose encoder must be adopted."""
        adopted = self.learner.counts["rounds_adopted"]
        self.learner.begin("labels")
        while self.learner.has_work:
            self.learner.tick()
        assert self.learner.counts["rounds_adopted"] == adopted + 1

    def publish(self) -> int:
        """Publishes ten seconds later; returns the version from which the learner then continues."""
        self.now_s += 10.0
        assert self.publisher.is_due()
        self.publisher.publish()
        self.publisher.complete(wait=True)
        return self.learner.version


def wipe(store: Store) -> None:
    """Deletes everything under the store's prefix from the server."""
    server = store._server
    server.ask("DEL", *server.ask("KEYS", f"{server.config.prefix}*"))


def withdraw(store: Store, *, to: int) -> None:
    """Rolls back: makes version `to` the current one, and the only one in the plan."""
    plan = store.plans.read()
    arms = (Arm(name="stable", version=to, share=1.0),)
    revision = plan.revision + 1 if plan else 1
    store.plans.write(RolloutPlan(revision=revision, salt="s", arms=arms), current=to)
