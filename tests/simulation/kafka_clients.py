"""Simulated clients of the simulated broker: the part of kafka-python's consumer and producer that the product uses.

    Bus --Clients--> SimConsumer | SimProducer --network--> Broker

Behind them run our own Follower, Subscription and Publisher. A position has the leader epoch of the record before it,
so the broker finds a log that was cut, as Kafka does since 2.1 (KIP-320). `raw_polls`, which reads the bytes of
batches, is replaced by `polled`, which returns the same values: tests/wire/bus has the tests of the bytes.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaConnectionError, KafkaTimeoutError  # type: ignore[import-untyped]
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata  # type: ignore[import-untyped]

from tests.simulation.broker import KAFKA, Broker
from tests.simulation.fetches import Fetches, Position, TopicState
from tests.simulation.network import Unreachable
from tests.simulation.producer import SimProducer
from wire.bus.record_batches import Raw
from wire.config import BusConfig

FETCH_S: Final = 0.005
"""How long a fetch that found nothing waits before it looks again; a record wakes it sooner."""

LEADER_EPOCHS: Final = 23
"""The API key of OffsetForLeaderEpoch, which the simulated broker has."""

_clients = itertools.count()


class SimConsumer:
    """The simulated KafkaConsumer."""

    def __init__(self, broker: Broker, **options: Any) -> None:
        self._broker = broker
        self._network = broker.network
        self._group_id: str | None = options.get("group_id")
        self._timeout_s = 1e-3 * options.get("request_timeout_ms", 10_000)
        self._session_s = 1e-3 * options.get("session_timeout_ms", 6_000)
        self._max_records = options.get("max_poll_records", 500)
        self._member_id = f"{broker.scheduler.current.name if broker.scheduler.current else ''}-{next(_clients)}"
        self._generation = -1
        self._listener: Any = None
        self._is_paused = False
        self._fetches = Fetches(broker, group=self._group_id or "", reset=options.get("auto_offset_reset", "none"))
        self._states = self._fetches.states
        self._todo: deque[Callable[[], None]] = deque()
        self._subscription = SimpleNamespace(
            assignment=self._states, assign_from_subscribed=lambda partitions: self.assign(partitions)
        )
        api_versions = {LEADER_EPOCHS: (0, 4)}
        self._manager = SimpleNamespace(broker_version_data=SimpleNamespace(api_versions=api_versions))
        self._cluster = SimpleNamespace(topic_id=broker.ids.get, need_update=False)
        self._coordinator = SimpleNamespace(
            request_rejoin=lambda: None,
            reset_generation=lambda: None,
            _commit_offsets_sync_async=self._commit_awaited,
            _do_join_and_sync_async=None,
            _net=SimpleNamespace(sleep=self._sleep),
        )

    def topics(self) -> Any:
        return self._ask(lambda: set(self._broker.ids))

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {each.partition for each in self._broker.logs if each.topic == topic}

    def assignment(self) -> set[TopicPartition]:
        return set(self._states)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        before = dict(self._states)
        self._states.clear()
        self._states.update({each: before.get(each, TopicState()) for each in partitions})

    def unsubscribe(self) -> None:
        self._states.clear()

    def subscribe(self, topics: Sequence[str], listener: Any) -> None:
        self._listener = listener

    def group_metadata(self) -> ConsumerGroupMetadata:
        state = MemberState.STABLE if self._generation >= 0 else MemberState.REBALANCING
        return ConsumerGroupMetadata(self._group_id, self._generation, self._member_id, None, state)

    def seek(self, partition: TopicPartition, offset: int | OffsetAndMetadata) -> None:
        at = offset if isinstance(offset, OffsetAndMetadata) else OffsetAndMetadata(offset, "", -1)
        self._states[partition].seek(at)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        for partition in partitions:
            self.seek(partition, self._broker.logs[partition].start)

    def pause(self, *partitions: TopicPartition) -> None:
        self._is_paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        self._is_paused = False

    def highwater(self, partition: TopicPartition) -> int | None:
        state = self._states.get(partition)
        return state.highwater if state else None

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Any:
        return self._ask(lambda: {each: self._broker.logs[each].start for each in partitions})

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> Any:
        return self._ask(lambda: {each: self._broker.logs[each].end for each in partitions})

    def offsets_for_times(self, times: Mapping[TopicPartition, int]) -> Any:
        return self._ask(lambda: {each: self._fetches.offset_at(each, time_ms) for each, time_ms in times.items()})

    def committed(self, partition: TopicPartition, **_: Any) -> Any:
        assert self._group_id is not None
        at = self._ask(lambda: self._broker.group(self._group_id or "").committed.get(partition))
        return None if at is None else at[0]

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        self._ask(lambda: self._commit(offsets))

    def commit_async(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], callback: Any) -> None:
        generation = self._generation
        self._todo.append(lambda: self._answer_commit(offsets, generation, callback))

    def close(self) -> None:
        if self._group_id is not None and not self._network.is_away(KAFKA):
            self._broker.group(self._group_id).leave(self._member_id)
        self._states.clear()

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Raw]]:
        """Returns records, at the latest after the timeout. Raises OffsetOutOfRangeError and LogTruncationError."""
        scheduler = self._broker.scheduler
        ends_s = scheduler.now_s + 1e-3 * timeout_ms
        while True:
            try:
                fetched = self._network.request(KAFKA, self._fetch, timeout_s=max(ends_s - scheduler.now_s, FETCH_S))
            except Unreachable:
                fetched = {}
            for partition, (raws, epoch) in fetched.items():
                self._states[partition].position = Position(raws[-1].next_offset, epoch)
            while self._todo:
                self._todo.popleft()()
            if fetched or scheduler.now_s >= ends_s:
                return {partition: raws for partition, (raws, _) in fetched.items()}
            self._broker.wait_for_record(self._states, ends_s - scheduler.now_s)

    def _ask(self, run: Callable[[], Any]) -> Any:
        try:
            return self._network.request(KAFKA, run, timeout_s=self._timeout_s)
        except Unreachable as error:
            raise KafkaTimeoutError(str(error)) from error

    def _fetch(self) -> dict[TopicPartition, tuple[list[Raw], int]]:
        """Returns records with the epoch of the last one, by partition. Our positions stay: the reply may be lost."""
        if self._group_id is not None and not self._keep_membership(self._group_id):
            return {}
        return {} if self._is_paused else self._fetches.records(self._max_records)

    def _keep_membership(self, name: str) -> bool:
        """Sends a heartbeat, and takes part in a rebalance; returns whether we have our partitions.

        A generation of the group begins when every member that lives has given up those of the one before.
        """
        group = self._broker.group(name)
        self._beat()
        if group.generation == self._generation:
            return True
        if self._member_id not in group.joined:
            if self._generation >= 0:
                _run(self._listener.on_partitions_revoked(set(self._states)))
            group.joined.add(self._member_id)
        if not group.joined >= group.members.keys():
            return False
        self._generation = group.generation
        assigned = self._broker.assignment(group, self._member_id)
        self.assign(assigned)
        _run(self._listener.on_partitions_assigned(assigned))
        return True

    async def _commit_awaited(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], timeout_ms: int) -> None:
        if not self._may_commit():
            raise KafkaConnectionError("not a member any more")
        self._commit(offsets)

    def _beat(self) -> None:
        self._broker.group(self._group_id or "").keep(self._member_id, self._broker.scheduler.now_s, self._session_s)

    async def _sleep(self, delay_s: float) -> None:
        """Pauses a listener. Meanwhile a heartbeat is sent, as by the thread of the real client."""
        self._broker.scheduler.pause(delay_s)
        self._beat()

    def _may_commit(self) -> bool:
        """Whether we are a member of the generation of our partitions, or of the one that ends with it."""
        group = self._broker.group(self._group_id or "")
        is_known = self._member_id in group.members and self._generation in (group.generation, group.generation - 1)
        return is_known and self._generation >= group.since[self._member_id]

    def _commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        assert self._group_id is not None
        plain = {each: (at.offset, at.leader_epoch) for each, at in offsets.items()}
        self._broker.commit(self._group_id, plain)

    def _answer_commit(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], generation: int, callback: Any
    ) -> None:
        if self._network.is_away(KAFKA) or generation != self._generation or not self._may_commit():
            callback(offsets, KafkaConnectionError("not committed"))
        else:
            self._commit(offsets)
            callback(offsets, None)


def polled(consumer: SimConsumer, logs: Any) -> Callable[[int], dict[TopicPartition, list[Raw]]]:
    """Stands in for `wire.bus.fetching.raw_polls`."""
    return consumer.poll


def _run(listener: Any) -> None:
    """Runs a coroutine of a listener. What it awaits pauses the whole task, so the coroutine ends at once."""
    try:
        listener.send(None)
    except StopIteration:
        return
    raise AssertionError("a listener waits")


class SimClients:
    """Stands in for `wire.bus.client.Clients`."""

    broker: Broker

    def __init__(self, config: BusConfig, client_id: str) -> None:
        self._config = config

    def consumer(self, **options: Any) -> SimConsumer:
        timeouts = {"request_timeout_ms": self._config.client_number("request_timeout_ms")}
        return SimConsumer(
            self.broker, max_poll_records=self._config.client_number("max_poll_records"), **timeouts, **options
        )

    def producer(self, **_: Any) -> SimProducer:
        return SimProducer(self.broker, delivery_timeout_ms=self._config.client_number("delivery_timeout_ms"))
