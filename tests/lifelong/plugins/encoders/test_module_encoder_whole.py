"""The module in full precision: trained as one block, stored in float32, and read back bit for bit."""

import pytest
import torch

from lifelong.plugins.encoders.module_code import import_encoder
from lifelong.plugins.encoders.module_encoder import WholeModule, load_module, module_tensors
from model.errors import WrongShape
from model.qtensor import QTensor
from model.ragged import RaggedBatch
from tests.model.module_encoders import PATH

CODE = import_encoder(f"{PATH}:Letters")


def whole() -> WholeModule:
    made = WholeModule(CODE).eval()
    made.get_buffer("layers.0.norm.num_batches_tracked").fill_(7)
    return made


def test_vectors_have_unit_length_and_the_callers_order() -> None:
    made = whole()
    ids = [[1, 2, 3], [4], [5, 6]]
    z_BD = made(RaggedBatch.of(ids))
    assert torch.allclose(z_BD.norm(dim=1), torch.ones(3))
    alone = torch.cat([made(RaggedBatch.of([each])) for each in ids])
    assert torch.allclose(z_BD, alone, atol=1e-6)


def test_parameters_without_a_gradient_are_not_trained() -> None:
    made = whole()
    assert made.max_trained_layers == 1
    assert len(made.trainable(0)) == 4 and made.trainable(1) == []
    assert not made.get_parameter("layers.0.embed.weight").requires_grad


def test_weights_are_stored_and_read_back() -> None:
    made = whole()
    loaded = load_module(CODE, module_tensors(made)).state_dict()
    own = made.layers[0].state_dict()
    assert loaded.keys() == own.keys()
    assert all(torch.equal(loaded[name], own[name]) and loaded[name].dtype == own[name].dtype for name in own)


def test_an_integer_that_float32_cannot_hold_is_refused() -> None:
    made = whole()
    made.get_buffer("layers.0.norm.num_batches_tracked").fill_(1 << 24)
    with pytest.raises(WrongShape, match="num_batches_tracked"):
        module_tensors(made)


def test_weights_that_do_not_fit_are_named() -> None:
    tensors = module_tensors(whole())
    missing = {name: each for name, each in tensors.items() if not name.endswith("out.bias")}
    other = QTensor("layers.0.more", "fp32", {"value": torch.ones(2)})
    with pytest.raises(WrongShape, match=r"lack \['out.bias'\], have \['more'\]"):
        load_module(CODE, missing | {"layers.0.more": other})
    wrong = QTensor("layers.0.out.bias", "fp32", {"value": torch.ones(2)})
    with pytest.raises(WrongShape, match=r"another shape for \['out.bias'\]"):
        load_module(CODE, tensors | {"layers.0.out.bias": wrong})
