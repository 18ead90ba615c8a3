"""The native forward against torch's: every instruction set, both precisions, every layer."""

import weakref
from dataclasses import replace
from functools import cache, partial
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kernels import dispatch, native
from kernels.attention_i8 import attention as attention_i8
from model.config import LayerSpec, StrataConfig
from model.forward import pack_forward
from model.forward.library import LibraryForward
from model.forward.native import NativeForward, why_unavailable
from model.plan import layer_index
from model.qtensor import QTensor, from_blob
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors
from tests.model.small_encoder import FAMILY, SMALL, TOKEN_IDS, TOPK, select_rows, small_strata
from tests.model.test_qtensor import make_entry
from tests.required import impossible

TENSORS = encoder_tensors(small_strata())
BATCH = RaggedBatch.of([[7] * 70, [5, 6, 7], [1], [9, 8], list(range(30)), list(range(17))])


def skip_unless_able(isa: str) -> str:
    if reasons := native.why_unavailable(isa):
        impossible("; ".join(reasons))
    return isa


@pytest.mark.parametrize("isa", native.ISAS)
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_agrees_with_torch(isa: str, precision: str) -> None:
    """The bounds allow a few 8-bit roundings to differ by one step."""
    ours = NativeForward(SMALL, TENSORS, precision)
    theirs = LibraryForward(SMALL, TENSORS, precision)
    found = ours._encoder.encode(BATCH.ids_T, BATCH.offsets, rows=BATCH.layout.order, isa=skip_unless_able(isa))
    assert (found * theirs.encode(BATCH)).sum(dim=1).min() > 0.999
    for layer in range(SMALL.n_layers + 1):
        tokens = ours._encoder.tokens(BATCH.ids_T, BATCH.offsets, layers=layer, isa=isa)
        assert (tokens - theirs.tokens(BATCH, layer)).abs().max() < (0.2 if layer else 1e-5)


POOLED = [
    replace(SMALL, pooling="cls"),
    replace(SMALL, normalize=False),
    replace(SMALL, pooling="cls", normalize=False, first_position=2),
]


@pytest.mark.parametrize("isa", native.ISAS)
@pytest.mark.parametrize("config", POOLED)
def test_pools_and_scales_as_torch(isa: str, config: StrataConfig) -> None:
    """A row of `tokens` after the last block is pooled, so that only pooling and scaling are compared."""
    forward = NativeForward(config, TENSORS, "int8")
    run = partial(forward._encoder.encode, BATCH.ids_T, BATCH.offsets, rows=BATCH.layout.order)
    x_TD = forward._encoder.tokens(BATCH.ids_T, BATCH.offsets, layers=SMALL.n_layers, isa=skip_unless_able(isa))
    pooled_BD = BATCH.layout.restore(BATCH.layout.pooled(x_TD, config.pooling))
    expected_BD = functional.normalize(pooled_BD, dim=1) if config.normalize else pooled_BD
    torch.testing.assert_close(run(isa=isa), expected_BD)
    theirs_BD = LibraryForward(config, TENSORS, "int8").encode(BATCH)
    assert torch.cosine_similarity(run(isa=isa), theirs_BD).min() > 0.999
    torch.testing.assert_close(theirs_BD.norm(dim=1), run(isa=isa).norm(dim=1), rtol=0.01, atol=0)


def test_agrees_with_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention is in 8-bit integers on both sides, so that only the order of float32 sums differs."""
    monkeypatch.setenv(dispatch.VARIABLE, "reference")
    dispatch.forced.cache_clear()
    try:
        theirs = pack_forward(SMALL, TENSORS, "int8")
    finally:
        dispatch.forced.cache_clear()
    ours = NativeForward(SMALL, TENSORS, "int8")
    assert (ours.encode(BATCH) * theirs.encode(BATCH)).sum(dim=1).min() > 0.9999


@pytest.mark.parametrize("isa", native.ISAS)
def test_agrees_on_minilm(isa: str, minilm: tuple[Strata, TextTokenizer]) -> None:
    strata, tokenizer = minilm
    tensors = encoder_tensors(strata)
    batch = RaggedBatch.of(tokenizer.encode_many(["where is my card", "hi", "a much longer text " * 30]))
    ours = NativeForward(strata.config, tensors, "int8")
    theirs = LibraryForward(strata.config, tensors, "int8")
    found = ours._encoder.encode(batch.ids_T, batch.offsets, rows=batch.layout.order, isa=skip_unless_able(isa))
    assert (found * theirs.encode(batch)).sum(dim=1).min() > 0.99


NATIVE = [name for name in FAMILY if not why_unavailable(FAMILY[name])]
ABLE = [isa for isa in native.ISAS if not native.why_unavailable(isa)]


@cache
def make_packed(name: str, precision: str) -> NativeForward:
    return NativeForward(FAMILY[name], encoder_tensors(small_strata(FAMILY[name])), precision)


@pytest.mark.parametrize("isa", native.ISAS)
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("name", NATIVE)
def test_the_family_agrees_with_the_definitions(name: str, precision: str, isa: str) -> None:
    """Attention is in 8-bit integers on both sides, so that only the rounding of float32 sums differs."""
    config = FAMILY[name]
    tensors = encoder_tensors(small_strata(config))
    theirs = LibraryForward(config, tensors, precision, attention=attention_i8)
    ours = NativeForward(config, tensors, precision)
    found = ours._encoder.encode(BATCH.ids_T, BATCH.offsets, rows=BATCH.layout.order, isa=skip_unless_able(isa))
    assert (found * theirs.encode(BATCH)).sum(dim=1).min() > 0.998


@given(TOKEN_IDS, st.sampled_from(NATIVE), st.sampled_from(["int8", "int4"]), st.sampled_from(ABLE), st.data())
@settings(max_examples=60)
def test_goes_on_from_any_block_to_the_same_bits(
    token_ids: list[list[int]], name: str, precision: str, isa: str, data: st.DataObject
) -> None:
    """The whole batch can continue, and so can some of its texts."""
    config = FAMILY[name]
    kernel = make_packed(name, precision)._encoder
    batch = RaggedBatch.of(token_ids)
    expected = kernel.encode(batch.ids_T, batch.offsets, rows=batch.layout.order, isa=isa)
    layer = data.draw(st.integers(0, config.n_layers))
    x_TD = kernel.tokens(batch.ids_T, batch.offsets, layers=layer, isa=isa)
    rows = data.draw(st.lists(st.sampled_from(range(len(token_ids))), min_size=1, unique=True))
    for picked in (rows, list(range(len(token_ids)))):
        layout, few_TD = select_rows(batch, x_TD, picked)
        found = kernel.encode_from(few_TD, layout.offsets, layer=layer, rows=layout.order, isa=isa)
        assert torch.equal(found, expected[picked])


@given(TOKEN_IDS, st.sampled_from(NATIVE), st.sampled_from(["int8", "int4"]), st.sampled_from(ABLE), st.data())
@settings(max_examples=60)
def test_a_text_gets_the_same_bits_on_every_processor_and_in_every_batch(
    token_ids: list[list[int]], name: str, precision: str, isa: str, data: st.DataObject
) -> None:
    kernel = make_packed(name, precision)._encoder
    batch = RaggedBatch.of(token_ids)
    together = kernel.encode(batch.ids_T, batch.offsets, rows=batch.layout.order, isa=isa, threads=2)
    index = data.draw(st.sampled_from(range(len(token_ids))))
    alone = RaggedBatch.of([token_ids[index]])
    assert torch.equal(kernel.encode(alone.ids_T, alone.offsets, isa="plain")[0], together[index])


def test_what_it_does_not_run_is_said() -> None:
    assert set(NATIVE) == set(FAMILY)
    narrow = replace(FAMILY["rope"], n_heads=4)
    assert why_unavailable(narrow) == ["heads that are rotated are 16 wide; expected a multiple of 32"]
    small_blocks = replace(SMALL, spans=(replace(TOPK, block=8),), layers=(LayerSpec(spans=((4, 0),)),) * 2)
    assert why_unavailable(small_blocks) == ["a block has 8 keys; expected a multiple of 16"]


def test_a_shape_that_it_cannot_run_goes_to_torch_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    narrow = replace(SMALL, n_heads=8)
    assert why_unavailable(narrow) == ["a head is 8 wide; expected a multiple of 16 up to 256"]
    for _ in range(2):
        assert isinstance(pack_forward(narrow, TENSORS, "int8"), LibraryForward)
    (said,) = caplog.messages
    assert "a head is 8 wide" in said and "LIFELONG_KERNELS=library silences this" in said
    with pytest.raises(NotImplementedError, match=r"forward: nothing can run this \(native: a head is 8"):
        pack_forward(narrow, TENSORS, "int8", force="native")


@pytest.mark.parametrize(("family", "kind"), [("library", LibraryForward), ("reference", LibraryForward)])
def test_a_family_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, family: str, kind: type) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, family)
    dispatch.forced.cache_clear()
    try:
        forward = pack_forward(SMALL, TENSORS, "int8")
        assert isinstance(forward, kind)
        assert forward.name == family
        assert torch.isfinite(forward.encode(BATCH)).all()
    finally:
        dispatch.forced.cache_clear()


def read_back(config: StrataConfig, *, seed: int = 0) -> dict[str, QTensor]:
    """Returns the tensors of an encoder with digests, as if they had been read from bytes."""
    stored = encoder_tensors(small_strata(config, seed=seed))
    blobs = {name: tensor.to_blob() for name, tensor in stored.items()}
    return {name: from_blob(make_entry(tensor, blobs[name]), blobs[name]) for name, tensor in stored.items()}


def addresses(forward: NativeForward) -> list[int]:
    matrices = chain.from_iterable(block.matrices for block in forward._encoder.blocks)
    return [matrix.packed.data_ptr() for matrix in matrices]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_encoders_with_equal_blocks_share_their_packed_memory(precision: str) -> None:
    old = read_back(SMALL)
    top = read_back(SMALL, seed=1)
    new = {name: top[name] if layer_index(name) == SMALL.n_layers - 1 else tensor for name, tensor in old.items()}
    first = NativeForward(SMALL, old, precision)
    alone = NativeForward(SMALL, {name: replace(each, digest="") for name, each in new.items()}, precision)
    alone_BD = alone.encode(BATCH)
    second = NativeForward(SMALL, new, precision)
    num_frozen = 4 * (SMALL.n_layers - 1)
    assert addresses(first)[:num_frozen] == addresses(second)[:num_frozen]
    assert not set(addresses(first)[num_frozen:]) & set(addresses(second)[num_frozen:])
    assert torch.equal(second.encode(BATCH), alone_BD)
    del first
    assert torch.equal(second.encode(BATCH), alone_BD)
    assert addresses(NativeForward(SMALL, new, precision)) == addresses(second)


def test_packed_matrices_go_with_the_last_encoder_that_uses_them() -> None:
    forward = NativeForward(SMALL, read_back(SMALL, seed=5), "int8")
    held = weakref.ref(forward._encoder.blocks[0].qkv.packed)
    assert held() is not None
    del forward
    assert held() is None


def test_a_matrix_with_another_bias_is_packed_by_itself() -> None:
    old = read_back(SMALL)
    vectors = old["layers.0.vectors"]
    parts = {name: part + 1 if name == "qkv.bias" else part for name, part in vectors.parts.items()}
    new = {**old, "layers.0.vectors": replace(vectors, parts=parts, digest="another")}
    first = NativeForward(SMALL, old, "int8")
    assert not set(addresses(first)[:4]) & set(addresses(NativeForward(SMALL, new, "int8"))[:4])
