"""Tests the normal form of labels, and the rules of their settings."""

import pytest

from wire.label_set import LabelConfig


@pytest.mark.parametrize(
    ("forms", "label", "expected"),
    [
        (("nfc", "space"), " Cafe\u0301  bill\n", "Caf\u00e9 bill"),
        (("case",), "Stra\u00dfe", "strasse"),
        (("nfc",), " a  b ", " a  b "),
        ((), "e\u0301", "e\u0301"),
    ],
)
def test_labels_that_look_alike_are_one(forms: tuple[str, ...], label: str, expected: str) -> None:
    assert LabelConfig(normalise=forms).normal_form(label) == expected  # type: ignore[arg-type]


def test_a_list_belongs_to_a_mode_that_uses_it() -> None:
    with pytest.raises(ValueError, match=r"labels\.allow needs labels\.mode listed or ask"):
        LabelConfig(allow=("a",))
    with pytest.raises(ValueError, match="blank label"):
        LabelConfig(mode="listed", allow=("a", " "))
