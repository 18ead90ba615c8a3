"""The family `static`: sums of rows, independence of the batch, and damaged folders."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from model.config import StaticConfig
from model.encoders import FAMILIES, config_from_json, open_encoder, open_inputs, packed
from model.errors import BadBlob, BadTokens, WrongConfig, WrongShape
from model.packed import PackedEncoder
from model.ragged import RaggedBatch
from model.static import STATIC, StaticTable, WholeStatic
from tests.model.small_static import CONFIG, PAIRS, small_static, write_static
from tests.services.members.small import WORDS

INPUTS = st.lists(
    st.lists(st.integers(0, CONFIG.vocab - 1), min_size=1, max_size=CONFIG.max_sequence), min_size=1, max_size=12
)


def served(whole: WholeStatic, folder: Path) -> PackedEncoder:
    tensors = STATIC.quantize_trained(whole, first_layer=None, grams={})
    return packed(whole.config, tensors, open_inputs(write_static(folder)))


@given(token_ids=INPUTS)
def test_a_vector_is_the_sum_of_the_rows_of_its_tokens_and_known_pairs(token_ids: list[list[int]]) -> None:
    whole = small_static()
    z_BD = whole(RaggedBatch.of(token_ids))
    for ids, z_D in zip(token_ids, z_BD, strict=True):
        neighbours = list(pairwise(ids))
        rows = [*ids, *(CONFIG.vocab + PAIRS.index(pair) for pair in neighbours if pair in PAIRS)]
        expected_D = functional.normalize(whole.embed.table[rows].sum(dim=0), dim=0)
        torch.testing.assert_close(z_D, expected_D, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> PackedEncoder:
    return served(small_static(replace(CONFIG, d_model=96)), tmp_path_factory.mktemp("static"))


@given(token_ids=INPUTS)
def test_no_bit_of_a_vector_depends_on_the_batch(encoder: PackedEncoder, token_ids: list[list[int]]) -> None:
    assert encoder.is_batch_invariant
    batch = RaggedBatch.of(token_ids)
    z_BD = encoder.encode(batch)
    alone_BD = torch.cat([encoder.encode(RaggedBatch.of([ids])) for ids in token_ids])
    assert torch.equal(z_BD, alone_BD)
    assert torch.equal(encoder.encode_from(0, encoder.encode_prefix(batch, 0), batch.layout), z_BD)


def test_the_stored_table_is_int8_and_is_rounded_once(tmp_path: Path) -> None:
    whole = small_static()
    tensors = STATIC.quantize_trained(whole, first_layer=None, grams={})
    assert {name: tensor.scheme for name, tensor in tensors.items()} == {"embed.table": "w8c", "embed.pairs": "fp32"}
    again = STATIC.quantize_trained(STATIC.restored(CONFIG, tensors), first_layer=None, grams={})
    assert {name: each.to_blob() for name, each in again.items()} == {
        name: each.to_blob() for name, each in tensors.items()
    }
    batch = RaggedBatch.of([[1, 5, 7, 8, 2], [1, 4, 2]])
    assert functional.cosine_similarity(served(whole, tmp_path).encode(batch), whole(batch)).min() > 0.999


def test_a_table_may_have_no_pairs() -> None:
    config = replace(CONFIG, pairs=0)
    whole = small_static(config)
    tensors = STATIC.quantize_trained(whole, first_layer=None, grams={})
    assert tensors.keys() == {"embed.table"}
    batch = RaggedBatch.of([[1, 5], [5, 1]])
    z_BD = STATIC.restored(config, tensors)(batch)
    torch.testing.assert_close(z_BD[0], z_BD[1])


def test_a_folder_is_claimed_and_opened(tmp_path: Path) -> None:
    folder = write_static(tmp_path)
    assert FAMILIES.claiming(folder) is STATIC
    whole, inputs = open_encoder(folder)
    assert whole.config == CONFIG and config_from_json(CONFIG.canonical_json()) == CONFIG
    batch = RaggedBatch.of(inputs.encode_many(["please play the song", ""]))
    assert torch.equal(whole(batch), small_static()(batch))
    assert not STATIC.claims("minilm-l6") and not STATIC.claims("digits:Encoder")


def test_slow_rounds_train_nothing() -> None:
    whole = small_static()
    assert (whole.max_trained_layers, whole.config.n_layers, whole.trainable(0)) == (0, 0, [])
    assert STATIC.quantize_trained(whole, first_layer=0, grams={}) == {}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    folder = write_static(tmp_path)
    with pytest.raises(WrongConfig, match="max_tokens is 17, but a static encoder"):
        open_encoder(folder, max_tokens=17)
    (tmp_path / "config.json").write_text(replace(CONFIG, pairs=3).canonical_json())
    with pytest.raises(WrongShape, match="table"):
        open_encoder(folder)
    (tmp_path / "config.json").write_text(replace(CONFIG, vocab=len(WORDS) - 1).canonical_json())
    with pytest.raises(WrongConfig, match=f"has {len(WORDS)} tokens, but the table {len(WORDS) - 1}"):
        open_encoder(folder)
    write_static(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadBlob, match=r"model\.safetensors cannot be read"):
        open_encoder(folder)


@pytest.mark.parametrize("pairs", [[[5, 1], [1, 5]], [[1, 5], [1, 5]], [[1, 99]], [[-1, 2]]])
def test_pairs_that_cannot_be_looked_up_are_refused(pairs: list[list[int]]) -> None:
    with pytest.raises(WrongConfig, match="expected different pairs"):
        StaticTable(torch.zeros(12, 4), torch.tensor(pairs), vocab=9)


def test_an_unknown_token_is_refused() -> None:
    with pytest.raises(BadTokens):
        small_static()(RaggedBatch.of([[CONFIG.vocab]]))


@pytest.mark.parametrize(
    "changed", [{"schema": 2}, {"family": "other"}, {"vocab": 0}, {"pairs": -1}, {"d_model": "8"}, {"prefix": 3}]
)
def test_a_wrong_config_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(WrongConfig):
        replace(CONFIG, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"family": "static"}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(WrongConfig):
        StaticConfig.from_json(text)
