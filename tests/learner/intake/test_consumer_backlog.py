"""B6: a backlog is learnt completely, in windows that are much smaller than the backlog."""

import time
from collections import Counter
from contextlib import closing
from typing import Final

import pytest

from learner.config import LearnerConfig
from learner.intake.consumer import Consumer, ReadState
from learner.intake.join import Join
from learner.intake.outbox import Outbox
from learner.intake.trust import LabelTrust
from learner.samples import OVERHEAD
from services.local.kafka import LocalBroker
from tests.learner.intake.joins import label_names
from wire.bus import Bus
from wire.records import Answer, Feedback

NUM_EVENTS: Final = 60_000

WINDOW: Final = {"kafka": 4_000, "tansu": 6_000}
"""Answers or labels that a window holds: several times what the broker returns of one partition before the next."""

TEXT: Final = "where is my parcel, it should have been here on monday"
SCORES: Final = tuple((f"class_{number}", 0.123456789) for number in range(5))


def event_id(number: int) -> str:
    return f"event-{number:032d}"


def answer(number: int) -> Answer:
    return Answer(
        event_id=event_id(number),
        text=TEXT,
        label="x",
        score=0.9,
        scores=SCORES,
        weights_version=1,
        arm="stable",
        precision="int8",
        rollout_revision=1,
        key=f"customer-{number % 1_000}",
        source="shop",
        time_ms=1 + number,
    )


def fill(bus: Bus, *, is_clock_right: bool) -> None:
    """Sends an answer for every event, one a millisecond, and a label a second after each answer.

    A clock of the labels that is not right says the same time for ever.
    """
    publisher = bus.publisher()
    for number in range(NUM_EVENTS):
        publisher.send(answer(number))
    for number in range(NUM_EVENTS):
        time_ms = 1_001 + number if is_clock_right else 1
        publisher.send(Feedback(event_id=event_id(number), label="x", source="desk", time_ms=time_ms))
    publisher.flush(200)


def caught_up(bus: Bus, config: LearnerConfig) -> Counter[str]:
    """The counts of a join that has read both topics to their end, without a checkpoint."""
    join = Join(config, LabelTrust(config), label_names(config))
    consumer = Consumer(
        bus,
        ReadState(offsets={}, letters=Outbox(), counts=join.counts),
        levels=lambda: join.levels,
        wait=lambda: time.sleep(0.1),
        on_truncated=lambda: None,
    )
    ends = consumer.ends()
    with closing(consumer):
        while any(consumer.offsets.get(name, 0) < end for name, end in ends.items()):
            join.match(consumer.poll(config.poll_timeout_ms))
    return join.counts


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("is_clock_right", [True, False])
def test_a_learner_that_was_away_learns_what_was_said_meanwhile(
    bus: Bus, broker: LocalBroker, is_clock_right: bool
) -> None:
    """B6: 60,000 answers and labels lie in the topics, and the windows hold some thousand."""
    fill(bus, is_clock_right=is_clock_right)
    num_bytes = WINDOW[broker.kind] * (OVERHEAD + 200)
    config = LearnerConfig(holdout_share=0.0, pending_bytes=num_bytes, parked_bytes=num_bytes)
    counts = caught_up(bus, config)
    assert counts["answers"] == NUM_EVENTS
    assert counts["labels"] == NUM_EVENTS
    assert counts["matched"] >= 0.999 * NUM_EVENTS, counts
