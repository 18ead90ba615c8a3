"""Reads the config files of a published encoder: its shape, pooling, normalisation, prefix, and maximum text length.

    config.json                                         the shape, and the first position of a text
    modules.json, 1_Pooling/config.json                 how the rows of a text's tokens become its vector
    2_Dense/config.json                                 a matrix that follows the pooling
    config_sentence_transformers.json                   the prompt that is put before each text
    sentence_bert_config.json, tokenizer_config.json    the longest text, in tokens; lower case

The library `transformers` defines the first file, and `sentence-transformers` the others. If an encoder has a feature
that we do not support, it is refused. The message names the feature and the fix.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from model.architectures import ARCHITECTURES, Fields
from model.config import FAMILY, StrataConfig
from model.errors import WrongConfig
from model.member import read_member

HOW_TO_WRITE = (
    'write [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}, '
    '{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}] into modules.json, '
    'and {"pooling_mode": "mean"} or "cls" into 1_Pooling/config.json'
)

File = TypeVar("File")


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedEncoder:
    """The description of a published encoder, from the config files in its folder.

    - `kind`: the `model_type` of its config.json.
    - `max_tokens`: the longest text for which the encoder was published, in tokens.
    - `prompts`: all prompts by name. The prefix of the config is one of them.
    - `fields`: the contents of config.json, which the architecture reads.
    - `dense`: the folders of the Dense modules that follow the pooling, in order.
    """

    kind: str
    config: StrataConfig
    max_tokens: int
    is_lower_case: bool
    prompts: Mapping[str, str]
    fields: Fields = field(default_factory=dict)
    dense: tuple[Path, ...] = ()


class _Module(msgspec.Struct):
    type: str
    path: str


class _Pooling(msgspec.Struct):
    """The contents of 1_Pooling/config.json. Older releases have the flags in place of `pooling_mode`."""

    pooling_mode: str | list[str] = msgspec.field(default_factory=list)
    pooling_mode_mean_tokens: bool = False
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    include_prompt: bool = True

    @property
    def modes(self) -> list[str]:
        """The names of the pooling modes. If there are several, their vectors are concatenated."""
        if self.pooling_mode:
            return [self.pooling_mode] if isinstance(self.pooling_mode, str) else self.pooling_mode
        flags = [name for name in self.__struct_fields__ if name.startswith("pooling_mode_") and getattr(self, name)]
        return [name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for name in flags]


class _Dense(msgspec.Struct):
    """The contents of 2_Dense/config.json."""

    activation_function: str = "torch.nn.modules.activation.Tanh"
    module_input_name: str = "sentence_embedding"
    module_output_name: str | None = None
    use_residual: bool = False


class _Prompts(msgspec.Struct):
    """The contents of config_sentence_transformers.json."""

    prompts: dict[str, str] | None = None
    default_prompt_name: str | None = None


class _Limits(msgspec.Struct):
    """The contents of sentence_bert_config.json or tokenizer_config.json. A tokenizer without a limit has 1e30."""

    max_seq_length: int | None = None
    model_max_length: float | None = None
    do_lower_case: bool = False


def read_published(folder: Path) -> PublishedEncoder:
    """Reads the config files of an encoder. Raises WrongConfig, which names the file, the problem, and the fix.

    If `lifelong.compress` made the encoder, all of this is in one file (`model.member`).
    """
    if (member := read_member(folder)) is not None:
        return PublishedEncoder(
            kind=FAMILY, config=member.config, max_tokens=member.max_tokens, is_lower_case=False, prompts={}
        )
    fields, shape = _shape(folder / "config.json")
    pooling_folder, dense, is_normalized = _modules(folder / "modules.json")
    for path in dense:
        _check_dense(path / "config.json")
    prompts, prefix = _prompts(folder / "config_sentence_transformers.json")
    config = StrataConfig(
        **shape,
        project=bool(dense),
        pooling=_pooling(folder / pooling_folder / "config.json", has_prefix=bool(prefix)),
        normalize=is_normalized,
        prefix=prefix,
    )
    # Sizes of layers that equal the encoder's are left out, as in the config of every manifest.
    config = StrataConfig.from_json(config.canonical_json())
    limits = _read(folder / "sentence_bert_config.json", _Limits, default=_Limits())
    tokenizer_limit = _read(folder / "tokenizer_config.json", _Limits, default=_Limits()).model_max_length
    # As in sentence-transformers, `max_seq_length` takes precedence over the limit of the tokenizer.
    limit = limits.max_seq_length or tokenizer_limit or config.max_sequence
    return PublishedEncoder(
        kind=fields.get("model_type", "bert"),
        config=config,
        max_tokens=int(min(limit, config.max_sequence)),
        is_lower_case=limits.do_lower_case,
        prompts=prompts,
        fields=fields,
        dense=dense,
    )


def _shape(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads config.json; returns its fields, and the fields of our config that they decide."""
    fields = _read(path, dict[str, Any])
    kind = fields.get("model_type", "bert")
    if kind not in ARCHITECTURES:
        raise WrongConfig(f"{path}: model_type is {kind!r}; expected one of {', '.join(ARCHITECTURES)}")
    try:
        return fields, ARCHITECTURES[kind].shape(fields)
    except (WrongConfig, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise WrongConfig(f"{path} {error}") from error


def _modules(path: Path) -> tuple[str, tuple[Path, ...], bool]:
    """Reads modules.json; returns the folders of Pooling and Dense modules, and whether vectors are normalised.

    The folder of the Pooling is relative.
    """
    if not path.is_file():
        raise WrongConfig(
            f"{path} is missing, and nothing else says how the tokens of a text become its vector. Copy it and "
            f"1_Pooling/config.json from where the encoder was published; if there are none, {HOW_TO_WRITE}"
        )
    modules = _read(path, list[_Module])
    types = [module.type.rpartition(".")[2] for module in modules]
    num_dense = types.count("Dense")
    expected = ["Transformer", "Pooling", *["Dense"] * num_dense]
    if types not in (expected, [*expected, "Normalize"]) or modules[0].path:
        raise WrongConfig(
            f"{path}: the modules are {', '.join(types)}; expected a Transformer with its files in the same folder, a "
            "Pooling, and optionally Dense and a Normalize. Other modules are not supported: choose an encoder without "
            "them"
        )
    dense = tuple(path.parent / module.path for module in modules[2 : 2 + num_dense])
    return modules[1].path, dense, types[-1] == "Normalize"


def _check_dense(path: Path) -> None:
    """Raises WrongConfig unless the Dense module is linear. Then it may come before the pooling as well."""
    dense = _read(path, _Dense)
    names = {dense.module_input_name, dense.module_output_name or dense.module_input_name}
    is_linear = dense.activation_function.rpartition(".")[2] == "Identity" and not dense.use_residual
    if not is_linear or names != {"sentence_embedding"}:
        raise WrongConfig(
            f"{path}: expected the activation_function torch.nn.modules.linear.Identity, no use_residual, and "
            "sentence_embedding as input and output. Other Dense modules are not supported: choose an encoder without "
            "them"
        )


def _pooling(path: Path, *, has_prefix: bool) -> Literal["mean", "cls"]:
    if not path.is_file():
        raise WrongConfig(f"{path} is missing: copy it from where the encoder was published, or {HOW_TO_WRITE}")
    pooling = _read(path, _Pooling)
    if has_prefix and not pooling.include_prompt:
        raise WrongConfig(
            f"{path}: include_prompt is false, so the mean leaves out the prompt, which is not supported: choose an "
            "encoder without a default prompt"
        )
    match pooling.modes:
        case ["mean"]:
            return "mean"
        case ["cls"]:
            return "cls"
    raise WrongConfig(f"{path}: the pooling is {' + '.join(pooling.modes) or 'not given'}; expected mean or cls")


def _prompts(path: Path) -> tuple[dict[str, str], str]:
    """Returns all prompts by name, and the prompt that is put before each text (the prefix)."""
    file = _read(path, _Prompts, default=_Prompts())
    prompts = file.prompts or {}
    if file.default_prompt_name is not None:
        if file.default_prompt_name not in prompts:
            raise WrongConfig(f"{path}: default_prompt_name is {file.default_prompt_name!r}, which is not in prompts")
        return prompts, prompts[file.default_prompt_name]
    if any(prompts.values()):
        raise WrongConfig(
            f"{path}: there are prompts ({', '.join(prompts)}), and none is the default. Write the name of the prompt "
            'for your texts as default_prompt_name; to use no prompt, add a prompt "none": "" and write this name'
        )
    return prompts, ""


def _read(path: Path, kind: type[File], *, default: File | None = None) -> File:
    """Reads a JSON file. If it is missing, returns `default`, or raises WrongConfig if `default` is None."""
    if default is not None and not path.is_file():
        return default
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise WrongConfig(f"{path} cannot be read: {error}") from error
