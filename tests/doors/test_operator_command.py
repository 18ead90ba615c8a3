"""The door `OperatorCommand`: a verb that the core does not know is followed once in every model, whatever comes.

The verb `touch` (`tests/doors/touch.py`) notes a number in what the learner knows. No file of the core knows it.
"""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import ClassVar

import pytest

from learner.release.handlers import HANDLERS, EraseSubject, register
from tests.doors.touch import Touch, Touched, touches
from tests.learner.learner_processes import LearnerProcesses, exit_code, stop
from tests.learner.publish_rig import PublishRig, wipe, withdraw
from tests.waiting import eventually
from wire.config import BusConfig, StoreConfig
from wire.records import Command, CommandBody, CommandOutcome, Repair, RolloutPlan
from wire.store import OperatorStep, Store

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def touch() -> Iterator[None]:
    """Lets learners follow the verb."""
    register(Touch)
    yield
    del HANDLERS["touch"]


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> PublishRig:
    """Has published what it learnt from some events."""
    started = PublishRig(store, tmp_path)
    started.learn(0, 40)
    started.publish()
    return started


def current(store: Store) -> list[str]:
    """Returns the touches that the current version knows."""
    return touches(store.versions.manifest(store.versions.current()))


def test_a_command_is_followed_and_told_of_with_the_first_version_that_knows_it(rig: PublishRig, store: Store) -> None:
    one = store.commands.append(Touched(number=1), source="me")
    assert rig.follow(one) == CommandOutcome(seq=1, time_ms=7, state="applied", numbers={"touched": 1})
    assert rig.publish() == 2 and current(store) == ["touch 1"]
    assert store.versions.manifest(2).commands == 1
    outcome = rig.follow(one)
    assert outcome is not None and (outcome.version, outcome.numbers) == (2, {"touched": 1})
    store.commands.append(Touched(number=1))
    rig.follow()
    assert not rig.publisher.is_due(), "it was asked for before"


def test_verbs_are_followed_in_the_order_of_the_log(rig: PublishRig, store: Store) -> None:
    for body in (Touched(number=1), Repair(digests=()), Touched(number=2)):
        store.commands.append(body)
    store.plans.write(RolloutPlan(revision=1, salt="s", arms=()), step=OperatorStep("pin", 1, "me", 1))
    store.commands.append(Touched(number=3))
    rig.follow()
    rig.publish()
    assert current(store) == ["touch 1", "touch 2", "touch 3"]
    states = [(entry.command.verb, entry.outcome and entry.outcome.state) for entry in store.commands.entries()]
    assert states[1] == ("repair", "done") and states[3] == ("pin", "done") and len(states) == 5


def test_a_learner_that_goes_back_follows_again_what_the_older_model_lacks(rig: PublishRig, store: Store) -> None:
    store.commands.append(Touched(number=1))
    rig.follow()
    rig.publish()
    withdraw(store, to=2)  # the plan holds the checkpoint of version 2
    two = store.commands.append(Touched(number=2))
    rig.follow()
    rig.learn(40, 60)
    assert rig.publish() == 3 and current(store) == ["touch 1", "touch 2"]
    withdraw(store, to=2)
    rig.publisher.parent.make_due()
    assert rig.publish() == 2 and rig.learner.knowledge.applied_seq == 1
    assert rig.learner.must_wait and not rig.publisher.is_due()
    outcome = rig.follow(two)
    assert outcome is not None and (outcome.state, outcome.version) == ("applied", 0)
    assert rig.publish() == 4 and current(store) == ["touch 1", "touch 2"]
    outcome = rig.follow(two)
    assert outcome is not None and outcome.version == 4


def test_a_store_that_was_wiped_gets_the_log_back_and_keeps_what_is_new(rig: PublishRig, store: Store) -> None:
    commands = [store.commands.append(Touched(number=number)) for number in (1, 2)]
    rig.follow()
    rig.publish()
    before = rig.follow(commands[1])
    wipe(store)
    for number in (3, 2):
        store.commands.append(Touched(number=number), time_ms=9)
    rig.follow()
    found = store.commands.read()
    assert found[:2] == commands and [each.body["number"] for each in found[2:]] == [3]
    assert [store.commands.outcome(command) for command in commands][1] == before
    while not store.versions.current():
        rig.publish()
    assert current(store) == ["touch 1", "touch 2", "touch 3"]


def test_a_learner_that_starts_from_nothing_follows_the_whole_log_first(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        store.commands.append(Touched(number=number))
    rig = PublishRig(store, tmp_path)
    rig.runner.catch_up()
    assert rig.publish() == 1 and current(store) == ["touch 1", "touch 2"]


def test_what_the_checkpoint_does_not_know_is_followed_again(rig: PublishRig, store: Store) -> None:
    one = store.commands.append(Touched(number=1))
    rig.follow(one)
    rig.start()  # as after a kill: the checkpoint is that of version 1
    assert rig.learner.knowledge.applied_seq == 0
    rig.follow(one)
    rig.publish()
    rig.start()
    assert rig.learner.knowledge.applied_seq == 1 and rig.learner.commands.next_after(1) is None
    rig.follow(one)
    assert current(store) == ["touch 1"]


class Wrong(CommandBody, frozen=True, kw_only=True):
    """A body of the verb that its handler cannot read."""

    VERB: ClassVar[str] = "touch"
    IS_KEPT: ClassVar[bool] = True

    word: str


def test_what_cannot_be_read_is_refused_and_holds_nothing_up(rig: PublishRig, store: Store) -> None:
    wrong = store.commands.append(Wrong(word="x"))
    store.commands.append(Touched(number=2))
    outcome = rig.follow(wrong)
    assert outcome is not None and outcome.state == "refused" and "it cannot be read" in outcome.reasons[0]
    rig.publish()
    assert current(store) == ["touch 2"]
    rig.start()
    rig.follow()
    assert current(store) == ["touch 2"]


class Unknown(CommandBody, frozen=True, kw_only=True):
    """A verb that this learner does not have."""

    VERB: ClassVar[str] = "dance"


def test_a_verb_that_nobody_has_registered_is_left_to_others(rig: PublishRig, store: Store) -> None:
    unknown = store.commands.append(Unknown())
    store.commands.append(Touched(number=1))
    assert rig.follow(unknown) is None
    rig.publish()
    assert current(store) == ["touch 1"]


def test_a_handler_is_registered_once_and_whole() -> None:
    with pytest.raises(ValueError, match="Touch: Touch executes the verb 'touch' already"):
        register(Touch)
    with pytest.raises(ValueError, match="Half is not an OperatorCommand"):
        register(type("Half", (), {"body": Touched}))
    with pytest.raises(ValueError, match="Bodiless is not an OperatorCommand"):
        register(type("Bodiless", (), {"apply": EraseSubject.apply}))


class TouchingLearners(LearnerProcesses):
    """Learners in processes of their own, which follow the verb."""

    program = "tests.doors.touch"


def is_published(store: Store, command: Command) -> bool:
    outcome = store.commands.outcome(command)
    return outcome is not None and outcome.version > 0


FAST = ("after-command:1", "after-checkpoint:1")
SLOW = ("after-command:2", "in-checkpoint:1", "after-journal:1", "after-publish:1", "after-mark:1")
POINTS = (*FAST, *(pytest.param(point, marks=pytest.mark.slow) for point in SLOW))


@pytest.mark.parametrize("broker", ["tansu"], indirect=True)
@pytest.mark.parametrize("point", POINTS)
def test_a_learner_that_is_killed_between_two_steps_has_followed_each_command_once(
    tmp_path: Path, bus_config: BusConfig, store_config: StoreConfig, store: Store, point: str
) -> None:
    """append | apply | checkpoint | send | note: after each `|` the process is killed, and another one goes on."""
    children = TouchingLearners(tmp_path, bus_config, store_config, trainable_layers=0)
    try:
        commands = [store.commands.append(Touched(number=number)) for number in (1, 2)]
        assert exit_code(children.start(point)) == -SIGKILL
        child = children.start()
        eventually(lambda: all(is_published(store, command) for command in commands), within_s=120)
        commands.append(store.commands.append(Touched(number=3)))
        eventually(lambda: is_published(store, commands[-1]), within_s=120)
        assert stop(child) == 0
    finally:
        children.close()
    assert store.commands.read() == commands
    assert current(store) == ["touch 1", "touch 2", "touch 3"]
    facts = children.snapshot().facts
    assert facts.applied_seq == 3 and [entry.command for entry in facts.commands.entries] == commands
