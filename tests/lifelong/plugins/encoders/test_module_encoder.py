"""Texts become the input numbers of a user's module, or are refused with its reason."""

from collections.abc import Sequence

import pytest

from lifelong.plugins.encoders.module_code import import_encoder
from lifelong.plugins.encoders.module_encoder import ModuleInputs
from model.errors import UnreadableInput, WrongConfig
from tests.model.module_encoders import PATH


def letters() -> ModuleInputs:
    return ModuleInputs(import_encoder(f"{PATH}:Letters"))


def test_texts_become_numbers() -> None:
    inputs = letters()
    assert inputs.encode_many(["ab", "z"], max_tokens=40) == [[0, 1], [25]]
    assert inputs.reads("abc") and inputs.probe_texts == ("abc", "zebra", "lifelong")


@pytest.mark.parametrize("text", ["A", "", "a" * 41, "how much is left"])
def test_unreadable_texts_are_refused(text: str) -> None:
    inputs = letters()
    assert not inputs.reads(text)
    with pytest.raises(UnreadableInput, match=r"other characters|41 numbers; expected 1 to 40"):
        inputs.encode_many(["abc", text])


def test_texts_are_never_truncated() -> None:
    with pytest.raises(WrongConfig, match="max_tokens is 3"):
        letters().encode_many(["abcd"], max_tokens=3)


@pytest.mark.parametrize("numbers", [[1.5], ["a"], [1 << 63], []])
def test_invalid_numbers_are_refused(numbers: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = letters()

    def read(self: object, text: str) -> Sequence[object]:
        return numbers

    monkeypatch.setattr(type(inputs.code.module), "read", read)
    assert not inputs.reads("abc")
