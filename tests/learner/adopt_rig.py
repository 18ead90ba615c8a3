"""A publish rig whose learner decides on offers of encoders, for the tests of adoption."""

from pathlib import Path

from tests.learner.publish_rig import PublishRig
from wire.records import Command, CommandOutcome, EncoderOffer
from wire.store import Store


class AdoptRig(PublishRig):
    """A publish rig whose learner decides on offers."""

    def offer(self, offer: EncoderOffer) -> CommandOutcome | None:
        """Makes an offer, lets the learner decide and publish; returns the outcome."""
        command = self.store.commands.append(offer)
        self.decide(command)
        if self.learner.knowledge.base.adopted is not None and self.is_open(command):
            self.publish()
            self.decide(command)
        return self.store.commands.outcome(command)

    def decide(self, command: Command | None = None) -> None:
        """Polls the commands until the round of the offer has ended."""
        self.follow(command)
        while self.learner.has_work:
            self.learner.tick()
        self.follow(command)

    def is_open(self, command: Command) -> bool:
        outcome = self.store.commands.outcome(command)
        return outcome is None or not outcome.is_final


def published_rig(store: Store, folder: Path) -> AdoptRig:
    """Returns a learner with a published version. The gate is lenient, since random encoders are useless."""
    rig = AdoptRig(store, folder, trainable_layers=1, max_negative_flips=1.0, accuracy_tolerance=1.0)
    rig.learn(0, 300)
    assert rig.publish() == 1
    return rig
