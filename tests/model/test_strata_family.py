"""The built-in family claims every name that is not an import path, and code for this family alone refuses others."""

import pytest

from lifelong.plugins.encoders.module_code import ModuleConfig
from model.config import MINILM_L6
from model.errors import WrongConfig
from model.strata_family import STRATA, built_in


def test_what_is_for_one_family_says_so() -> None:
    assert built_in(MINILM_L6) is MINILM_L6
    with pytest.raises(WrongConfig, match="not for a:B, whose source has the digest 0123"):
        built_in(ModuleConfig(path="a:B", source="0123", d_model=4, max_inputs=9))


def test_a_name_a_folder_and_an_id_are_of_it() -> None:
    assert [STRATA.claims(each) for each in ("minilm-l6", "/models/bert", "org/name", "digits:Digits")] == [
        True,
        True,
        True,
        False,
    ]
