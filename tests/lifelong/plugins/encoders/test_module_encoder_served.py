"""A user's module is served in float32, and in INT8 by torchao."""

import pytest
import torch

from lifelong.plugins.encoders.module_code import EncoderCode, import_encoder
from lifelong.plugins.encoders.module_encoder import ModuleEncoder, WholeModule, module_tensors
from model.ragged import RaggedBatch
from tests.model.module_encoders import Letters, LettersInInt8, import_path
from tests.required import imported

BATCH = RaggedBatch.of([[1, 2, 3], [4], [5, 6]])


def served(code: EncoderCode) -> ModuleEncoder:
    return ModuleEncoder.from_tensors(code.config, module_tensors(WholeModule(code)), code)


def test_vectors_are_computed_by_the_module() -> None:
    code = import_encoder(import_path(Letters))
    encoder = served(code)
    assert torch.equal(encoder.encode(BATCH), WholeModule(code).eval()(BATCH))
    assert not torch.allclose(encoder.vectors(BATCH), encoder.encode(BATCH))
    assert encoder.precisions == ("fp32",) and encoder.encoding({}, 40) == ""
    with pytest.raises(ValueError, match="precision is 'int8'; expected one of fp32"):
        encoder.encode(BATCH, "int8")


def test_linear_layers_run_in_int8() -> None:
    imported("torchao")
    encoder = served(import_encoder(import_path(LettersInInt8)))
    full, rounded = (encoder.encode(BATCH, precision) for precision in ("fp32", "int8"))
    assert not torch.equal(full, rounded)
    assert torch.cosine_similarity(full, rounded, dim=1).min() > 0.99


def test_two_classes_have_different_shapes() -> None:
    one, again = (served(import_encoder(import_path(Letters))) for _ in range(2))
    assert one.has_same_shape(again)
    imported("torchao")
    assert not one.has_same_shape(served(import_encoder(import_path(LettersInInt8))))
