"""The family `rung`: the encoder answers as it does alone, and the table in the precision `static`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.encoders import FAMILIES, config_from_json, open_encoder, open_inputs, packed, runnable_precisions
from model.errors import WrongConfig
from model.packed import PackedEncoder
from model.ragged import RaggedBatch
from model.rung import RUNG, STATIC_PRECISION, RungConfig, WholeRung, rung_config
from model.static import STATIC, encoder_files
from model.strata import Strata
from model.strata_family import STRATA
from tests.model.small_static import CONFIG as TABLE
from tests.model.small_static import small_static, write_static
from tests.services.members.small import CONFIG, tokenizer_json, write_small

BATCH = RaggedBatch.of([[1, 5, 7, 8, 2], [1, 4, 2], [1, 4, 5, 9, 10, 2]])


def write_rung(folder: Path, *, width: int = CONFIG.d_model) -> str:
    """Writes an encoder with a table of random rows, and returns the path by which settings name it."""
    write_small(folder / "main")
    table = small_static(replace(TABLE, d_model=width))
    (folder / "table").mkdir()
    for name, content in encoder_files(table, tokenizer_json(), []).items():
        (folder / "table" / name).write_bytes(content)
    (folder / "config.json").write_text(json.dumps({"family": "rung"}))
    return str(folder)


def opened(folder: Path) -> WholeRung:
    whole, _ = open_encoder(write_rung(folder))
    assert isinstance(whole, WholeRung)
    return whole


def served(whole: WholeRung, folder: str) -> PackedEncoder:
    return packed(whole.config, RUNG.quantize_trained(whole, first_layer=None, grams={}), open_inputs(folder))


def test_a_folder_is_claimed_and_is_the_encoder_in_full_precision(tmp_path: Path) -> None:
    whole = opened(tmp_path / "rung")
    assert FAMILIES.claiming(str(tmp_path / "rung")) is RUNG
    main, inputs = open_encoder(str(tmp_path / "rung" / "main"))
    assert torch.equal(whole(BATCH), main(BATCH))
    assert open_inputs(str(tmp_path / "rung")).digest == inputs.digest
    assert (whole.config.d_model, whole.config.n_layers) == (CONFIG.d_model, CONFIG.n_layers)


def test_each_precision_gives_the_vectors_of_its_own_encoder(tmp_path: Path) -> None:
    folder = write_rung(tmp_path / "rung")
    whole = opened(tmp_path / "again")
    encoder = served(whole, folder)
    assert encoder.precisions == ("int8", "int4", "static")
    assert isinstance(whole.main, Strata)
    alone = packed(CONFIG, STRATA.quantize_trained(whole.main, first_layer=None, grams={}), open_inputs(folder))
    for precision in alone.precisions:
        assert torch.equal(encoder.encode(BATCH, precision), alone.encode(BATCH, precision))
        x_TD = encoder.encode_prefix(BATCH, 1, precision)
        assert torch.equal(encoder.encode_from(1, x_TD, BATCH.layout, precision), alone.encode(BATCH, precision))
    assert encoder.prefixes == alone.prefixes and torch.equal(encoder.encode(BATCH), alone.encode(BATCH))
    table = packed(
        whole.config.of_table,
        STATIC.quantize_trained(whole.embed.table, first_layer=None, grams={}),
        open_inputs(folder),
    )
    expected_BD = table.encode(BATCH)
    for found_BD in (
        encoder.encode(BATCH, STATIC_PRECISION),
        encoder.vectors(BATCH, STATIC_PRECISION),
        encoder.encode_from(
            1, encoder.encode_prefix(BATCH, 1, STATIC_PRECISION), BATCH.layout, precision=STATIC_PRECISION
        ),
    ):
        assert torch.equal(found_BD, expected_BD)
    with pytest.raises(ValueError, match="fp64"):
        encoder.encode(BATCH, "fp64")


def test_stored_weights_are_those_of_both_and_are_restored(tmp_path: Path) -> None:
    whole = opened(tmp_path / "rung")
    tensors = RUNG.quantize_trained(whole, first_layer=None, grams={})
    own = {name for name in tensors if name.startswith("rung.")}
    assert own == {"rung.embed.table", "rung.embed.pairs"} and all(tensors[name].name == name for name in tensors)
    assert tensors.keys() - own == STRATA.quantize_trained(whole.main, first_layer=None, grams={}).keys()  # type: ignore[arg-type]
    schemes = {name: tensor.scheme for name, tensor in tensors.items()}
    assert runnable_precisions(whole.config, schemes) == ("int8", "int4", "static")
    again = RUNG.quantize_trained(RUNG.restored(whole.config, tensors), first_layer=None, grams={})
    assert {name: each.to_blob() for name, each in again.items()} == {
        name: each.to_blob() for name, each in tensors.items()
    }
    # A slow round replaces no weight of the table.
    last = CONFIG.n_layers - 1
    assert all(name.startswith(f"layers.{last}.") for name in RUNG.quantize_trained(whole, first_layer=last, grams={}))


def test_a_config_is_read_back_and_a_head_changes_only_its_own_sizes(tmp_path: Path) -> None:
    whole = opened(tmp_path / "rung")
    whole.resize_head(head_features=96, label_capacity=7)
    found = config_from_json(whole.config.canonical_json())
    assert isinstance(found, RungConfig) and found == whole.config
    assert (found.head_features, found.label_capacity, found.without_labels.label_capacity) == (96, 7, 1)
    assert found.of_main == CONFIG and replace(found, label_capacity=8).without_labels == found.without_labels
    assert found.spec_hash("a") != found.spec_hash("b")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"family": "rung"}'])
def test_another_config_is_refused(text: str) -> None:
    with pytest.raises(WrongConfig):
        RungConfig.from_json(text)


def test_a_table_in_another_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongConfig, match="the table is 8 wide; expected 128"):
        open_encoder(write_rung(tmp_path / "rung", width=8))
    with pytest.raises(WrongConfig, match="schema 2"):
        replace(rung_config(CONFIG, replace(TABLE, d_model=CONFIG.d_model)), schema=2)


def test_a_table_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_rung(tmp_path / "rung")
    tokenizer = tmp_path / "rung" / "table" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"rain"', '"snow"'))
    with pytest.raises(WrongConfig, match="has another tokenizer than"):
        open_encoder(folder)


def test_a_folder_without_its_encoder_says_what_is_missing(tmp_path: Path) -> None:
    write_static(tmp_path / "table")
    (tmp_path / "config.json").write_text(json.dumps({"family": "rung"}))
    with pytest.raises(Exception, match="main"):
        open_encoder(str(tmp_path))
