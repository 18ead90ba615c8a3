"""With a changed setting and an old state, the learner once ended at each start, or lost its state."""

import pytest
from msgspec.structs import replace

from learner.encoder.base import Origin, compare_origins
from learner.errors import StateRefused
from services.commands.exits import CONFIGURATION, exit_code

OLD = Origin(
    encoder="e" * 64, seed=1, num_features=96, trainable_layers=1, label_capacity=8, max_tokens=64, tokenizer="t"
)


@pytest.mark.parametrize(
    ("changed", "differences", "is_rebuilt"),
    [
        ({}, {}, False),
        ({"label_capacity": 16}, {"learner.label_capacity": "8 -> 16"}, False),
        ({"label_capacity": 4}, {"learner.label_capacity": "8 -> 4"}, False),
        ({"num_features": 64}, {"learner.num_features": "96 -> 64"}, True),
        ({"seed": 0}, {"seed": "1 -> 0"}, True),
        ({"trainable_layers": 2}, {"learner.trainable_layers or a deeper tier": "1 -> 2"}, True),
        ({"max_tokens": 32}, {"serving.max_tokens": "64 -> 32"}, True),
        ({"tokenizer": "other"}, {"encoder (its tokenizer)": "t -> other"}, True),
    ],
)
def test_what_becomes_of_a_state_under_other_settings(
    changed: dict[str, int | str], differences: dict[str, str], is_rebuilt: bool
) -> None:
    change = compare_origins(OLD, replace(OLD, **changed), is_same_encoder=True, num_classes=4)
    assert (change.settings, change.is_rebuilt, bool(change)) == (differences, is_rebuilt, bool(differences))


def test_another_encoder_is_reported_and_the_sums_are_rebuilt() -> None:
    change = compare_origins(OLD, replace(OLD, encoder="f" * 64), is_same_encoder=False, num_classes=4)
    assert change.settings == {"encoder": "eeeeeeeeeeee -> ffffffffffff"} and change.is_rebuilt


def test_fields_that_an_older_release_did_not_write_are_equal() -> None:
    old = replace(OLD, label_capacity=0, max_tokens=0, tokenizer="")
    assert not compare_origins(old, OLD, is_same_encoder=True, num_classes=4)


def test_fewer_rows_than_classes_are_refused_with_both_numbers_and_the_remedy() -> None:
    with pytest.raises(StateRefused, match=r"is 4, but 5 classes are known \(it was 8\): set it to 5") as raised:
        compare_origins(OLD, replace(OLD, label_capacity=4), is_same_encoder=True, num_classes=5)
    assert exit_code(raised.value) == CONFIGURATION
