"""The shape of a model as one frozen record: two models with the same canonical JSON can exchange weights.

    StrataConfig: sizes, and a LayerSpec for each layer --model.plan--> the tensors, and the blocks that read them
    StaticConfig: the sizes of a table of token vectors (`model.static`)

A `LayerSpec` overrides the encoder's defaults for one layer: the layer whose matrices it uses, its heads and sizes, and
the keys to which its heads attend. The code reads every field; there is no field for a technique that is not
implemented. Every weight manifest contains the JSON. The hash of the JSON and the tokenizer's digest is the
`model_spec`. A replica only loads versions with its own `model_spec`.

The JSON leaves out each field that is marked OMIT_IF_DEFAULT and has its default value, and each size of a layer that
equals the encoder's size. So a field that is added later does not change the hash of an existing model, and all ways to
write the config of a model give the same JSON.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from model.errors import WrongConfig

SpanKind: TypeAlias = Literal["full", "local", "topk"]

NormKind: TypeAlias = Literal["layer", "rms"]

NormPlace: TypeAlias = Literal["post", "pre", "sandwich"]

Activation: TypeAlias = Literal["gelu", "geglu", "geglu_tanh", "swiglu"]

LARGEST = (1 << 24) - 1
"""The largest integer that a field may have."""

OWN = -1
"""In a field that refers to another layer, stands for the layer itself."""


def check_int(name: str, value: object, *, smallest: int = 1) -> None:
    """Raises WrongConfig unless `value` is an integer from `smallest` to LARGEST."""
    if type(value) is not int or not smallest <= value <= LARGEST:
        raise WrongConfig(f"{name} is {value!r}; expected an integer from {smallest} to {LARGEST}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises WrongConfig unless `value` is one of `choices`."""
    if value not in choices:
        raise WrongConfig(f"{name} is {value!r}; expected one of {', '.join(choices)}")


def check_rope_base(value: object) -> None:
    """Raises WrongConfig unless `value` is a base of wavelengths: a float from 1 to 1e12."""
    if type(value) is not float or not 1 <= value < 1e12:
        raise WrongConfig(f"rope_base is {value!r}; expected a number from 1 to 1e12")


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The keys to which the queries of an attention head attend. Sizes are in tokens, but `topk` is in blocks.

    - `full`: every key.
    - `local`: the keys that are at most `window` tokens away, and the first `sinks` keys (attention sinks, arXiv
      2309.17453).
    - `topk`: the keys of `local`, and the `topk` blocks of `block` keys with the highest upper bound of their scores
      (Quest, arXiv 2406.10774).

    In a sequence of fewer than `dense_below` tokens, queries attend to every key.
    """

    kind: SpanKind
    window: int = 0
    sinks: int = 0
    block: int = 64
    topk: int = 0
    dense_below: int = 0

    def __post_init__(self) -> None:
        check_choice("kind of a span", self.kind, get_args(SpanKind))
        for name in ("window", "sinks", "topk", "dense_below"):
            check_int(f"{name} of a span", getattr(self, name), smallest=0)
        check_int("block of a span", self.block)
        if self.kind == "local" and not self.window:
            raise WrongConfig("a local span has window 0; expected at least 1")
        if (self.kind == "topk") != (self.topk > 0):
            raise WrongConfig(f"a {self.kind} span has topk {self.topk}; expected some for topk alone")
        if self.kind == "full" and any((self.window, self.sinks, self.dense_below)):
            raise WrongConfig("a full span has a window, sinks or dense_below; it sees every key")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec:
    """The settings of one layer that differ from the encoder's, which are in `StrataConfig`."""

    attention: int = OWN
    """The lower layer whose attention matrices this layer uses. OWN: its own."""

    ffn: int = OWN
    """The lower layer whose feed-forward matrices this layer uses. OWN: its own."""

    heads: int = 0
    """Attention heads. 0: `n_heads`."""

    kv_heads: int = 0
    """Heads of keys and values (grouped-query attention, arXiv 2305.13245); divides `heads`. 0: `heads`."""

    d_ff: int = 0
    """Width inside the feed-forward part. 0: the encoder's `d_ff`."""

    lora_rank: int = 0
    """Rank of the low-rank addition to each matrix that the layer shares with others (LoRA, arXiv 2106.09685)."""

    spans: tuple[tuple[int, int], ...] = ()
    """Pairs of a number of heads and an index into `StrataConfig.spans`, for all heads in order. (): full attention."""

    rope_base: float = 0.0
    """Base of the wavelengths of `rope`, such as a small one if the heads have local spans. 0: the encoder's."""

    def __post_init__(self) -> None:
        for name in ("attention", "ffn"):
            check_int(f"{name} of a layer", getattr(self, name), smallest=OWN)
        for name in ("heads", "kv_heads", "d_ff", "lora_rank"):
            check_int(f"{name} of a layer", getattr(self, name), smallest=0)
        for span in self.spans:
            if type(span) is not tuple or len(span) != 2:
                raise WrongConfig(f"a span of a layer is {span!r}; expected a number of heads and an index")
            check_int("number of heads of a span", span[0])
            check_int("index of a span", span[1], smallest=0)
        if self.rope_base != 0.0:
            check_rope_base(self.rope_base)


def check_layers(layers: Sequence[LayerSpec], d_model: int, *, num_spans: int) -> None:
    """Checks that the layers fit one another. Raises WrongConfig, which names the layer.

    The records must contain no defaults: `StrataConfig.layer` replaces them by their values.
    """
    for index, layer in enumerate(layers):
        _check_bank(layers, index, "attention", ("heads", "kv_heads"))
        _check_bank(layers, index, "ffn", ("d_ff",))
        if layer.heads % layer.kv_heads:
            raise WrongConfig(
                f"layer {index} has {layer.heads} heads; expected a multiple of kv_heads {layer.kv_heads}"
            )
        _check_spans(index, layer, num_spans)
        users = [(other.attention == layer.attention) + (other.ffn == layer.ffn) for other in layers]
        # Every layer counts itself twice: once for its attention bank, once for its feed-forward bank.
        is_alone = sum(users) == 2
        if layer.lora_rank and (is_alone or layer.lora_rank > d_model):
            raise WrongConfig(
                f"layer {index} has lora_rank {layer.lora_rank}; expected at most d_model = {d_model}, and"
                " a matrix that another layer uses"
            )


def _check_bank(layers: Sequence[LayerSpec], index: int, kind: str, sizes: Sequence[str]) -> None:
    """Checks whose matrices (`kind`: attention or feed-forward) a layer uses. Raises WrongConfig.

    They must be its own, or a lower layer's own matrices of the same sizes. Shared matrices are called a bank.
    """
    bank = getattr(layers[index], kind)
    if bank > index or getattr(layers[bank], kind) != bank:
        raise WrongConfig(f"layer {index} has {kind} {bank}; expected its own, or a layer below that has its own")
    for size in sizes:
        found = getattr(layers[index], size)
        expected = getattr(layers[bank], size)
        if found != expected:
            raise WrongConfig(
                f"layer {index} has {size} {found}; expected {expected}, as in layer {bank}, whose {kind} it uses"
            )


def _check_spans(index: int, layer: LayerSpec, num_spans: int) -> None:
    """Checks that the spans of a layer exist and cover all heads. Raises WrongConfig.

    Heads that share their keys must have the same span.
    """
    group = layer.heads // layer.kv_heads
    if any(span >= num_spans or heads % group for heads, span in layer.spans):
        raise WrongConfig(
            f"layer {index} has spans {layer.spans}; expected indices below {num_spans}, and multiples of {group} heads"
        )
    if layer.spans and sum(heads for heads, _ in layer.spans) != layer.heads:
        raise WrongConfig(f"layer {index} has spans {layer.spans}; expected {layer.heads} heads in all")


__all__ = ["FAMILY", "MINILM_L6", "OWN", "LayerSpec", "Span", "StrataConfig"]

FAMILY = "strata"
"""The name of the built-in family of encoders."""

MAX_PREFIX = 1024
"""The longest prefix, in characters."""

OMIT_IF_DEFAULT = {"later": True}
"""Marks a field that is left out of the JSON if it has its default value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StrataConfig:
    """The shape of a model of the built-in family: a transformer encoder, pooling, and a head.

    The defaults are BERT's (arXiv 1810.04805); `model.architectures` has the shapes of other published encoders.
    """

    schema: int = 1
    """The version of this record. It increases if the meaning of a field changes."""

    family: str = FAMILY

    vocab: int
    """Rows of the token embedding."""

    d_model: int
    """Width of the activations of a token, and of a text's vector."""

    n_layers: int

    n_heads: int
    """Attention heads of a layer; divides `d_model` unless `head_width` is given."""

    d_ff: int
    """Width inside the feed-forward part of a block."""

    max_pos: int = 512
    """Number of positions. A text can use `max_sequence` of them."""

    type_vocab: int = 2
    """Rows of the segment embedding. All texts use row 0."""

    norm_eps: float = 1e-12

    head_features: int = 2048
    """Random features between a text's vector and the classes."""

    label_capacity: int = 256
    """Rows of the head: the number of classes that a version can have. A version with more classes gets more rows."""

    layers: tuple[LayerSpec, ...] = field(default=(), metadata=OMIT_IF_DEFAULT)
    """Overrides for each layer. (): all layers have the encoder's sizes and their own matrices."""

    head_width: int = field(default=0, metadata=OMIT_IF_DEFAULT)
    """Width of an attention head. 0: `d_model` / `n_heads`."""

    embed_dim: int = field(default=0, metadata=OMIT_IF_DEFAULT)
    """Width of the token embedding, which a matrix expands to `d_model` (ALBERT, arXiv 1909.11942). 0: `d_model`."""

    spans: tuple[Span, ...] = field(default=(), metadata=OMIT_IF_DEFAULT)
    """The spans that layers refer to by index."""

    positions: Literal["learned", "rope"] = field(default="learned", metadata=OMIT_IF_DEFAULT)
    """`learned` adds a position embedding. `rope` rotates queries and keys instead (RoFormer, arXiv 2104.09864)."""

    rope_base: float = field(default=10000.0, metadata=OMIT_IF_DEFAULT)
    """Base of the wavelengths of `rope`."""

    norm: NormKind = field(default="layer", metadata=OMIT_IF_DEFAULT)
    """`layer` is LayerNorm (arXiv 1607.06450), and `rms` is RMSNorm (arXiv 1910.07467), which does not centre rows."""

    norm_place: NormPlace = field(default="post", metadata=OMIT_IF_DEFAULT)
    """Where norms stand around a part f of a block, attention or feed-forward (arXiv 2002.04745):

    - `post`: x = norm(x + f(x)).
    - `pre`: x = x + f(norm(x)), and a norm after the last block.
    - `sandwich`: x = x + norm(f(norm(x))), and a norm after the last block (Gemma 2, arXiv 2408.00118).
    """

    norm_embedding: bool = field(default=True, metadata=OMIT_IF_DEFAULT)
    """Whether the embedding is normalised. If it is, and norms are not `post`, the first attention has no norm."""

    norm_heads: bool = field(default=False, metadata=OMIT_IF_DEFAULT)
    """Whether each query and key is normalised by RMSNorm before it is rotated (QK-norm, arXiv 2010.04245)."""

    activation: Activation = field(default="gelu", metadata=OMIT_IF_DEFAULT)
    """The feed-forward part: down(gelu(up(x))), or a gated unit down(f(gate(x)) * up(x)) (arXiv 2002.05202).

    f is GELU (`geglu`), its approximation by tanh (`geglu_tanh`) or SiLU (`swiglu`).
    """

    project: bool = field(default=False, metadata=OMIT_IF_DEFAULT)
    """Whether a matrix [d_model, d_model] follows the last block (the Dense modules of sentence-transformers)."""

    first_position: int = field(default=0, metadata=OMIT_IF_DEFAULT)
    """Row of the position embedding for a text's first token: 2 in RoBERTa and XLM-R."""

    pooling: Literal["mean", "cls"] = field(default="mean", metadata=OMIT_IF_DEFAULT)
    """A text's vector is the mean over its tokens, or the row of its first token (`cls`)."""

    normalize: bool = field(default=True, metadata=OMIT_IF_DEFAULT)
    """Whether vectors are divided by their length."""

    prefix: str = field(default="", metadata=OMIT_IF_DEFAULT)
    """Text that is put before each text, such as `query: `."""

    def __post_init__(self) -> None:
        if (self.schema, self.family) != (1, FAMILY):
            raise WrongConfig(f"schema {self.schema} of family {self.family!r}; this code reads schema 1 of {FAMILY!r}")
        for each in dataclasses.fields(self):
            if each.type is int:
                check_int(each.name, getattr(self, each.name), smallest=0 if each.metadata else 1)
        if type(self.norm_eps) is not float or not 0 < self.norm_eps < 1:
            raise WrongConfig(f"norm_eps is {self.norm_eps!r}; expected a number between 0 and 1")
        check_choice("positions", self.positions, ("learned", "rope"))
        check_choice("pooling", self.pooling, ("mean", "cls"))
        check_choice("norm", self.norm, get_args(NormKind))
        check_choice("norm_place", self.norm_place, get_args(NormPlace))
        check_choice("activation", self.activation, get_args(Activation))
        for name in ("normalize", "norm_embedding", "norm_heads", "project"):
            if type(getattr(self, name)) is not bool:
                raise WrongConfig(f"{name} is {getattr(self, name)!r}; expected true or false")
        if self.norm_place == "post" and not self.norm_embedding:
            raise WrongConfig("norm_embedding is false; expected true with norms after each part (`post`)")
        if type(self.prefix) is not str or len(self.prefix) > MAX_PREFIX:
            raise WrongConfig(f"prefix is {self.prefix!r:.80}; expected a text of at most {MAX_PREFIX} characters")
        if not self.head_width and self.d_model % self.n_heads:
            raise WrongConfig(f"d_model is {self.d_model}; expected a multiple of n_heads = {self.n_heads}")
        self._check_positions()
        self._check_layers()

    @property
    def max_sequence(self) -> int:
        """The longest sequence that the positions allow, in tokens."""
        return self.max_pos - self.first_position

    @property
    def width_of_head(self) -> int:
        """The width of an attention head, as given by `head_width` or derived from `d_model`."""
        return self.head_width or self.d_model // self.n_heads

    def layer(self, index: int) -> LayerSpec:
        """Returns the record of layer `index`, in which every default is replaced by its value."""
        spec = self.layers[index] if self.layers else LayerSpec()
        heads = spec.heads or self.n_heads
        return LayerSpec(
            attention=index if spec.attention == OWN else spec.attention,
            ffn=index if spec.ffn == OWN else spec.ffn,
            heads=heads,
            kv_heads=spec.kv_heads or heads,
            d_ff=spec.d_ff or self.d_ff,
            lora_rank=spec.lora_rank,
            spans=spec.spans,
            rope_base=spec.rope_base or self.rope_base,
        )

    @property
    def is_bert(self) -> bool:
        """Whether the encoder has the parts of BERT. Sizes, spans and shared matrices may differ."""
        parts = (self.positions, self.norm, self.norm_place, self.norm_heads, self.activation, self.project)
        return parts == ("learned", "layer", "post", False, "gelu", False)

    @property
    def shown(self) -> str:
        """The description of the encoder in messages."""
        return f"{self.n_layers} layers of {self.d_model} and another tokenizer or prefix"

    @property
    def frozen_facts(self) -> str:
        """The fields that vectors depend on besides weights and tokens: the pooling, or "" if it is the mean."""
        return "" if self.pooling == "mean" else self.pooling

    @property
    def without_labels(self) -> "StrataConfig":
        """The config with `label_capacity` 1. It is equal for versions that differ at most in the rows of the head."""
        return dataclasses.replace(self.from_json(self.canonical_json()), label_capacity=1)

    def with_span(self, span: Span) -> "StrataConfig":
        """Returns the config in which every head of every layer attends to the keys of `span`."""
        layers = [self.layer(index) for index in range(self.n_layers)]
        layers = [dataclasses.replace(layer, spans=((layer.heads, 0),)) for layer in layers]
        return dataclasses.replace(self, spans=(span,), layers=tuple(layers))

    def canonical_json(self) -> str:
        """Returns the JSON of all fields, sorted, without spaces: models of one shape have the same text."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if not each.metadata}
        values |= self._optional_values()
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "StrataConfig":
        """Reads `canonical_json()` back. Raises WrongConfig, naming unknown and missing fields."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WrongConfig(f"not JSON: {error}") from error
        required = {each.name for each in dataclasses.fields(cls) if not each.metadata}
        known = {each.name for each in dataclasses.fields(cls)}
        if not isinstance(values, dict) or not required <= values.keys() <= known:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise WrongConfig(f"fields are {found}; expected {sorted(required)} and some of {sorted(known - required)}")
        for name, record in (("layers", LayerSpec), ("spans", Span)):
            if name in values:
                values[name] = _records(name, record, values[name])
        return cls(**values)

    def spec_hash(self, inputs_digest: str) -> str:
        """Returns the hex SHA-256 over the config and the tokenizer's digest.

        Two models with the same hash can exchange weights.
        """
        return hashlib.sha256(f"{self.canonical_json()}\n{inputs_digest}".encode()).hexdigest()

    def _optional_values(self) -> dict[str, Any]:
        """Returns the fields marked OMIT_IF_DEFAULT whose values are not their defaults."""
        defaults: dict[str, object] = {each.name: each.default for each in dataclasses.fields(self) if each.metadata}
        values: dict[str, Any] = {name: getattr(self, name) for name in defaults}
        # A size that equals the derived size describes the same model, so it is written as the default.
        values["spans"] = tuple(_differences(span, Span(kind="full")) for span in self.spans)
        layers = tuple(_differences(self.layer(index), self._plain_layer(index)) for index in range(self.n_layers))
        values["layers"] = layers if any(layers) else ()
        values["embed_dim"] = values["embed_dim"] if values["embed_dim"] != self.d_model else 0
        if self.head_width * self.n_heads == self.d_model:
            values["head_width"] = 0
        return {name: value for name, value in values.items() if value != defaults[name]}

    def _plain_layer(self, index: int) -> LayerSpec:
        """Returns the record that layer `index` would have if the config had no overrides for it."""
        heads = self.layer(index).heads
        return LayerSpec(
            attention=index, ffn=index, heads=self.n_heads, kv_heads=heads, d_ff=self.d_ff, rope_base=self.rope_base
        )

    def _check_positions(self) -> None:
        check_rope_base(self.rope_base)
        if self.positions == "rope" and (self.first_position or self.width_of_head % 2):
            raise WrongConfig(
                f"first_position is {self.first_position} and a head {self.width_of_head} wide; expected 0 and an even"
                " width with rope"
            )
        if self.max_sequence < 1:
            raise WrongConfig(f"first_position is {self.first_position}; expected less than max_pos = {self.max_pos}")

    def _check_layers(self) -> None:
        if self.layers and len(self.layers) != self.n_layers:
            raise WrongConfig(f"layers has {len(self.layers)} records; expected none, or n_layers = {self.n_layers}")
        check_layers([self.layer(index) for index in range(self.n_layers)], self.d_model, num_spans=len(self.spans))


def _differences(record: LayerSpec | Span, plain: LayerSpec | Span) -> dict[str, object]:
    """Returns the fields of `record` that differ from `plain`, and the kind of a span in any case."""
    values = dataclasses.asdict(record)
    return {name: value for name, value in values.items() if name == "kind" or value != getattr(plain, name)}


def _records(name: str, record: type[LayerSpec] | type[Span], values: object) -> tuple[LayerSpec | Span, ...]:
    """Reads the field `name`, a list of JSON objects, as records. Raises WrongConfig."""
    known = {each.name for each in dataclasses.fields(record)}
    if not isinstance(values, list) or not all(isinstance(each, dict) and each.keys() <= known for each in values):
        raise WrongConfig(f"{name} is {values!s:.200}; expected a list of records with some of {sorted(known)}")
    return tuple(_record(record, each) for each in values)


def _record(record: type[LayerSpec] | type[Span], values: dict[str, Any]) -> LayerSpec | Span:
    if record is Span and "kind" not in values:
        raise WrongConfig(f"a span is {values}; expected its kind")
    if isinstance(values.get("spans"), list):
        values["spans"] = tuple(tuple(each) if isinstance(each, list) else each for each in values["spans"])
    return record(**values)


def config_values(config: type[Any], text: str) -> dict[str, Any]:
    """Reads a JSON object that has exactly the fields of a dataclass. Raises WrongConfig."""
    known = sorted(each.name for each in dataclasses.fields(config))
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongConfig(f"not JSON: {error}") from error
    if not isinstance(values, dict) or sorted(values) != known:
        raise WrongConfig(f"the config is {text:.200}; expected the fields {known}")
    return values


STATIC_FAMILY = "static"
"""The name of the family of static encoders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticConfig:
    """The shape of a static encoder: a row for each of `vocab` tokens and each of `pairs`, and one for other pairs."""

    family: str = STATIC_FAMILY
    schema: int = 1
    vocab: int = 30_522
    pairs: int = 12_288
    d_model: int = 256
    max_sequence: int = 512
    prefix: str = ""
    """The prompt of the teacher, which the tokenizer puts before each text."""
    head_features: int = 2_048
    label_capacity: int = 256

    def __post_init__(self) -> None:
        if (self.family, self.schema) != (STATIC_FAMILY, 1):
            raise WrongConfig(
                f"schema {self.schema} of family {self.family!r}; this code reads schema 1 of {STATIC_FAMILY!r}"
            )
        least = {"vocab": 1, "pairs": 0, "d_model": 1, "max_sequence": 1, "head_features": 1, "label_capacity": 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if type(value) is not int or value < minimum:
                raise WrongConfig(f"{name} is {value!r}; expected a whole number of at least {minimum}")
        if type(self.prefix) is not str:
            raise WrongConfig(f"prefix is {self.prefix!r}; expected a string")

    @property
    def rows(self) -> int:
        """The rows V of the table. The last row is zero: it belongs to all pairs that are not in the table."""
        return self.vocab + self.pairs + 1

    @property
    def n_layers(self) -> int:
        """The number of blocks that slow rounds could train: there are none."""
        return 0

    @property
    def shown(self) -> str:
        return f"a static encoder of {self.vocab} tokens and {self.pairs} pairs, {self.d_model} wide"

    @property
    def frozen_facts(self) -> str:
        return ""

    @property
    def without_labels(self) -> "StaticConfig":
        return dataclasses.replace(self, label_capacity=1)

    def canonical_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "StaticConfig":
        """Reads `canonical_json` back. Raises WrongConfig."""
        return cls(**config_values(cls, text))

    def spec_hash(self, inputs_digest: str) -> str:
        return hashlib.sha256(f"{self.canonical_json()}\n{inputs_digest}".encode()).hexdigest()


MINILM_L6 = StrataConfig(vocab=30522, d_model=384, n_layers=6, n_heads=12, d_ff=1536)
