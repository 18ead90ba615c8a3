"""Inputs change the vector of an event, and the tokens that the encoder reads of it."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from lifelong.plugins.inputs.feature_tensors import SCALES, FeatureMap, Scale
from lifelong.plugins.inputs.features import FEATURES
from model.errors import UnreadableInput, WrongShape
from model.inputs import InputMap, is_state, tokenize_contents, unit
from model.qtensor import NUMBERS, QTensor
from tests.doors.picture import PICTURE
from tests.doors.point import POINT

WIDTH = 32
TEXT_D = torch.nn.functional.normalize(torch.arange(1.0, WIDTH + 1), dim=0)


class Content(NamedTuple):
    text: str
    values: tuple[tuple[Any, Any], ...]

    @property
    def is_encoded(self) -> bool:
        return bool(self.text) or any(codec.has_tokens for codec, _ in self.values)


class Reader:
    """Each letter is a token."""

    max_tokens = 8
    vocab_size = 3_000

    def encode_many(self, texts: Any, *, max_tokens: int | None = None) -> list[list[int]]:
        return [[1, *map(ord, text), 2][:max_tokens] for text in texts]


A_POINT = (POINT, {"type": "point", "x": 1.0, "y": 2.0})
A_PICTURE = (PICTURE, {"type": "picture", "digest": "", "tokens": [2_003, 2_004]})
SOME_FEATURES = (FEATURES, {"price": 3.0})


def joined(*contents: Content, scales: dict[str, Scale] | None = None) -> torch.Tensor:
    tensors = {SCALES: FeatureMap(WIDTH, scales).to_tensor()} if scales else {}
    return InputMap(WIDTH, tensors).joined(TEXT_D.repeat(len(contents), 1), list(contents))


def test_a_vector_is_the_direction_of_the_sum_of_all_that_an_event_says() -> None:
    point_D, features_D, both_D, all_D = joined(
        Content("", (A_POINT,)),
        Content("", (SOME_FEATURES,)),
        Content("", (SOME_FEATURES, A_POINT)),
        Content("a text", (SOME_FEATURES, A_POINT)),
    ).double()
    assert torch.allclose(both_D, torch.from_numpy(unit((point_D + features_D).numpy())), atol=1e-6)
    assert torch.allclose(all_D, torch.from_numpy(unit((point_D + features_D + TEXT_D).numpy())), atol=1e-6)


def test_a_text_and_what_the_encoder_reads_keep_its_vector_to_the_last_bit() -> None:
    z_BD = TEXT_D.repeat(2, 1)
    assert InputMap(WIDTH).joined(z_BD, [Content("a", ()), Content("b", ())]) is z_BD
    assert joined(Content("", (A_PICTURE,)), Content("a", (A_PICTURE,))).equal(z_BD)


def test_maps_tell_which_events_they_make_another_vector_of() -> None:
    old, new = (
        InputMap(WIDTH, {SCALES: FeatureMap(WIDTH, scales).to_tensor()})
        for scales in (
            {"price": Scale(1.0, 1.0)},
            {"price": Scale(1.0, 1.0), "late": Scale(0.0, 1.0)},
        )
    )
    late = (FEATURES, {"price": 3.0, "late": 1.0})
    assert [new.is_same(old, Content("", (each,))) for each in (A_POINT, SOME_FEATURES, late, A_PICTURE)] == [
        True,
        True,
        False,
        True,
    ]


def test_tokens_of_values_come_behind_those_of_the_text_and_without_a_text_alone() -> None:
    contents = [
        Content("a", (A_PICTURE,)),
        Content("", (A_PICTURE,)),
        Content("a", (A_POINT,)),
        Content("", (A_POINT,)),
    ]
    assert tokenize_contents(contents, Reader()) == [[1, 97, 2, 2_003, 2_004], [2_003, 2_004], [1, 97, 2], [1, 2]]
    assert tokenize_contents(contents[:2], Reader(), 4) == [[1, 97, 2, 2_003], [2_003, 2_004]]
    beyond = (PICTURE, {"type": "picture", "digest": "", "tokens": [3_000]})
    with pytest.raises(UnreadableInput, match="not a list of numbers below 3000"):
        tokenize_contents([Content("a", (beyond,))], Reader())


def test_states_are_told_from_weights_by_their_names_and_read_before_the_first_event() -> None:
    assert [name for name in (SCALES, "inputs.point", "layers.0.qkv", "embed.word") if is_state(name)] == [
        SCALES,
        "inputs.point",
    ]
    parts = FeatureMap(WIDTH, {"price": Scale(1.0, 1.0)}).to_tensor().parts
    wrong = QTensor(SCALES, NUMBERS, {**parts, "mean": torch.zeros(2)})
    with pytest.raises(WrongShape, match="1 names, 2 means"):
        InputMap(WIDTH, {SCALES: wrong, "embed.word": wrong}).open([FEATURES])


def test_a_vector_that_is_not_finite_is_that_of_its_event() -> None:
    far = (POINT, {"type": "point", "x": float("inf"), "y": 0.0})
    with np.errstate(all="ignore"), pytest.raises(UnreadableInput, match="makes a vector that is not finite"):
        joined(Content("", (far,)))
