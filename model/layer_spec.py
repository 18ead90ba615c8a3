"""What may be special about one layer: whose matrices it uses, its heads and sizes, and which keys its heads see.

Both records are parts of a `StrataConfig`, which checks what concerns more than one layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from model.errors import WrongConfig

SpanKind: TypeAlias = Literal["full", "local", "topk"]

LARGEST = (1 << 24) - 1
"""The largest integer that a field may have."""

OWN = -1
"""Stands for the layer itself, where the index of another may be given."""


def check_int(name: str, value: object, *, smallest: int = 1) -> None:
    """Raises WrongConfig unless `value` is an integer from `smallest` to LARGEST."""
    if type(value) is not int or not smallest <= value <= LARGEST:
        raise WrongConfig(f"{name} is {value!r}; expected an integer from {smallest} to {LARGEST}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises WrongConfig unless `value` is one of `choices`."""
    if value not in choices:
        raise WrongConfig(f"{name} is {value!r}; expected one of {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The keys that the queries of a head see. Sizes are in tokens, except for `topk`, which counts blocks.

    `full` sees every key. `local` sees the keys that are at most `window` tokens away, and the first `sinks` keys.
    `topk` sees these too, and the `topk` blocks of `block` keys with the highest bound of their scores (Quest, arXiv
    2406.10774). In a sequence of fewer than `dense_below` tokens every key is seen.
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
    """What is special about one layer. The defaults are those of the encoder: see `StrataConfig`."""

    attention: int = OWN
    """The layer below whose attention matrices it uses. OWN: its own."""

    ffn: int = OWN
    """The layer below whose feed-forward matrices it uses. OWN: its own."""

    heads: int = 0
    """Attention heads. 0: `n_heads`."""

    kv_heads: int = 0
    """Heads of keys and values, each for as many heads of queries; divides `heads`. 0: `heads`."""

    d_ff: int = 0
    """Width inside the feed-forward part. 0: the encoder's `d_ff`."""

    lora_rank: int = 0
    """Rank of what the layer adds to each matrix that it shares with other layers (LoRA, arXiv 2106.09685)."""

    spans: tuple[tuple[int, int], ...] = ()
    """A number of heads and an index into `StrataConfig.spans`, for all heads in order. (): every key is seen."""

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


def check_layers(layers: Sequence[LayerSpec], d_model: int, *, num_spans: int) -> None:
    """Raises WrongConfig, naming the layer, unless the records fit one another. Nothing in them is a default."""
    for index, layer in enumerate(layers):
        _check_bank(layers, index, "attention", ("heads", "kv_heads"))
        _check_bank(layers, index, "ffn", ("d_ff",))
        if layer.heads % layer.kv_heads:
            raise WrongConfig(
                f"layer {index} has {layer.heads} heads; expected a multiple of kv_heads {layer.kv_heads}"
            )
        _check_spans(index, layer, num_spans)
        users = [(other.attention == layer.attention) + (other.ffn == layer.ffn) for other in layers]
        is_alone = sum(users) == 2  # its own two banks
        if layer.lora_rank and (is_alone or layer.lora_rank > d_model):
            raise WrongConfig(
                f"layer {index} has lora_rank {layer.lora_rank}; expected at most d_model = {d_model}, and"
                " a matrix that another layer uses"
            )


def _check_bank(layers: Sequence[LayerSpec], index: int, kind: str, sizes: Sequence[str]) -> None:
    """Raises WrongConfig unless the bank is the layer's own, or a layer's below that has its own of the same sizes."""
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
    """Raises WrongConfig unless the spans are there and cover all heads, by whole groups of queries of one key."""
    group = layer.heads // layer.kv_heads
    if any(span >= num_spans or heads % group for heads, span in layer.spans):
        raise WrongConfig(
            f"layer {index} has spans {layer.spans}; expected indices below {num_spans}, and multiples of {group} heads"
        )
    if layer.spans and sum(heads for heads, _ in layer.spans) != layer.heads:
        raise WrongConfig(f"layer {index} has spans {layer.spans}; expected {layer.heads} heads in all")
