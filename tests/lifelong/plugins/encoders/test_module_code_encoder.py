"""The import of a user's class: it is instantiated under a fixed seed, and refused with the reason if it is invalid."""

import pytest
import torch

from lifelong import Encoder
from lifelong.plugins.encoders.module_code import import_encoder
from model.errors import EncoderNotFound, WrongConfig
from tests.model.module_encoders import (
    PATH,
    CannotRead,
    Letters,
    Narrow,
    NeedsArguments,
    NoModule,
    Wide,
    WithoutExamples,
    import_path,
)


def test_a_class_is_imported_with_the_same_weights_each_time() -> None:
    one, two = (import_encoder(import_path(Letters)) for _ in range(2))
    assert one.config == two.config
    assert (one.config.path, one.config.d_model, one.config.max_inputs) == (import_path(Letters), 16, 40)
    states = [code.module.state_dict() for code in (one, two)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert isinstance(one.module, Encoder)


def test_the_random_generator_of_the_process_does_not_change() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    import_encoder(import_path(Letters))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:Letters", "PYTHONPATH must name the folder of no_such_module"),
        (f"{PATH}:Nothing", "has no attribute 'Nothing'"),
        ("minilm-l6", "is not an import path"),
    ],
)
def test_a_path_that_does_not_import_is_named(name: str, message: str) -> None:
    with pytest.raises(EncoderNotFound, match=message):
        import_encoder(name)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (NoModule, "has no max_inputs, examples, read, forward; `lifelong new encoder`"),
        (NeedsArguments, "cannot be made without arguments"),
        (Narrow, r"forward returned torch.float32 \[3, 9\]; expected torch.float32 \[3, 8\]"),
        (Wide, "scale is torch.float64; expected float32"),
        (WithoutExamples, r"examples are \(\); expected a few texts"),
        (CannotRead, "cannot encode its examples: ValueError.*other characters"),
    ],
)
def test_an_invalid_encoder_is_refused_with_the_reason(found: type, message: str) -> None:
    with pytest.raises(WrongConfig, match=message):
        import_encoder(import_path(found))
