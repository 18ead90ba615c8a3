"""Tests that the set of labels is a function of the settings and of the commands in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.kinds.scores import parse_score, raw_label
from lifelong.plugins.kinds.sets import join_names
from wire.errors import BadMessage
from wire.kinds import name_hash
from wire.label_set import NEW, NOT_LISTED, RETIRED, WRONG_KIND, LabelConfig, LabelSet, check_label
from wire.records import LabelAction, LabelCommand

LISTED = LabelConfig(mode="listed", allow=("bill", "card"))
NAMES = st.sampled_from("abcd")


def test_the_length_of_a_label_is_bounded() -> None:
    check_label("l" * 20, LabelSet(), max_chars=20)
    with pytest.raises(BadMessage, match=r"a label has 21 characters, at most 20 are learnt"):
        check_label("l" * 21, LabelSet(), max_chars=20)


def command(number: int, action: LabelAction, *labels: str, to: tuple[str, ...] = ()) -> LabelCommand:
    return LabelCommand(number=number, action=action, labels=labels, to=to)


@st.composite
def commands(draw: st.DrawFn) -> list[LabelCommand]:
    drawn: list[LabelCommand] = []
    for number in range(1, draw(st.integers(1, 8))):
        action: LabelAction = draw(st.sampled_from(["add", "rename", "merge", "split", "retire"]))
        to = (draw(NAMES),) if action in ("rename", "merge", "split") else ()
        drawn.append(command(number, action, draw(NAMES), to=to))
    return drawn


@given(commands(), st.integers(0, 8), NAMES)
def test_commands_may_be_applied_in_parts(given_: list[LabelCommand], place: int, name: str) -> None:
    whole = LabelSet.of(LabelConfig(), given_)
    part = LabelSet.of(LabelConfig(), given_[:place])
    for each in given_[place:]:
        part = part.after(each)
    assert part == whole and whole.number == len(given_)
    meaning = whole.name_of(name)
    assert whole.name_of(meaning) == meaning  # no name leads to a name that leads on
    assert whole.added.isdisjoint(whole.retired)


def test_a_late_label_has_the_last_meaning_of_its_name() -> None:
    labels = LabelSet().after(command(1, "rename", "bill", to=("invoice",)))
    labels = labels.after(command(2, "merge", "invoice", "receipt", to=("money",)))
    assert [labels.name_of(name) for name in ("bill", "invoice", "receipt", "money")] == ["money"] * 4
    assert labels.hashes[name_hash("bill")] == name_hash("money")
    again = labels.after(command(3, "rename", "money", to=("bill",)))
    assert [again.name_of(name) for name in ("bill", "invoice", "money")] == ["bill"] * 3


def test_a_name_that_is_added_is_a_class_of_its_own_again() -> None:
    labels = LabelSet().after(command(1, "rename", "bill", to=("invoice",))).after(command(2, "add", "bill"))
    assert labels.name_of("bill") == "bill"


def test_only_labels_of_the_list_are_learnt() -> None:
    labels = LabelSet(LISTED)
    assert [labels.refusal(name, lambda name: True) for name in ("bill", " card ", "cart")] == ["", "", NOT_LISTED]
    assert "did you mean 'card'?" in labels.explain_refusal(NOT_LISTED, "cart")
    assert labels.after(command(1, "add", "cart")).refusal("cart", lambda name: False) == ""
    renamed = labels.after(command(1, "rename", "bill", to=("invoice",)))
    assert renamed.listed == {"invoice", "card"} and renamed.refusal("bill", lambda name: False) == ""


@pytest.mark.parametrize(("is_class", "reason"), [(True, ""), (False, NEW)])
def test_a_new_label_waits_until_somebody_adds_it(is_class: bool, reason: str) -> None:
    labels = LabelSet(LabelConfig(mode="ask"))
    assert labels.refusal("bill", lambda name: is_class) == reason
    assert labels.after(command(1, "add", "bill")).refusal("bill", lambda name: False) == ""
    assert "lifelong labels add" in labels.explain_refusal(NEW, "bill")


def test_a_retired_label_is_refused_in_every_mode() -> None:
    for config in (LabelConfig(), LISTED, LabelConfig(mode="ask")):
        retired = LabelSet(config).after(command(1, "retire", "bill"))
        assert retired.refusal("bill", lambda name: True) == RETIRED and "bill" not in retired.listed
        assert retired.after(command(2, "add", "bill")).refusal("bill", lambda name: True) == ""
        assert "was retired" in retired.explain_refusal(RETIRED, "bill")


SETS = LabelConfig(kind="multilabel")


def test_a_set_of_labels_is_refused_for_its_first_refused_name() -> None:
    listed = LabelSet(LabelConfig(kind="multilabel", mode="listed", allow=("bill", "card")))
    assert listed.refusal(join_names(["bill", "card"]), lambda name: True) == ""
    assert listed.refusal(join_names([]), lambda name: True) == ""
    reason = listed.refusal(join_names(["bill", "crad"]), lambda name: True)
    assert reason == NOT_LISTED
    assert listed.explain_refusal(reason, join_names(["bill", "crad"])).startswith(
        "the label 'crad' is not in labels.allow; did you"
    )


def test_a_set_has_the_present_names_each_once() -> None:
    merged = LabelSet(SETS).after(command(1, "merge", "bill", "invoice", to=("money",)))
    assert merged.name_of(join_names(["bill", "invoice", " card "])) == join_names(["card", "money"])
    retired = merged.after(command(2, "retire", "money"))
    assert retired.refusal(join_names(["bill"]), lambda name: True) == RETIRED


def test_a_label_of_the_other_kind_is_refused_with_what_to_send() -> None:
    assert LabelSet(SETS).refusal("bill", lambda name: True) == WRONG_KIND
    assert LabelSet().refusal(join_names(["bill"]), lambda name: True) == WRONG_KIND
    assert (
        LabelSet(SETS).explain_refusal(WRONG_KIND, "bill").endswith("labels.kind is multilabel: send `labels`, a list")
    )
    assert (
        LabelSet()
        .explain_refusal(WRONG_KIND, join_names(["bill"]))
        .endswith("labels.kind is class: send `label`, one name")
    )


SCORES = LabelConfig(kind="score", range=(1.0, 5.0))


@given(st.floats(-1e6, 1e6))
def test_a_score_becomes_its_place_in_the_range_once(value: float) -> None:
    labels = LabelSet(SCORES)
    place = labels.name_of(raw_label(value))
    assert parse_score(place) == pytest.approx((min(max(value, 1.0), 5.0) - 1) / 4, abs=1e-5)
    assert labels.name_of(place) == place
    assert labels.refusal(raw_label(value), lambda name: False) == ""
    assert labels.refusal("bill", lambda name: True) == WRONG_KIND
    assert LabelSet().explain_refusal(WRONG_KIND, place).startswith("a score was sent, and labels.kind is class")
