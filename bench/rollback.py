"""Measures 100 rollbacks under load: how long answers still come from the version that was withdrawn.

learner and controller stopped --> 100 times: a new stable version, then a rollback --> the last answer by the new one

A rollback begins with the operator's command, and ends with the last answer under an earlier plan, whose time the
replica has written into it. So it counts what traffic sees: the plan's write, its notice, the swap, and the batch that
was under way.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import NamedTuple

from bench.fixtures import Fixtures
from bench.service import Service, is_followed
from bench.version_faker import VersionFaker
from evals.load.score import percentiles
from evals.load.session import Participants
from evals.results.row import Goal, Row
from evals.streams.stream import Arrival
from rollout.operator import Operator
from wire.bus import every_record
from wire.records import Answer
from wire.timestamps import now_ms

NUM_ROLLBACKS = 100
RATE = 200.0
TAKE_S = 30.0
CHUNK = round(RATE)
"""The texts that are played at once: the load ends at most a second after the last rollback."""


class Rollback(NamedTuple):
    """When a rollback was asked for, and the revision of its plan."""

    time_ms: int
    revision: int


class Answered(NamedTuple):
    """When an answer was given, and the revision of the plan it was given under."""

    time_ms: int
    revision: int


def measure(fixtures: Fixtures) -> Iterator[Row]:
    service = fixtures.service()
    service.stack.stop("learner", "rollout")  # versions and plans come from this process now
    faker = VersionFaker.of(service.store, service.settings.learner.lease_name)
    with service.unlabelled(RATE) as participants, ThreadPoolExecutor(1) as threads:
        rollbacks = deque[Rollback]()
        going = threads.submit(_roll_back, service, faker, participants, rollbacks)
        texts = cycle(service.items)
        while not going.done():
            participants.player.play("bench", [Arrival(item, 0) for item in islice(texts, CHUNK)], RATE)
        going.result()
        participants.player.await_answers(at_most=0)
        answers = [
            Answered(record.time_ms, record.rollout_revision)
            for record in every_record(service.bus, [Answer])
            if participants.ledger.number_of(record.event_id) is not None
        ]
    fixtures.stop_service()  # it has no learner any more
    yield from rollback_rows(rollbacks, answers)


def rollback_rows(rollbacks: Sequence[Rollback], answers: Sequence[Answered]) -> Iterator[Row]:
    """Makes the rows of the rollbacks, which have no value unless all were followed."""
    late_s = seconds_to_the_last_answer(rollbacks, answers)
    is_whole = len(late_s) == NUM_ROLLBACKS
    note = "" if is_whole else f"{len(late_s)} rollbacks were followed within {TAKE_S:g} s, {NUM_ROLLBACKS} expected"
    seconds = percentiles(late_s if is_whole else [], 50, 99)
    yield Row.of(name="rollback.p99", value=seconds["p99"], unit="s", goal=Goal("<=", 1), note=note)
    yield Row.of(name="rollback.p50", value=seconds["p50"], unit="s", note=note)


def seconds_to_the_last_answer(rollbacks: Sequence[Rollback], answers: Sequence[Answered]) -> list[float]:
    """Returns for each rollback the seconds to the last answer under an earlier plan; 0 where none came after it.

    >>> seconds_to_the_last_answer([Rollback(1000, 5)], [Answered(900, 4), Answered(1020, 4), Answered(1030, 5)])
    [0.02]
    """
    last_ms = dict[int, int]()
    for answer in answers:
        last_ms[answer.revision] = max(last_ms.get(answer.revision, 0), answer.time_ms)
    late_s = list[float]()
    for rollback in rollbacks:
        last = max((time_ms for revision, time_ms in last_ms.items() if revision < rollback.revision), default=0)
        late_s.append(round(max(last - rollback.time_ms, 0) / 1000, 3))
    return late_s


def _roll_back(service: Service, faker: VersionFaker, participants: Participants, rollbacks: "deque[Rollback]") -> None:
    """Publishes a version and rolls it back, again and again, each time when every replica follows."""
    operator = Operator(service.store, name="the benchmark")
    for _ in range(NUM_ROLLBACKS):
        participants.watcher.wait(is_followed(faker.publish()), TAKE_S)
        begun_ms = now_ms()
        plan = operator.rollback(now_ms=begun_ms)
        if participants.watcher.wait(is_followed(plan.revision), TAKE_S):
            rollbacks.append(Rollback(begun_ms, plan.revision))
