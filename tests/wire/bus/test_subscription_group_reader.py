"""N15, N22: a member of a group whose log has lost records, on a real Kafka."""

from typing import Any

import pytest
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from tests.brokers import take
from tests.lost_tails import CutTopics
from tests.waiting import eventually
from tests.wire.bus.traffic import events, ids, patient, send
from wire.bus import Bus, Loss, Poll, Subscription
from wire.records import Event, topic_name

pytestmark = pytest.mark.live


def answered(bus: Bus, num: int) -> Subscription[Event]:
    """Returns a member that has finished the first `num` events, and committed that."""
    member = bus.subscribe(Event, "replicas")
    for item in take(member.poll, num)[:num]:
        member.finish(item.position)
    return member


def come(member: Subscription[Event], num: int) -> tuple[list[str], list[Loss]]:
    """Returns the next events and the losses; waits for `num` events, or else for a loss."""
    came: list[str] = []
    losses: list[Loss] = []

    def has_come() -> bool:
        poll: Poll[Any] = patient(member.poll)(100)
        came.extend(ids(poll.received))
        losses.extend(poll.losses)
        return len(came) >= num and (bool(num) or bool(losses))

    eventually(has_come, within_s=60)
    return came, losses


def test_a_week_of_events_is_not_answered_again_after_a_lost_tail(cut_topics: CutTopics) -> None:
    bus = Bus(cut_topics.config, "first")
    send(bus.publisher(), *events(5))
    cut_topics.remember(Event)
    send(bus.publisher(), *events(5, start=5))
    answered(bus, 10).close()
    cut_topics.cut(Event)  # the commits were on another disk: they lie behind the end now

    second = Bus(cut_topics.config, "second")
    member = second.subscribe(Event, "replicas")
    assert come(member, 0) == ([], [Loss(cut_topics.partition(Event), 10, 5)])
    send(second.publisher(), *events(3, start=20))
    assert come(member, 3) == (["e20", "e21", "e22"], [])
    bus.close()
    second.close()


def test_a_commit_says_where_a_log_was_cut_that_has_grown_past_it(cut_topics: CutTopics) -> None:
    bus = Bus(cut_topics.config, "first")
    send(bus.publisher(), *events(5))
    cut_topics.remember(Event)
    send(bus.publisher(), *events(5, start=5))
    answered(bus, 10).close()
    cut_topics.cut(Event)
    second = Bus(cut_topics.config, "second")
    send(second.publisher(), *events(8, start=20))
    member = second.subscribe(Event, "replicas")
    assert come(member, 8) == ([f"e{number}" for number in range(20, 28)], [Loss(cut_topics.partition(Event), 10, 5)])
    bus.close()
    second.close()


def test_a_member_that_runs_goes_on_behind_the_cut_and_what_was_in_flight_is_void(cut_topics: CutTopics) -> None:
    bus = Bus(cut_topics.config, "first")
    send(bus.publisher(), *events(5))
    cut_topics.remember(Event)
    send(bus.publisher(), *events(5, start=5))
    member = bus.subscribe(Event, "replicas")
    in_flight = take(member.poll, 10)
    cut_topics.cut(Event)
    assert come(member, 0) == ([], [Loss(cut_topics.partition(Event), 10, 5)])
    assert not member.is_ours(in_flight[0].position)
    send(bus.publisher(), *events(3, start=20))
    assert come(member, 3) == (["e20", "e21", "e22"], [])
    bus.close()


def test_events_that_expired_are_counted_and_the_others_are_read(cut_topics: CutTopics) -> None:
    """N22."""
    bus = Bus(cut_topics.config, "first")
    send(bus.publisher(), *events(10))
    answered(bus, 4).close()
    admin = KafkaAdminClient(bootstrap_servers=cut_topics.config.bootstrap_servers)
    admin.delete_records({TopicPartition(topic_name(cut_topics.config.prefix, Event), 0): 7})
    admin.close()
    member = bus.subscribe(Event, "replicas")
    num_expired = 0
    came: list[str] = []

    def has_come() -> bool:
        nonlocal num_expired
        poll = member.poll(100)
        num_expired += poll.num_expired
        came.extend(ids(poll.received))
        return len(came) == 3

    eventually(has_come)
    assert came == ["e7", "e8", "e9"] and num_expired == 3
    bus.close()
