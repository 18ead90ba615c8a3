"""The config of a version: it is read by its family, and versions with different sources have different specs."""

from dataclasses import replace
from typing import Any

import pytest

from lifelong.plugins.encoders.module_code import ModuleConfig
from model.config import MINILM_L6
from model.encoders import config_from_json
from model.errors import WrongConfig

CONFIG = ModuleConfig(path="a:B", source="0123", d_model=4, max_inputs=9)


def test_both_families_are_read_back() -> None:
    assert config_from_json(CONFIG.canonical_json()) == CONFIG
    assert config_from_json(MINILM_L6.canonical_json()) == MINILM_L6


def test_the_number_of_labels_does_not_change_the_shared_shape() -> None:
    assert replace(CONFIG, label_capacity=9).without_labels == CONFIG.without_labels
    assert replace(CONFIG, head_features=9).without_labels != CONFIG.without_labels


def test_another_source_has_another_spec_hash() -> None:
    assert replace(CONFIG, source="4567").spec_hash("x") != CONFIG.spec_hash("x") != CONFIG.spec_hash("y")


@pytest.mark.parametrize("change", [{"d_model": 0}, {"schema": 2}, {"family": "other"}, {"int8": 1}, {"path": None}])
def test_a_value_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WrongConfig):
        replace(CONFIG, **change)


@pytest.mark.parametrize("text", ["{", "[]", '{"family": "module", "path": "a:B"}', '{"family": "module", "x": 1}'])
def test_an_invalid_config_is_refused(text: str) -> None:
    with pytest.raises(WrongConfig):
        config_from_json(text)
