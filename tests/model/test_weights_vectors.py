"""The vectors of a layer are stored without its matrices, and combined with them when a layer is read."""

from dataclasses import replace

import pytest
import torch

from model.errors import MissingWeight, NonFinite, WrongShape
from model.plan import build_plan
from model.weights import check_vectors, encoder_tensors, read_in_scale, read_lora, read_matrix, vectors_tensor
from tests.model.small_encoder import FAMILY, SMALL, small_strata

STRATA = small_strata()
TENSORS = encoder_tensors(STRATA)
BLOCK = build_plan(SMALL).blocks[1]
TIED = encoder_tensors(small_strata(FAMILY["tied"]))
TIED_BLOCK = build_plan(FAMILY["tied"]).blocks[1]


def test_a_matrix_is_stored_without_its_vectors() -> None:
    assert TENSORS["layers.1.up"].parts.keys() == {"hi", "lo", "m", "scale", "ksum"}
    whole = read_matrix(TENSORS, BLOCK.up)
    assert torch.equal(whole.parts["bias"], STRATA.get_parameter("layers.1.up.bias"))
    assert torch.equal(whole.parts["in_scale"], STRATA.get_buffer("layers.1.up.in_scale"))
    assert "in_scale" not in read_matrix(TENSORS, BLOCK.down).parts


def test_a_shared_matrix_has_the_bias_of_the_layer_that_uses_it() -> None:
    first = read_matrix(TIED, build_plan(FAMILY["tied"]).blocks[0].up)
    second = read_matrix(TIED, TIED_BLOCK.up)
    assert second.parts["hi"] is first.parts["hi"]
    assert second.parts["in_scale"] is first.parts["in_scale"]
    assert not torch.equal(second.parts["bias"], first.parts["bias"])


def test_the_first_of_a_pair_reads_scaled_inputs() -> None:
    first, second = read_lora(TIED, TIED_BLOCK.up) or (None, None)
    assert first is not None and second is not None
    assert first.in_scale is read_in_scale(TIED, TIED_BLOCK.up)
    assert second.in_scale is None
    assert read_lora(TENSORS, BLOCK.up) is None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("norm1", torch.ones(2, 63)),
        ("up.bias", torch.ones(64)),
        ("qkv.in_scale", torch.ones(1)),
        ("other", torch.ones(1)),
    ],
)
def test_refuses_other_shapes_and_names(name: str, part: torch.Tensor) -> None:
    stored = TENSORS[BLOCK.vectors]
    changed = replace(stored, parts={**stored.parts, name: part})
    with pytest.raises(WrongShape, match=r"layers\.1\.vectors is vectors"):
        check_vectors({BLOCK.vectors: changed}, BLOCK)
    with pytest.raises(MissingWeight, match=r"layers\.1\.vectors is missing"):
        check_vectors({}, BLOCK)


@pytest.mark.parametrize(("name", "value"), [("norm1", float("nan")), ("up.in_scale", 0.0)])
def test_refuses_values(name: str, value: float) -> None:
    parts = {**TENSORS[BLOCK.vectors].parts, name: torch.full((2,), value)}
    with pytest.raises(NonFinite, match=f"layers.1.vectors.{name} has a value"):
        vectors_tensor(BLOCK, parts)
