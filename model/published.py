"""Reads the config files of a published encoder: its shape, pooling, normalisation, prefix, and maximum text length.

    config.json                                         the shape, and the first position of a text
    modules.json, 1_Pooling/config.json                 how the rows of a text's tokens become its vector
    config_sentence_transformers.json                   the prompt that is put before each text
    sentence_bert_config.json, tokenizer_config.json    the longest text, in tokens; lower case

The library `transformers` defines the first file, and `sentence-transformers` the others. If an encoder has a feature
that we do not support, it is refused. The message names the feature and the fix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from model.config import FAMILY, StrataConfig
from model.errors import WrongConfig
from model.member import read_member

FIELDS = {
    "vocab": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_pos": "max_position_embeddings",
    "type_vocab": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
}
"""Our config field -> the field in config.json."""

COMPUTED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
"""The only supported values of these fields of config.json. A field may be absent."""

AFTER_PADDING = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}
"""The supported values of `model_type`, and whether positions begin after the index of the padding token."""

MODULE_TYPES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
"""The supported sequences of sentence-transformers modules."""

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
    """

    kind: str
    config: StrataConfig
    max_tokens: int
    is_lower_case: bool
    prompts: Mapping[str, str]


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
    kind, shape = _shape(folder / "config.json")
    pooling_folder, is_normalized = _modules(folder / "modules.json")
    prompts, prefix = _prompts(folder / "config_sentence_transformers.json")
    config = StrataConfig(
        **shape,
        pooling=_pooling(folder / pooling_folder / "config.json", has_prefix=bool(prefix)),
        normalize=is_normalized,
        prefix=prefix,
    )
    limits = _read(folder / "sentence_bert_config.json", _Limits, default=_Limits())
    tokenizer_limit = _read(folder / "tokenizer_config.json", _Limits, default=_Limits()).model_max_length
    # As in sentence-transformers, `max_seq_length` takes precedence over the limit of the tokenizer.
    limit = limits.max_seq_length or tokenizer_limit or config.max_sequence
    return PublishedEncoder(
        kind=kind,
        config=config,
        max_tokens=int(min(limit, config.max_sequence)),
        is_lower_case=limits.do_lower_case,
        prompts=prompts,
    )


def _shape(path: Path) -> tuple[str, dict[str, Any]]:
    """Reads config.json; returns the `model_type`, and the fields of our config that are in this file."""
    fields = _read(path, dict[str, Any])
    kind = fields.get("model_type", "bert")
    if kind not in AFTER_PADDING:
        raise WrongConfig(f"{path}: model_type is {kind!r}; expected one of {', '.join(AFTER_PADDING)}")
    wrong = {key: fields[key] for key, value in COMPUTED.items() if fields.get(key, value) != value}
    missing = [name for name in FIELDS.values() if name not in fields]
    if wrong or missing:
        raise WrongConfig(f"{path} has {wrong} and lacks {missing}; expected {COMPUTED} and every size")
    shape = {ours: fields[theirs] for ours, theirs in FIELDS.items()}
    if AFTER_PADDING[kind]:
        padding = fields.get("pad_token_id", 1)
        if type(padding) is not int:
            raise WrongConfig(f"{path}: pad_token_id is {padding!r}; expected the index after which positions begin")
        shape["first_position"] = padding + 1
    return kind, shape


def _modules(path: Path) -> tuple[str, bool]:
    """Reads modules.json; returns the folder of the pooling module's config, and whether vectors are normalised."""
    if not path.is_file():
        raise WrongConfig(
            f"{path} is missing, and nothing else says how the tokens of a text become its vector. Copy it and "
            f"1_Pooling/config.json from where the encoder was published; if there are none, {HOW_TO_WRITE}"
        )
    modules = _read(path, list[_Module])
    types = [module.type.rpartition(".")[2] for module in modules]
    if types not in MODULE_TYPES or modules[0].path:
        raise WrongConfig(
            f"{path}: the modules are {', '.join(types)}; expected a Transformer with its files in the same folder, a "
            "Pooling, and optionally a Normalize. Other modules are not supported: choose an encoder without them"
        )
    return modules[1].path, len(types) == 3


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
