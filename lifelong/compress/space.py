"""The space of a search: which layers share matrices, and how narrow, sparse and coarse an encoder is.

    Genes --Space.config--> StrataConfig        Space.draw, Space.child, Space.uniform --> Genes that fit the limit

Tie maps are contiguous: a group of neighbouring layers shares a bank, so L layers have 2^(L - 1) maps for attention and
as many for the feed-forward parts. Genes are canonical: a gene without an effect has its first choice, so equal
encoders have equal genes.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_values
from itertools import accumulate
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from kernels.sparse_i8.reference import GROUP_OUT
from lifelong.compress.cost import num_bytes, parameters
from lifelong.compress.reshape import SINKS, WINDOW
from model.config import LayerSpec, Span, StrataConfig
from model.errors import WrongConfig
from model.plan import build_plan
from model.qtensor import W4G64
from model.sparse import INPUTS_PER_BYTE

LOCAL: Final = Span(kind="local", window=WINDOW, sinks=SINKS)
"""The span of a layer whose heads see near keys only."""

EMBED_SHARES: Final = (2, 3, 4, 6, 8)
"""The widths of the token embedding, as divisors of d_model. The first is the widest."""

RANKS: Final = (16, 8, 4, 0)

KEPT: Final = (1.0, 0.5)
"""The shares of the heads of a layer that are kept."""

BITS: Final = (8, 4)

SPARSITIES: Final = (0.0, 0.5, 0.75)
"""The shares of the blocks of the feed-forward matrices that are zero."""

MAX_DRAWS: Final = 1_000
"""Draws until a search gives up: the limit leaves less than one of so many encoders."""


class Genes(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder of the space. The tuples have an entry for each layer."""

    attention: tuple[int, ...]
    """The layer whose attention matrices the layer uses: the first of its group."""
    ffn: tuple[int, ...]
    """The layer whose feed-forward matrices the layer uses."""
    kept: tuple[float, ...]
    """The share of the heads that are kept, equal for layers that share attention matrices."""
    local: tuple[bool, ...]
    """Whether the heads see only near keys (LOCAL)."""
    kv_heads: int
    """Key-value heads of a layer that keeps all heads."""
    embed_dim: int
    rank: int
    """Rank of the low-rank addition of a tied layer."""
    bits: int
    """8: stored in INT8 with INT4 inside. 4: stored and computed in INT4."""
    sparsity: float

    @property
    def key(self) -> str:
        """The genes as JSON, by which results are stored."""
        return msgspec.json.encode(self).decode()

    @property
    def is_int4(self) -> bool:
        return self.bits == BITS[1]

    def shown(self) -> str:
        """Returns the genes as text for people."""
        letters = [
            "".join(chr(ord("a") + sorted({*ties}).index(layer)) for layer in ties)
            for ties in (self.attention, self.ffn)
        ]
        parts = [f"attention {letters[0]}, ffn {letters[1]}, kv {self.kv_heads}, E {self.embed_dim}, r {self.rank}"]
        if min(self.kept) < 1:
            parts.append("heads " + "".join("1" if share == 1 else "h" for share in self.kept))
        if any(self.local):
            parts.append("local " + "".join("1" if each else "0" for each in self.local))
        if self.sparsity:
            parts.append(f"{self.sparsity:.0%} sparse")
        return ", ".join([*parts, f"{self.bits} bit"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """All encoders that are made of an encoder `dense` and store at most the share `stored` of its parameters.

    `num_tokens` is the length of the texts in service: spans are a gene only if it exceeds the window of LOCAL. Raises
    WrongConfig if layers of `dense` share matrices, or have different sizes or spans already.
    """

    dense: StrataConfig
    stored: float = 1.0
    num_tokens: int = 16

    def __post_init__(self) -> None:
        plain = with_values(self.dense, layers=(), spans=())
        narrow = build_plan(self.dense).embedding.expand is not None
        if narrow or plain.canonical_json() != self.dense.canonical_json():
            raise WrongConfig("a search starts from an encoder whose layers are alike, share nothing and see all keys")

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """The even divisors of the number of heads: half of the heads are then whole groups."""
        heads = self.dense.n_heads
        return tuple(each for each in range(heads, 0, -1) if heads % each == 0 and each % 2 == 0) or (heads,)

    @property
    def embed_dims(self) -> tuple[int, ...]:
        return tuple(self.dense.d_model // each for each in EMBED_SHARES)

    @property
    def kept(self) -> tuple[float, ...]:
        return KEPT if self.dense.n_heads % 2 == 0 else KEPT[:1]

    @property
    def sparsities(self) -> tuple[float, ...]:
        sizes = (self.dense.d_model, self.dense.d_ff)
        return SPARSITIES if all(size % GROUP_OUT == size % INPUTS_PER_BYTE == 0 for size in sizes) else (0.0,)

    @property
    def largest(self) -> Genes:
        """The encoder that shares nothing, and has the widest embedding and all heads."""
        own = tuple(range(self.dense.n_layers))
        return self._genes(own, own, lambda choices: choices[0])

    @property
    def smallest(self) -> Genes:
        """The encoder with the fewest parameters. It may be larger than the limit, which nothing meets then."""
        tied = (0,) * self.dense.n_layers
        small = self._genes(tied, tied, lambda choices: choices[-1])
        return replace(small, bits=BITS[0], sparsity=self.sparsities[-1])

    def draw(self, rng: random.Random) -> Genes:
        """Draws genes at random. Raises WrongConfig if none fits the limit."""
        return self._fitting(lambda: self._any(rng))

    def uniform(self, rng: random.Random) -> Genes:
        """Draws genes by which all layers are alike: groups of equal size, the same for attention and feed-forward."""

        def drawn() -> Genes:
            layers = self.dense.n_layers
            size = rng.choice([each for each in range(1, layers + 1) if layers % each == 0])
            ties = tuple(layer - layer % size for layer in range(layers))
            other = self._any(rng)
            kept, local = (each[:1] * layers for each in (other.kept, other.local))
            return self.canonical(replace(other, attention=ties, ffn=ties, kept=kept, local=local))

        return self._fitting(drawn)

    def child(self, one: Genes, other: Genes, rng: random.Random) -> Genes:
        """Crosses two parents gene by gene, and changes one gene of the child on average."""

        def crossed() -> Genes:
            fresh = self._any(rng)
            names = Genes.__struct_fields__
            values = {name: getattr(rng.choice((one, other)), name) for name in names}
            for name in names:
                if rng.random() >= 1 / len(names):
                    continue
                # A tie map changes at one place: a group is split, or two neighbours are joined.
                is_map = name in ("attention", "ffn")
                values[name] = self._toggled(values[name], rng) if is_map else getattr(fresh, name)
            return self.canonical(Genes(**values))

        return self._fitting(crossed)

    def canonical(self, genes: Genes) -> Genes:
        """Returns the genes of the same encoder in which genes without an effect have their first choice."""
        own = tuple(range(self.dense.n_layers))
        return replace(
            genes,
            kept=tuple(genes.kept[layer] for layer in genes.attention),
            local=genes.local if self.num_tokens > WINDOW else (False,) * len(own),
            rank=genes.rank if (genes.attention, genes.ffn) != (own, own) else RANKS[0],
            # Sparse matrices are INT8 in every precision.
            sparsity=genes.sparsity if not genes.is_int4 else SPARSITIES[0],
        )

    def config(self, genes: Genes) -> StrataConfig:
        """Returns the shape of the encoder."""
        dense = self.dense
        layers: list[LayerSpec] = []
        for attention, ffn, kept, local in zip(genes.attention, genes.ffn, genes.kept, genes.local, strict=True):
            heads = round(dense.n_heads * kept)
            is_tied = genes.attention.count(attention) > 1 or genes.ffn.count(ffn) > 1
            layers.append(
                LayerSpec(
                    attention=attention,
                    ffn=ffn,
                    heads=heads,
                    kv_heads=round(genes.kv_heads * kept),
                    lora_rank=min(genes.rank, dense.d_model) if is_tied else 0,
                    spans=((heads, 0),) if local else (),
                )
            )
        spans = (LOCAL,) if any(genes.local) else ()
        return with_values(dense, embed_dim=genes.embed_dim, layers=tuple(layers), spans=spans)

    def parameters(self, genes: Genes) -> int:
        """Counts the stored parameters. Blocks that are zero are not stored."""
        counted = parameters(self.config(genes))
        return counted.total - round(genes.sparsity * counted.feed_forward)

    def megabytes(self, genes: Genes) -> float:
        """Counts the megabytes of the stored weights, in the scheme of the genes."""
        config = self.config(genes)
        total = num_bytes(config, W4G64 if genes.is_int4 else None)
        return (total - round(genes.sparsity * parameters(config).feed_forward)) / 1e6

    def share(self, genes: Genes) -> float:
        """Returns the stored parameters as a share of the dense encoder's."""
        return self.parameters(genes) / parameters(self.dense).total

    def _any(self, rng: random.Random) -> Genes:
        return self._genes(self._ties(rng), self._ties(rng), rng.choice)

    def _genes(self, attention: tuple[int, ...], ffn: tuple[int, ...], choose: Callable[[Sequence[Any]], Any]) -> Genes:
        """Returns the genes with these tie maps. `choose` chooses each other gene among its choices."""
        layers = range(self.dense.n_layers)
        genes = Genes(
            attention=attention,
            ffn=ffn,
            kept=tuple(choose(self.kept) for _ in layers),
            local=tuple(choose((False, True)) for _ in layers),
            kv_heads=choose(self.kv_heads),
            embed_dim=choose(self.embed_dims),
            rank=choose(RANKS),
            bits=choose(BITS),
            sparsity=choose(self.sparsities),
        )
        return self.canonical(genes)

    def _ties(self, rng: random.Random) -> tuple[int, ...]:
        starts = [layer if rng.random() < 0.5 else 0 for layer in range(self.dense.n_layers)]
        return tuple(accumulate(starts, max))

    def _toggled(self, ties: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
        starts = {*ties} ^ {rng.randrange(1, max(len(ties), 2))}
        return tuple(accumulate((layer if layer in starts else 0 for layer in range(len(ties))), max))

    def _fitting(self, draw: Callable[[], Genes]) -> Genes:
        for _ in range(MAX_DRAWS):
            genes = draw()
            if self.share(genes) <= self.stored:
                return genes
        raise WrongConfig(
            f"none of {MAX_DRAWS} encoders stores at most {self.stored:.0%} of the parameters; the smallest stores"
            f" {self.share(self.smallest):.1%}"
        )


def groups(ties: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yields the layers of each group of a tie map.

    >>> list(groups((0, 0, 2)))
    [(0, 1), (2,)]
    """
    for first in dict.fromkeys(ties):
        yield tuple(layer for layer, bank in enumerate(ties) if bank == first)
