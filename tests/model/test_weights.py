"""An encoder as stored weights, and back."""

from dataclasses import replace
from itertools import chain
from math import prod

import pytest
import torch

from model.config import LayerSpec, StrataConfig
from model.errors import MissingWeight, WrongShape
from model.plan import build_plan, layer_index
from model.ragged import RaggedBatch
from model.weights import check_encoder, encoder_key, encoder_names, encoder_tensors, prefix_names, to_strata
from tests.model.small_encoder import FAMILY, LOCAL, SMALL, small_strata, stored

STRATA = small_strata()
TENSORS = encoder_tensors(STRATA)
BATCH = RaggedBatch.of([[1, 2, 3, 4], [5], [6, 7, 8]])

family = pytest.mark.parametrize("config", FAMILY.values(), ids=FAMILY)


def test_names_are_the_contract() -> None:
    embed = ("embed.word", "embed.type", "embed.norm", "embed.position")
    parts = ("qkv", "out", "up", "down", "vectors")
    blocks = [f"layers.0.{part}" for part in parts] + [f"layers.1.{part}" for part in parts]
    assert list(TENSORS) == [*embed, *blocks]
    assert all(tensor.name == name for name, tensor in TENSORS.items())


def test_names_of_shared_matrices_and_pairs() -> None:
    tensors = encoder_tensors(small_strata(FAMILY["tied"]), first_layer=1)
    pairs = chain.from_iterable(matrix.lora for matrix in build_plan(FAMILY["tied"]).blocks[1].matrices)
    assert list(tensors) == [*pairs, "layers.1.vectors"]
    assert tensors["layers.1.qkv.lora_a"].shape == (4, 64)
    assert "qkv.in_scale" not in tensors["layers.1.vectors"].parts


@family
def test_every_parameter_is_stored(config: StrataConfig) -> None:
    strata = small_strata(config)
    tensors = encoder_tensors(strata).values()
    stored = sum(prod(tensor.shape) for tensor in tensors)
    assert stored == sum(value.numel() for value in strata.state_dict().values())


def test_blocks_are_nested_and_the_rest_is_not() -> None:
    schemes = {name: tensor.scheme for name, tensor in TENSORS.items() if tensor.scheme not in ("fp32", "vectors")}
    assert schemes == {name: "n8g64" if name.startswith("layers.") else "w8c" for name in schemes}


@family
def test_round_trip_is_stable(config: StrataConfig) -> None:
    """Served weights can be trained further, and an unchanged weight keeps its bytes."""
    tensors = encoder_tensors(small_strata(config))
    again = encoder_tensors(to_strata(config, tensors))
    assert again.keys() == tensors.keys()
    assert all(again[name].to_blob() == tensor.to_blob() for name, tensor in tensors.items())


@family
def test_restored_encoder_is_near_the_original(config: StrataConfig) -> None:
    strata = small_strata(config)
    cosine_B = (to_strata(config, encoder_tensors(strata))(BATCH) * strata(BATCH)).sum(dim=1)
    # Rows that are not normalised keep the rounding errors of all blocks.
    assert cosine_B.min() > (0.999 if config.norm_place == "post" else 0.99)


def test_restored_encoder_owns_its_parameters() -> None:
    strata = to_strata(SMALL, TENSORS)
    with torch.no_grad():
        for parameter in strata.parameters():
            parameter.zero_()
    assert TENSORS["layers.0.vectors"].parts["norm1"].abs().max() > 0
    assert not strata.training and all(parameter.requires_grad for parameter in strata.parameters())


def test_only_the_top_blocks() -> None:
    top = encoder_tensors(STRATA, first_layer=1)
    assert list(top) == [name for name in TENSORS if name.startswith("layers.1.")]
    assert encoder_tensors(STRATA, first_layer=SMALL.n_layers) == {}


def test_missing_weight_is_named() -> None:
    rest = {name: tensor for name, tensor in TENSORS.items() if name != "layers.1.down"}
    with pytest.raises(MissingWeight, match=r"^layers\.1\.down is missing; expected n8g64 \[64, 128\]$"):
        check_encoder(SMALL, rest)


def test_wrong_shape_and_scheme_are_named() -> None:
    with pytest.raises(WrongShape, match=r"embed\.word is w8c \[60, 64\]; expected w8c \[61, 64\]"):
        check_encoder(replace(SMALL, vocab=61), TENSORS)
    swapped = TENSORS | {"embed.norm": TENSORS["embed.word"]}
    with pytest.raises(WrongShape, match=r"embed\.norm is w8c \[60, 64\]; expected fp32 \[2, 64\]"):
        check_encoder(SMALL, swapped)


def test_encoder_key_is_the_encoders_alone() -> None:
    digests = {name: name for name in encoder_names(SMALL)}
    reordered = dict(reversed(digests.items())) | {"head.out": "x"}
    assert encoder_key(digests) == encoder_key(reordered)
    assert encoder_key(digests) != encoder_key(digests | {"layers.0.up": "changed"})


@family
def test_prefixes_have_one_name_up_to_the_first_block_that_differs(config: StrataConfig) -> None:
    old = stored(encoder_tensors(small_strata(config)))
    new = stored(encoder_tensors(small_strata(config, seed=1)))
    last = config.n_layers - 1
    top = {name: new[name] if layer_index(name) == last else tensor for name, tensor in old.items()}
    names = prefix_names(config, old, arithmetic="native")
    assert len(set(names)) == config.n_layers + 1
    assert names == prefix_names(config, {**old, "head.out": new["embed.word"]}, arithmetic="native")
    assert prefix_names(config, top, arithmetic="native")[:-1] == names[:-1]
    assert prefix_names(config, top, arithmetic="native")[-1] != names[-1]
    for other in (
        prefix_names(config, {**old, "embed.type": new["embed.type"]}, arithmetic="native"),
        prefix_names(config, old, arithmetic="library"),
        prefix_names(replace(config, norm_eps=1e-5), old, arithmetic="native"),
    ):
        assert not set(names) & set(other)


def test_prefixes_do_not_depend_on_what_is_above_them() -> None:
    old = stored(TENSORS)
    names = prefix_names(SMALL, old, arithmetic="")
    pruned = replace(FAMILY["pruned"], layers=(LayerSpec(), LayerSpec(heads=2)), pooling="cls", label_capacity=9)
    above = stored(encoder_tensors(small_strata(pruned), first_layer=1))
    assert prefix_names(pruned, {**old, **above}, arithmetic="")[:2] == names[:2]
    assert prefix_names(pruned, {**old, **above}, arithmetic="")[2] != names[2]
    masked = replace(SMALL, spans=(LOCAL,), layers=(LayerSpec(), LayerSpec(spans=((4, 0),))))
    assert prefix_names(masked, old, arithmetic="")[:2] == names[:2]
    assert prefix_names(masked, old, arithmetic="")[2] != names[2]


def test_prefixes_without_digests_have_no_names() -> None:
    assert prefix_names(SMALL, TENSORS, arithmetic="native") == ()
    assert prefix_names(SMALL, {**stored(TENSORS), "head.out": TENSORS["embed.norm"]}, arithmetic="native")


@family
def test_a_version_that_trained_the_top_ships_the_top_alone(config: StrataConfig) -> None:
    """The other tensors keep their bytes, whether layers share matrices or not."""
    strata = small_strata(config)
    before = encoder_tensors(strata)
    last = len(build_plan(config).blocks) - 1
    with torch.no_grad():
        for parameter in strata.layers[last].parameters():
            parameter.mul_(1.5)
    after = encoder_tensors(strata)
    changed = {name for name, tensor in after.items() if tensor.to_blob() != before[name].to_blob()}
    assert changed <= encoder_tensors(strata, first_layer=last).keys()
    assert f"layers.{last}.vectors" in changed
