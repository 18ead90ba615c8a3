"""Tests that commands on labels are executed once, reported, and survive restarts, rollbacks and a wiped store."""

from pathlib import Path

import msgspec
import pytest

from tests.learner.publish_rig import PublishRig, wipe, withdraw
from wire.records import LabelAction, LabelCommand
from wire.store import GAP, Store

pytestmark = pytest.mark.live

RENAME = LabelCommand(number=1, action="rename", labels=("refund",), to=("money back",))


class Rig(PublishRig):
    """A rig that returns the classes of the current version."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.store.versions.manifest(self.store.versions.current()).labels


def command(number: int, action: LabelAction, *labels: str) -> LabelCommand:
    return LabelCommand(number=number, action=action, labels=labels)


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> Rig:
    rig = Rig(store, tmp_path)
    rig.learn(0, 60)
    rig.publish()
    return rig


def test_the_next_version_has_the_new_name_and_is_the_same_in_all_else(rig: Rig, store: Store) -> None:
    before = store.versions.manifest(1)
    store.commands.append(RENAME)
    rig.follow()
    assert rig.publish() == 2
    after = store.versions.manifest(2)
    assert after.labels == tuple("money back" if name == "refund" else name for name in before.labels)
    assert (before.label_commands, after.label_commands) == (0, 1)
    assert [each.command for each in after.lineage.label_changes] == [RENAME] and not after.lineage.gap
    assert after.evaluation.negative_flips == 0.0 and after.evaluation.num_labels == before.evaluation.num_labels
    rig.follow()
    outcome = store.commands.outcome(store.commands.append(RENAME))
    assert outcome is not None and outcome.version == 2 and outcome.numbers["replay"] > 5


def test_a_rename_says_the_same_as_the_reference_by_the_names_of_now(rig: Rig, store: Store) -> None:
    withdraw(store, to=1)
    plan = store.plans.read()
    assert plan is not None
    store.plans.write(msgspec.structs.replace(plan, revision=plan.revision + 1, reference=1), current=1)
    rig.learn(60, 90)
    rig.publish()
    store.commands.append(RENAME)
    rig.follow()
    rig.publish()
    changes = store.versions.manifest(3).name_changes
    assert changes.reference == 1 and changes.texts > 20 and changes.new_classes == ()
    assert changes.between_old < 5  # and not all texts of the class


def test_a_retired_class_is_in_no_version_after(rig: Rig, store: Store) -> None:
    store.commands.append(command(1, "retire", "refund"))
    rig.follow()
    rig.learn(60, 70)
    rig.publish()
    assert "refund" not in rig.classes
    assert rig.learner.join.counts["refused_retired"] == 2


def test_a_command_that_was_not_written_down_is_followed_again_after_a_kill(rig: Rig, store: Store) -> None:
    store.commands.append(RENAME)
    rig.follow()
    # As after a kill: the checkpoint is from before the command.
    rig.start()
    assert rig.learner.knowledge.labels.number == 0
    rig.follow()
    assert rig.learner.knowledge.labels.number == 1
    rig.publish()
    rig.start()
    assert rig.learner.knowledge.labels.number == 1
    rig.follow()
    outcome = store.commands.outcome(store.commands.append(RENAME))
    assert outcome is not None and outcome.version == 2 + GAP


def test_a_rollback_undoes_no_command(rig: Rig, store: Store) -> None:
    store.commands.append(RENAME)
    rig.follow()
    rig.publish()
    withdraw(store, to=1)
    rig.publisher.parent.make_due()
    rig.publish()
    assert rig.learner.version == 1 and rig.learner.knowledge.labels.number == 0
    rig.follow()
    rig.publish()
    assert "money back" in rig.classes and "refund" not in rig.classes


def test_a_store_that_was_wiped_gets_the_commands_back(rig: Rig, store: Store) -> None:
    store.commands.append(RENAME)
    rig.follow()
    wipe(store)
    rig.follow()
    assert list(store.labels.requested()) == [RENAME] and rig.learner.counts["labels_rename"] == 1
