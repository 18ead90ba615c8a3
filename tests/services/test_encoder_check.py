"""Tests the comparison of an encoder with published vectors, and of INT8 and INT4 with full precision."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.errors import EncoderNotFound
from services.encoder_check import FILE, BadVectors, EncoderCheck, check, compare_vectors
from tests.model.published_encoder import KINDS, TEXTS, WIDTH, reference, write_encoder, write_modules
from tests.model.published_modern import TEXTS as MODERN_TEXTS
from tests.model.published_modern import write_published_by_libraries


def encode_texts(folder: Path, *, pooling: str = "mean") -> Tensor:
    """Returns the unit vectors that the libraries compute for TEXTS."""
    rows = [reference(folder, text) for text in TEXTS]
    pooled_BD = torch.stack([row_SD[0] if pooling == "cls" else row_SD.mean(dim=0) for row_SD in rows])
    return functional.normalize(pooled_BD, dim=1)


def write_vectors(path: Path, vectors_BD: Tensor) -> Path:
    return write_lines(path, zip(TEXTS, vectors_BD.tolist(), strict=True))


def write_lines(path: Path, lines: Iterable[tuple[str, list[float]]]) -> Path:
    path.write_text("".join(json.dumps({"text": text, "vector": vector}) + "\n" for text, vector in lines))
    return path


def checked(folder: Path, vectors: Path | None = None) -> EncoderCheck:
    return check(str(folder), vectors=vectors, say=lambda _: None)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_computed_as_published_is_right(tmp_path: Path, kind: str, pooling: str) -> None:
    write_encoder(tmp_path, kind, pooling=pooling)
    write_vectors(tmp_path / FILE, encode_texts(tmp_path, pooling=pooling))
    found = checked(tmp_path)
    assert found.published is not None and found.is_right
    assert found.published.texts == len(TEXTS)
    assert found.published.lowest_cosine > 0.99999
    assert (found.kind, found.pooling, found.normalize, found.prefix) == (kind, pooling, True, "")
    assert (found.shape["width"], found.shape["positions"], found.max_tokens) == (WIDTH, 48, 48)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("modernbert", "pre-norm LayerNorm, geglu, rotary positions of base 10000 and 160000, 2 layers see 5 tokens"),
        ("gemma3_text", "sandwich-norm RMSNorm, normalised queries and keys, geglu_tanh, rotary positions of base"),
        ("eurobert", "pre-norm RMSNorm, swiglu, rotary positions of base 10000"),
    ],
)
def test_encoders_of_today_are_right_and_run_natively(tmp_path: Path, kind: str, parts: str) -> None:
    published = write_published_by_libraries(tmp_path, kind, prompt="query: ")
    lines = zip(MODERN_TEXTS, published.expected_BD.tolist(), strict=True)
    write_lines(published.folder / FILE, lines)
    found = checked(published.folder)
    assert found.published is not None and found.is_right
    assert found.published.lowest_cosine > 0.99999
    assert found.parts.startswith(parts)
    assert (found.kind, found.prefix, found.not_native) == (kind, "query: ", [])
    assert [precision.name for precision in found.precisions] == ["fp32", "int8", "int4"]


def test_another_pooling_is_found_out(tmp_path: Path) -> None:
    write_encoder(tmp_path, pooling="mean")
    found = checked(tmp_path, write_vectors(tmp_path / "cls.jsonl", encode_texts(tmp_path, pooling="cls")))
    assert found.published is not None and not found.is_right
    assert found.published.lowest_cosine < 0.999


def test_another_length_is_found_out(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    write_vectors(tmp_path / FILE, encode_texts(tmp_path))
    write_modules(tmp_path, modules=())
    found = checked(tmp_path)
    assert found.published is not None and not found.is_right
    assert found.published.lowest_cosine > 0.999
    assert found.published.length_error > 0.1


def test_without_vectors_the_precisions_are_compared_all_the_same(tmp_path: Path) -> None:
    found = checked(write_encoder(tmp_path))
    assert found.published is None and found.is_right
    full, int8, int4 = found.precisions
    assert full.agreement.lowest_cosine > 0.999999
    assert 0.99 < int8.agreement.lowest_cosine < full.agreement.lowest_cosine
    assert 0.8 < int4.agreement.lowest_cosine < int8.agreement.lowest_cosine
    assert int8.num_bytes < full.num_bytes / 3
    assert list(int8.ms) == ["1 x 16", "16 x 16"]


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    with pytest.raises(BadVectors, match="32 numbers; a vector has 64"):
        checked(tmp_path, write_vectors(tmp_path / FILE, encode_texts(tmp_path)[:, :32]))


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFound, match=r"has no config\.json"):
        checked(tmp_path)


def test_a_vector_that_is_not_finite_is_not_right() -> None:
    assert compare_vectors(torch.ones(1, 2), torch.ones(1, 2)).is_right
    assert not compare_vectors(torch.full((1, 2), float("nan")), torch.ones(1, 2)).is_right
