"""The commands have one order, each is signed under its number, and no permanent command is lost."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from services.keys import add_key, rotate_to
from tests.stores import KEYS
from wire.config import StoreConfig
from wire.errors import CannotSign, CommandMoved, CommandsFull, LabelsChanged, UnknownKey
from wire.keyring import Kind, new_ring
from wire.records import CommandEntry, CommandOutcome, Erase, LabelCommand, Repair, RolloutPlan
from wire.store import OperatorStep, Store, append_entries, keys

pytestmark = pytest.mark.live


def label(number: int, name: str = "bill") -> LabelCommand:
    return LabelCommand(number=number, action="retire", labels=(name,), time_ms=number)


def digests(store: Store, first: int = 1) -> list[str]:
    return [command.read(Erase).digest for command in store.commands.read(first)]


def test_commands_of_all_verbs_have_one_order(store: Store) -> None:
    bodies = (Erase(digest="a"), label(1), Repair(digests=("b",)), label(2), Erase(digest="c"))
    asked = [store.commands.append(body, source="me", time_ms=7) for body in bodies]
    assert [(each.seq, each.verb) for each in asked] == [
        (1, "erase"),
        (2, "relabel"),
        (3, "repair"),
        (4, "relabel"),
        (5, "erase"),
    ]
    assert store.commands.read() == asked and store.commands.read(4) == asked[3:] and store.commands.read(6) == []
    assert asked[1].read(LabelCommand) == label(1) and (asked[0].source, asked[0].time_ms) == ("me", 7)
    assert store.labels.requested() == [label(1), label(2)] and store.labels.requested(1) == [label(2)]


def test_what_is_kept_for_good_is_there_once(store: Store) -> None:
    for digest in ("a", "b", "a", "c", "b"):
        store.commands.append(Erase(digest=digest))
    assert digests(store) == ["a", "b", "c"]
    for number in (1, 2, 2, 1):
        store.commands.append(label(number))
    assert [each.number for each in store.labels.requested()] == [1, 2]
    assert [store.commands.append(Repair(digests=())).seq for _ in range(2)] == [6, 7]


@pytest.mark.parametrize("wrong", [label(2, "other"), label(4)])
def test_of_two_operators_who_change_labels_at_a_time_one_is_told_so(store: Store, wrong: LabelCommand) -> None:
    for number in (1, 2):
        store.commands.append(label(number))
    store.commands.append(Erase(digest="a"))
    with pytest.raises(LabelsChanged, match="somebody else has changed the labels"):
        store.commands.append(wrong)
    assert store.commands.append(label(3)).seq == 4


def test_there_is_a_bound_of_what_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.store.commands.MAX_KEPT", 2)
    store.commands.append(Repair(digests=()))
    for digest in ("a", "b", "a"):
        store.commands.append(Erase(digest=digest))
    with pytest.raises(CommandsFull, match="2 commands"):
        store.commands.append(Erase(digest="c"))
    store.commands.append(Erase(digest="b"))
    store.commands.append(Repair(digests=()))


def test_the_oldest_of_the_others_go(store: Store, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.store.commands.MAX_PASSING", 3)
    kept = store.commands.append(Erase(digest="a"))
    for _ in range(5):
        command = store.commands.append(Repair(digests=()))
        store.commands.note([CommandOutcome(seq=command.seq, time_ms=1, state="done")])
    assert [each.seq for each in store.commands.read()] == [kept.seq, 4, 5, 6]
    server = store._server
    assert raw.hlen(server.key(keys.OUTCOMES)) == 3 and raw.llen(server.key(keys.PASSING)) == 3


def test_what_no_key_of_ours_has_signed_is_no_command_and_fills_nothing(
    store: Store, raw: Any, key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """N8: a client with write access to the server filled the log permanently, and with it every checkpoint."""
    monkeypatch.setattr("wire.store.commands.MAX_KEPT", 3)
    store.commands.append(Erase(digest="a"))
    raw.zadd(key("commands"), {b"d" * 32: 2, b"0" * 64 + b'{"seq":3}': 3, b"{}": 1e18})
    assert digests(store) == ["a"]
    for digest in ("b", "c"):
        store.commands.append(Erase(digest=digest))
    assert digests(store) == ["a", "b", "c"]
    with pytest.raises(CommandsFull):
        store.commands.append(Erase(digest="d"))


def test_a_command_that_was_moved_or_copied_is_none(store: Store, raw: Any, key: Callable[..., str]) -> None:
    for digest in ("a", "b"):
        store.commands.append(Erase(digest=digest))
    first, second = raw.zrange(key("commands"), 0, -1)
    raw.zadd(key("commands"), {first: 3})
    assert digests(store) == ["b"]
    raw.zadd(key("commands"), {second[:-1] + b" ": 4})
    assert digests(store) == ["b"]


def test_a_key_that_is_not_known_yet_hides_no_command(store: Store, store_config: StoreConfig) -> None:
    """A learner whose keys are older than the operator's would go on without the erasure."""
    both = add_key(KEYS, Kind.NEXT)
    with closing(Store(store_config, rotate_to(both, both.of(Kind.NEXT)[0]))) as newer:
        newer.commands.append(Erase(digest="a"))
    with pytest.raises(UnknownKey, match="command:1"):
        store.commands.read()


def test_who_cannot_sign_asks_for_nothing(store_config: StoreConfig) -> None:
    with closing(Store(store_config, new_ring().for_replicas())) as replica, pytest.raises(CannotSign):
        replica.commands.append(Erase(digest="a"))


def test_what_became_of_a_command_can_be_read_elsewhere(open_store: Callable[[], Store]) -> None:
    ours = open_store()
    theirs = open_store()
    command = ours.commands.append(Erase(digest="a"))
    assert theirs.commands.outcome(command) is None
    for version in (0, 4):
        outcome = CommandOutcome(seq=1, time_ms=5, state="applied", numbers={"replay": 2}, version=version)
        ours.commands.note([outcome])
        assert theirs.commands.outcome(command) == outcome
    assert theirs.commands.entries() == [CommandEntry(command, outcome)]


def test_the_outcome_of_another_command_is_not_ours(store: Store) -> None:
    """After a store was wiped, another command may have the number."""
    command = store.commands.append(Erase(digest="a"))
    store.dump.clear()
    store.commands.append(Erase(digest="b"))
    store.commands.note([CommandOutcome(seq=1, time_ms=5, state="published", version=2)])
    with pytest.raises(CommandMoved, match="lifelong commands list"):
        store.commands.outcome(command)


def test_a_step_of_the_rollout_is_written_with_the_plan_or_not_at_all(store: Store) -> None:
    store.commands.append(Erase(digest="a"))
    step = OperatorStep("promote", 4, "me", 9)
    plan = RolloutPlan(revision=1, salt="", arms=())
    for _ in range(2):
        store.plans.write(plan, step=step)
    (_, entry) = store.commands.entries()
    assert (entry.command.verb, entry.command.body, entry.command.source) == ("promote", {"version": 4}, "me")
    assert entry.outcome == CommandOutcome(seq=2, time_ms=9, state="done", version=4)
    with pytest.raises(Exception, match="revision 1 is in force"):
        store.plans.write(RolloutPlan(revision=3, salt="", arms=()), step=step)
    assert len(store.commands.read()) == 2


def test_a_log_that_is_written_again_has_its_projections_again(store: Store) -> None:
    commands = [store.commands.append(body) for body in (label(1), Erase(digest="a"), Repair(digests=()))]
    entries = store.commands.entries()
    store.dump.clear()
    strange = [store.commands.append(body) for body in (label(1, "new"), Erase(digest="a"), Erase(digest="b"))]
    found = store.commands.rewrite(lambda theirs: append_entries(entries, theirs))
    assert store.commands.entries() == list(found)
    assert store.commands.read()[:3] == commands
    assert [(each.seq, each.verb) for each in store.commands.read(4)] == [(4, "relabel"), (5, "erase")]
    assert [each.labels for each in store.labels.requested()] == [("bill",), ("new",)]
    assert store.commands.append(Erase(digest="b")).seq == 5 and strange[2].seq == 3
