"""Answers by HTTP lie on disk until the broker has them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serving.kafka.outbox import Outbox
from serving.kafka.spool import Spool
from serving.observers import Counts
from tests.serving.kafka.fake_broker import PLACE, FakeBroker
from tests.waiting import eventually
from tests.wire.samples import answer_to
from wire.errors import BusUnavailable, SendFailed
from wire.records import Answer


@pytest.fixture
def open_spool(tmp_path: Path) -> Callable[..., Spool]:
    def open_one(*, max_bytes: int = 1 << 20) -> Spool:
        return Spool(tmp_path / "spool", max_bytes=max_bytes)

    return open_one


def test_answers_wait_on_disk_while_the_broker_is_away_and_go_in_order(
    make_outbox: Callable[..., Outbox], open_spool: Callable[..., Spool], fake_broker: FakeBroker
) -> None:
    """B15: answers were dropped after 30 s, and beyond 2,048 they were not published at all."""
    fake_broker.says = lambda record: SendFailed("not in time")
    outbox = make_outbox(spool=open_spool())
    outbox.start()
    names = [f"{number}" for number in range(500)]
    assert all(outbox.publish(answer_to(name)) for name in names)
    eventually(lambda: fake_broker.num_tried > 5)
    assert not outbox.is_full  # there is room for the intake
    fake_broker.says = lambda record: None
    eventually(lambda: len(fake_broker.sent) == 500)
    assert fake_broker.names == names


def test_what_a_replica_has_left_is_sent_by_the_next(
    make_outbox: Callable[..., Outbox], open_spool: Callable[..., Spool], fake_broker: FakeBroker, tmp_path: Path
) -> None:
    """B15: after a restart, the answers on disk are published as well."""
    fake_broker.says = lambda record: BusUnavailable("away")
    first = make_outbox(spool=open_spool())
    first.start()
    for number in range(20):
        first.publish(answer_to(f"{number}"))
    eventually(lambda: fake_broker.num_tried > 1)
    first.close(0.1)
    assert not first.publish(answer_to("too late"))
    fake_broker.says = lambda record: None
    second = make_outbox(spool=open_spool())
    second.start()
    eventually(lambda: len(fake_broker.sent) == 20)
    assert fake_broker.names == [f"{number}" for number in range(20)]
    second.close(5)
    assert list((tmp_path / "spool").iterdir()) == []


def test_an_answer_for_which_there_is_no_room_is_not_kept(
    make_outbox: Callable[..., Outbox], open_spool: Callable[..., Spool], counts: Counts
) -> None:
    """B15: the client could not know that its label would find no answer."""
    outbox = make_outbox(spool=open_spool(max_bytes=2_000))
    kept = [outbox.publish(answer_to(f"{number}")) for number in range(50)]
    assert kept == sorted(kept, reverse=True)
    assert 2 < sum(kept) < 20
    assert counts.snapshot() == {"answers_not_published": 50 - sum(kept)}


def test_a_disk_that_takes_nothing_matters_only_while_the_broker_is_away(
    make_outbox: Callable[..., Outbox], fake_broker: FakeBroker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    outbox = make_outbox(spool=Spool(tmp_path / "file" / "spool", max_bytes=1 << 20))
    outbox.start()
    assert outbox.publish(answer_to("a"))
    eventually(lambda: fake_broker.names == ["a"])
    fake_broker.says = lambda record: BusUnavailable("away")
    outbox.send(answer_to("b"), lambda: None, PLACE)
    eventually(lambda: not outbox.publish(answer_to("c")))
    fake_broker.says = lambda record: None
    eventually(lambda: "b" in fake_broker.names)
    assert outbox.publish(answer_to("d"))


def test_what_another_release_has_left_and_nobody_can_read_is_given_up(
    make_outbox: Callable[..., Outbox], open_spool: Callable[..., Spool], fake_broker: FakeBroker, counts: Counts
) -> None:
    spool = open_spool()
    spool.append(b'{"event": "of another shape"}')
    spool.close()
    outbox = make_outbox(spool=open_spool())
    outbox.start()
    outbox.publish(answer_to("a"))
    eventually(lambda: fake_broker.names == ["a"])
    assert counts.snapshot()["kept_unreadable"] == 1


def test_an_answer_that_can_never_be_sent_does_not_stay_on_disk(
    make_outbox: Callable[..., Outbox], open_spool: Callable[..., Spool], fake_broker: FakeBroker
) -> None:
    fake_broker.says = lambda record: SendFailed("too large", is_permanent=True) if isinstance(record, Answer) else None
    spool = open_spool()
    outbox = make_outbox(spool=spool)
    outbox.start()
    outbox.publish(answer_to("a"))
    eventually(lambda: len(fake_broker.sent) == 1)
    outbox.close(5)
    again = open_spool()
    assert again.adopt() == 0
