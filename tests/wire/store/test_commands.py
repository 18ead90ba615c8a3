"""The commands about labels have one order, and are signed."""

from collections.abc import Callable

import pytest

from wire.errors import BadSignature, LabelsChanged
from wire.records import LabelCommand, LabelOutcome
from wire.store import Store, keys

pytestmark = pytest.mark.live


def command(number: int, label: str = "bill") -> LabelCommand:
    return LabelCommand(number=number, action="retire", labels=(label,), time_ms=number)


def test_commands_come_in_their_order_and_each_once(store: Store) -> None:
    for number in (1, 2, 2, 3, 1):
        store.labels.request(command(number))
    assert [each.number for each in store.labels.requested()] == [1, 2, 3]
    assert store.labels.requested(2) == [command(3)] and store.labels.requested(3) == []


@pytest.mark.parametrize("wrong", [command(2, "other"), command(4)])
def test_of_two_operators_at_a_time_one_is_told_so(store: Store, wrong: LabelCommand) -> None:
    for number in (1, 2):
        store.labels.request(command(number))
    with pytest.raises(LabelsChanged, match="somebody else has changed the labels"):
        store.labels.request(wrong)


def test_there_is_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.store.commands.MAX_COMMANDS", 1)
    store.labels.request(command(1))
    with pytest.raises(LabelsChanged, match="no more are kept"):
        store.labels.request(command(2))


def test_what_somebody_else_wrote_or_moved_is_refused(store: Store) -> None:
    server = store._server
    key = server.key(keys.LABELS)
    for number in (1, 2):
        store.labels.request(command(number))
    first, _ = server.ask("LRANGE", key, 0, -1)
    server.ask("LSET", key, 1, first)
    with pytest.raises(BadSignature, match="label:2 was not signed with our key, or was changed"):
        store.labels.requested()
    server.ask("LSET", key, 1, first[:-1] + b" ")
    with pytest.raises(BadSignature, match="label:2"):
        store.labels.requested()


def test_what_became_of_a_command_can_be_read_elsewhere(open_store: Callable[[], Store]) -> None:
    ours = open_store()
    theirs = open_store()
    assert theirs.labels.outcome(1) is None
    for version in (0, 4):
        outcome = LabelOutcome(number=1, time_ms=5, samples={"replay": 2}, version=version)
        ours.labels.note(outcome)
        assert theirs.labels.outcome(1) == outcome
