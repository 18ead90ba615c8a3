"""The setting `encoder` selects the family. A version is packed by this family, or refused."""

from dataclasses import replace

import pytest

from lifelong.plugins.encoders.module_code import ModuleConfig
from lifelong.plugins.encoders.module_encoder import ModuleInputs, WholeModule, module_tensors
from model.encoders import open_encoder, open_inputs, packed, runnable_precisions
from model.errors import EncoderNotFound, WrongConfig
from model.source import encoder_folder
from model.strata import Strata
from model.tokenizer import TextTokenizer
from tests.model.module_encoders import PATH

LETTERS = f"{PATH}:Letters"


def test_a_name_opens_the_family_and_a_path_a_module() -> None:
    assert isinstance(open_inputs("minilm-l6"), TextTokenizer)
    assert isinstance(open_inputs(LETTERS), ModuleInputs)
    whole, inputs = open_encoder(LETTERS)
    assert isinstance(whole, WholeModule) and not whole.training and isinstance(inputs, ModuleInputs)
    strata, tokenizer = open_encoder("minilm-l6", max_tokens=9)
    assert isinstance(strata, Strata) and tokenizer.max_tokens == 9


def test_inputs_of_a_module_are_not_cut() -> None:
    assert open_inputs(LETTERS, max_tokens=40).max_tokens == 40
    with pytest.raises(WrongConfig, match=r"serving\.max_tokens is 9, .* leave serving\.max_tokens out"):
        open_inputs(LETTERS, max_tokens=9)


def test_a_version_of_another_source_is_not_packed() -> None:
    whole, inputs = open_encoder(LETTERS)
    assert isinstance(whole, WholeModule)
    tensors = module_tensors(whole)
    assert packed(whole.config, tensors, inputs).config == whole.config
    other = replace(whole.config, source="another")
    with pytest.raises(WrongConfig, match=r"was made by .*Letters, whose source has the digest another"):
        packed(other, tensors, inputs)
    with pytest.raises(WrongConfig, match="`encoder` names a tokenizer"):
        packed(whole.config, tensors, open_inputs("minilm-l6"))


def test_precisions_follow_from_the_family() -> None:
    config = ModuleConfig(path="a:B", source="0", d_model=4, max_inputs=9, int8=True)
    assert runnable_precisions(config, {}) == ("fp32", "int8")


def test_commands_that_need_files_say_so() -> None:
    with pytest.raises(EncoderNotFound, match="is a class and has no files"):
        encoder_folder(LETTERS)
