"""The published architectures that the built-in family reads: their fields in config.json, and the names of weights.

    model_type --ARCHITECTURES--> Architecture --fields, computed, more--> the shape of a StrataConfig
                                               --embedding, block, last--> our parameter: its tensors in the file

`transformers` defines the files. `model.published` reads config.json, and `model.bert` the weights. Parts that another
architecture computes differently are converted when the weights are read (`adjust`), so no forward pass knows them.

| model_type | norms | feed-forward part | positions |
|---|---|---|---|
| bert, roberta, xlm-roberta, camembert | post-norm, LayerNorm | GELU | learned |
| modernbert (arXiv 2412.13663) | pre-norm, LayerNorm | GEGLU | RoPE; local and global layers have their own bases |
| gemma3_text (arXiv 2503.19786; EmbeddingGemma, 2509.20354) | sandwich, RMSNorm; QK-norm | GEGLU by tanh | as above |
| eurobert (arXiv 2503.05500) | pre-norm, RMSNorm | SwiGLU | RoPE |
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from torch import Tensor

from model.config import LayerSpec, Span
from model.errors import WrongConfig

Fields: TypeAlias = Mapping[str, Any]
"""The contents of config.json."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """An architecture.

    - `fields`: the name in config.json of each size in our config.
    - `computed`: the only supported values of other fields in config.json. A field may be absent.
    - `more`: returns the other fields of our config. Raises WrongConfig.
    - `embedding`: our part of the embedding -> its name in the file.
    - `layers`: what the names of a layer begin with, before the layer's index.
    - `block`: our part of a block -> its names in the file, after the layer's index. Several tensors are concatenated.
    - `last`: our part of the last block -> its name in the file, which is outside of the layers.
    - `has_biases`: whether matrices and norms have biases. Otherwise, ours are 0.
    - `adjust`: converts the parameters of our encoder, in place, if the architecture computes with them differently.
    """

    fields: Mapping[str, str]
    computed: Fields
    more: Callable[[Fields], dict[str, Any]]
    embedding: Mapping[str, str]
    layers: str
    block: Mapping[str, tuple[str, ...]]
    last: Mapping[str, str]
    has_biases: bool
    adjust: Callable[[dict[str, Tensor], Fields], None]

    @property
    def word(self) -> str:
        """A name that every file has, after a prefix such as `bert.` or `model.`, which all names have in common."""
        return f"{self.embedding['word']}.weight"

    def shape(self, fields: Fields) -> dict[str, Any]:
        """Returns the fields of our config that config.json decides. Raises WrongConfig, which names what is wrong."""
        wrong = {key: fields[key] for key, value in self.computed.items() if fields.get(key, value) != value}
        missing = [name for name in self.fields.values() if name not in fields]
        if wrong or missing:
            raise WrongConfig(f"has {wrong} and lacks {missing}; expected {dict(self.computed)} and every size")
        return {ours: fields[theirs] for ours, theirs in self.fields.items()} | self.more(fields)

    def names(self, parameter: str, *, last_layer: int) -> list[str]:
        """Returns the names of the tensors that are concatenated to a parameter of ours; [] if the file has none.

        `last_layer` is the index of the last layer.
        """
        path, kind = parameter.rsplit(".", 1)
        names: tuple[str, ...]
        if path.startswith("embed."):
            part = path.removeprefix("embed.")
            names = (self.embedding[part],) if part in self.embedding else ()
        else:
            _, index, part = path.split(".")
            if part in self.block:
                names = tuple(f"{self.layers}{index}.{name}" for name in self.block[part])
            else:
                names = (self.last[part],) if int(index) == last_layer else ()
        # A Dense module says itself whether it has a bias.
        if kind == "bias" and not self.has_biases and names != (PROJECT,):
            return []
        return [f"{name}.{kind}" for name in names]


PROJECT: Final = "project"
"""The name of the matrix after the last block, which is no part of the architecture: the product of Dense modules."""

SIZES: Final = {
    "vocab": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_pos": "max_position_embeddings",
}

FIELDS: Final = SIZES | {"type_vocab": "type_vocab_size", "norm_eps": "layer_norm_eps"}

AFTER_PADDING: Final = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}
"""The BERT-shaped values of `model_type`, and whether positions begin after the index of the padding token."""


def _unchanged(state: dict[str, Tensor], fields: Fields) -> None:
    """The architecture computes with its parameters as we do."""


def _bert(fields: Fields) -> dict[str, Any]:
    if not AFTER_PADDING[fields.get("model_type", "bert")]:
        return {}
    padding = fields.get("pad_token_id", 1)
    if type(padding) is not int:
        raise WrongConfig(f"pad_token_id is {padding!r}; expected the index after which positions begin")
    return {"first_position": padding + 1}


BERT: Final = Architecture(
    fields=FIELDS,
    computed={"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False},
    more=_bert,
    embedding={
        "word": "embeddings.word_embeddings",
        "position": "embeddings.position_embeddings",
        "segment": "embeddings.token_type_embeddings",
        "norm": "embeddings.LayerNorm",
    },
    layers="encoder.layer.",
    block={
        "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "out": ("attention.output.dense",),
        "norm1": ("attention.output.LayerNorm",),
        "up": ("intermediate.dense",),
        "down": ("output.dense",),
        "norm2": ("output.LayerNorm",),
    },
    last={PROJECT: PROJECT},
    has_biases=True,
    adjust=_unchanged,
)

GLOBAL: Final = "full_attention"
LOCAL: Final = "sliding_attention"


def _rope_base(fields: Fields, layer_type: str, old_name: str, default: float) -> float:
    """Returns the base of a kind of layer. Older releases of transformers write it into the field `old_name`.

    Raises WrongConfig if angles are scaled for longer texts.
    """
    found = fields.get("rope_parameters") or {}
    parameters = found.get(layer_type, found) or {}
    kind = parameters.get("rope_type", "default")
    if fields.get("rope_scaling") or kind != "default":
        raise WrongConfig(f"scales rotary positions ({fields.get('rope_scaling') or kind}), which is not supported")
    base: float | None = parameters.get("rope_theta")
    return float(fields.get(old_name, default) if base is None else base)


def _alternating(fields: Fields, window: int, bases: Mapping[str, float], is_global: Callable[[int], bool]) -> Fields:
    """Returns the fields of our config for layers that alternate between local and global attention.

    `is_global` says which layers are global if config.json has no `layer_types`. `window` is the distance in tokens up
    to which local attention sees keys. Raises WrongConfig for an unknown type of layer.
    """
    num_layers = fields["num_hidden_layers"]
    types = fields.get("layer_types") or [GLOBAL if is_global(index) else LOCAL for index in range(num_layers)]
    if not set(types) <= bases.keys():
        raise WrongConfig(f"has layer_types {sorted(set(types))}; expected {' and '.join(bases)}")
    heads = fields["num_attention_heads"]
    kv_heads = fields.get("num_key_value_heads") or heads
    whole = LayerSpec(kv_heads=kv_heads, rope_base=bases[GLOBAL])
    near = LayerSpec(kv_heads=kv_heads, rope_base=bases[LOCAL], spans=((heads, 0),))
    return {
        "positions": "rope",
        "rope_base": bases[GLOBAL],
        "spans": (Span(kind="local", window=window),),
        "layers": tuple(whole if kind == GLOBAL else near for kind in types),
    }


def _modernbert(fields: Fields) -> dict[str, Any]:
    bases = {
        GLOBAL: _rope_base(fields, GLOBAL, "global_rope_theta", 160_000.0),
        LOCAL: _rope_base(fields, LOCAL, "local_rope_theta", 10_000.0),
    }
    every = fields.get("global_attn_every_n_layers", 3)
    window = fields.get("local_attention", 128) // 2
    return {
        **_alternating(fields, window, bases, lambda index: index % every == 0),
        "type_vocab": 1,
        "norm_place": "pre",
        "activation": "geglu",
    }


MODERNBERT: Final = Architecture(
    fields=SIZES | {"norm_eps": "norm_eps"},
    computed={"hidden_activation": "gelu", "norm_bias": False, "attention_bias": False, "mlp_bias": False},
    more=_modernbert,
    embedding={"word": "embeddings.tok_embeddings", "norm": "embeddings.norm"},
    layers="layers.",
    block={
        "qkv": ("attn.Wqkv",),
        "out": ("attn.Wo",),
        "norm1": ("attn_norm",),
        "up": ("mlp.Wi",),
        "down": ("mlp.Wo",),
        "norm2": ("mlp_norm",),
    },
    last={"final_norm": "final_norm", PROJECT: PROJECT},
    has_biases=False,
    adjust=_unchanged,
)

LLAMA_BLOCK: Final = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "norm1": ("input_layernorm",),
    "up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
    "norm2": ("post_attention_layernorm",),
}
"""The names of a block in encoders that were derived from a decoder's code."""


def _gemma(fields: Fields) -> dict[str, Any]:
    if not fields.get("use_bidirectional_attention"):
        raise WrongConfig("has no use_bidirectional_attention: it is a decoder, whose tokens do not see later ones")
    bases = {
        GLOBAL: _rope_base(fields, GLOBAL, "rope_theta", 1_000_000.0),
        LOCAL: _rope_base(fields, LOCAL, "rope_local_base_freq", 10_000.0),
    }
    every = fields.get("sliding_window_pattern") or fields.get("_sliding_window_pattern") or 6
    # Each side sees half of the window: transformers adds one to the half, and excludes that distance.
    window = fields.get("sliding_window", 4096) // 2
    return {
        **_alternating(fields, window, bases, lambda index: (index + 1) % every == 0),
        "head_width": fields.get("head_dim", 256),
        "type_vocab": 1,
        "norm": "rms",
        "norm_place": "sandwich",
        "norm_embedding": False,
        "norm_heads": True,
        "activation": "geglu_tanh",
    }


def _adjust_gemma(state: dict[str, Tensor], fields: Fields) -> None:
    """Adds 1 to the gains of norms, which the file stores without it, and multiplies the constant scales in.

    Embeddings are scaled by sqrt(width), and scores by query_pre_attn_scalar instead of the width of a head.
    """
    for name, value in state.items():
        if "norm" in name.split(".")[-2] and name.endswith(".weight"):
            value.add_(1.0)
    head_width = fields.get("head_dim", 256)
    query_scale = math.sqrt(head_width / fields.get("query_pre_attn_scalar", 256))
    for name, value in state.items():
        if name.endswith(".q_norm.weight"):
            value.mul_(query_scale)
    state["embed.word.weight"].mul_(math.sqrt(fields["hidden_size"]))


GEMMA: Final = Architecture(
    fields=SIZES | {"norm_eps": "rms_norm_eps"},
    computed={
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attn_logit_softcapping": None,
    },
    more=_gemma,
    embedding={"word": "embed_tokens"},
    layers="layers.",
    block=LLAMA_BLOCK
    | {
        "norm2": ("pre_feedforward_layernorm",),
        "out_norm": ("post_attention_layernorm",),
        "down_norm": ("post_feedforward_layernorm",),
        "q_norm": ("self_attn.q_norm",),
        "k_norm": ("self_attn.k_norm",),
    },
    last={"final_norm": "norm", PROJECT: PROJECT},
    has_biases=False,
    adjust=_adjust_gemma,
)


def _eurobert(fields: Fields) -> dict[str, Any]:
    heads = fields["num_attention_heads"]
    layer = LayerSpec(kv_heads=fields.get("num_key_value_heads") or heads)
    return {
        "positions": "rope",
        "rope_base": _rope_base(fields, GLOBAL, "rope_theta", 10_000.0),
        "layers": (layer,) * fields["num_hidden_layers"],
        "head_width": fields.get("head_dim") or 0,
        "type_vocab": 1,
        "norm": "rms",
        "norm_place": "pre",
        "norm_embedding": False,
        "activation": "swiglu",
    }


EUROBERT: Final = Architecture(
    fields=SIZES | {"norm_eps": "rms_norm_eps"},
    computed={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    more=_eurobert,
    embedding={"word": "embed_tokens"},
    layers="layers.",
    block=LLAMA_BLOCK,
    last={"final_norm": "norm", PROJECT: PROJECT},
    has_biases=False,
    adjust=_unchanged,
)

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    **dict.fromkeys(AFTER_PADDING, BERT),
    "modernbert": MODERNBERT,
    "gemma3_text": GEMMA,
    "eurobert": EUROBERT,
}
"""The architecture of each supported `model_type`."""
