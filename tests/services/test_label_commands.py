"""Tests that label commands are checked against the known classes: misspelt and taken names are refused."""

import pytest

from rollout.plans import NotPossible
from services.label_commands import ClassesInForce, LabelEdit
from wire.config import LabelConfig
from wire.label_set import LabelSet
from wire.records import LabelAction, LabelCommand

RENAMED = LabelCommand(number=1, action="rename", labels=("bill",), to=("invoice",))
RETIRED = LabelCommand(number=2, action="retire", labels=("spam",))
KNOWN = ClassesInForce(LabelSet.of(LabelConfig(), [RENAMED, RETIRED]), ("bill", "card", "spam", "lost card"))


def command(action: LabelAction, labels: tuple[str, ...], to: tuple[str, ...] = ()) -> LabelCommand:
    return KNOWN.command(LabelEdit(action=action, labels=labels, to=to), max_chars=20, source="me", now_ms=5)


@pytest.mark.parametrize(
    ("action", "labels", "to", "problem"),
    [
        ("rename", ("carf",), ("x",), "no class is called 'carf'; did you mean 'card'"),
        ("rename", ("bill",), ("x",), "'bill' is called 'invoice' now"),
        ("rename", ("card",), ("lost card",), "lifelong labels merge"),
        ("rename", ("card",), ("x" * 21,), "1 to 20 characters"),
        ("retire", ("spam",), (), "'spam' was retired"),
        ("merge", ("card",), ("card",), "name two classes or more"),
        ("merge", ("card",), ("bill",), "'bill' is called 'invoice' now"),
        ("split", ("card",), ("invoice",), "its labels are learnt as they arrive"),
        ("add", ("card",), (), "in the set already"),
        ("add", ("  ",), (), "1 to 20 characters"),
    ],
)
def test_what_nobody_means_is_refused(
    action: LabelAction, labels: tuple[str, ...], to: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(NotPossible, match=problem):
        command(action, labels, to)


def test_a_command_has_the_next_number_and_labels_in_their_normal_form() -> None:
    found = command("merge", (" card", "lost  card", "card"), ("lost card",))
    assert found == LabelCommand(
        number=3, action="merge", labels=("card", "lost card"), to=("lost card",), source="me", time_ms=5
    )
    # Retired and renamed labels can be added again.
    assert command("add", ("spam", "bill")).labels == ("spam", "bill")
    assert command("merge", ("card",), ("spam",)).to == ("spam",)
