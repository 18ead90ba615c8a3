"""`Strata`, the built-in encoder in full precision. It is trained, and it is the baseline for the quantized encoder.

    ids_T --embed--> x_TD --block 0..L-1--> x_TD --pooling, unit length--> z_BD
    Strata --state_of--> {name: tensor} --a change--> {name: tensor} --rebuilt--> Strata

A block of BERT (Devlin et al., arXiv 1810.04805) is post-norm: x = norm1(x + out(attention(qkv(x)))), then x = norm2(x
+ down(gelu(up(x)))). `StrataConfig` says how the blocks of other encoders differ: in the place and kind of their norms,
in gated units, and in rotated queries and keys. The pooling is Sentence-BERT's (arXiv 1908.10084): the mean over a
text's tokens, or its first token. The head depends only on the direction of a vector, so vectors have unit length; the
method `vectors` returns them as the encoder's publisher defines them.

Module paths are the weight names of a manifest, with one exception: `embed.segment` is `embed.type` in a manifest,
because a module has a method `type`. In a state dict, the names of `model.plan` are followed by the parameter's kind:
`layers.3.qkv.weight`, `layers.3.qkv.lora_a.weight`. A matrix that several layers share occurs once, under the name of
the lowest of them.

`forward_from(k, x_TD, layout)` starts at block k, from activations that another encoder may have computed: the learner
trains the top blocks on the activations of the quantized lower blocks.

Shape suffixes: T tokens of all texts, B texts, D width, F width of the feed-forward part, W width of qkv, X heads *
head_width.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from kernels import attention as kernels_attention
from kernels.attention import rotary
from model.config import Activation, LayerSpec, StrataConfig
from model.errors import WrongShape
from model.grid import is_grid_part
from model.linears import (
    Linear,
    ScaledLinear,
    TiedLinear,
    TiedScaledLinear,
    add_lora,
    full_precision,
    linear_at,
    product,
)
from model.packed import BlockRunner, WholeEncoder
from model.plan import BlockPlan, MatrixPlan, build_plan, layer_index
from model.ragged import RaggedBatch, RaggedLayout, runs

Attention: TypeAlias = Callable[..., Tensor]
"""Computes out_TX like `kernels.attention`: from qkv_TW, the groups of a layout, `num_heads`, and further options."""


Norm: TypeAlias = Callable[[Tensor], Tensor]
"""Normalises the last dimension of a tensor."""


def attend(
    qkv_TW: Tensor,
    layout: RaggedLayout,
    plan: BlockPlan,
    attention: Attention = kernels_attention.attention,
    *,
    head_norms: tuple[Norm, Norm] | None = None,
) -> Tensor:
    """Returns out_TX of qkv_TW, X = heads * head_width: prepares queries and keys (`prepare_heads`), then attends."""
    qkv_TW = prepare_heads(qkv_TW, layout, plan, head_norms)
    spans = plan.masked_spans
    return attention(qkv_TW, layout.groups, num_heads=plan.heads, num_kv_heads=plan.kv_heads, spans=spans)


def prepare_heads(
    qkv_TW: Tensor, layout: RaggedLayout, plan: BlockPlan, head_norms: tuple[Norm, Norm] | None
) -> Tensor:
    """Returns qkv_TW with normalised and rotated queries and keys, if the block does either."""
    if head_norms is not None:
        qkv_TW = _with_norms(qkv_TW, plan, head_norms)
    if plan.rope_base is not None:
        qkv_TW = rotary.rotate(
            qkv_TW,
            layout.positions_T,
            num_rotated=plan.heads + plan.kv_heads,
            head_width=plan.head_width,
            base=plan.rope_base,
        )
    return qkv_TW


def _with_norms(qkv_TW: Tensor, plan: BlockPlan, head_norms: tuple[Norm, Norm]) -> Tensor:
    """Returns the rows in which the norms for queries and for keys have normalised each query and each key."""
    counts = (plan.heads, plan.kv_heads, plan.kv_heads)
    q_TX, k_TX, v_TX = torch.split(qkv_TW, [count * plan.head_width for count in counts], dim=1)
    normalised = [
        norm(part_TX.reshape(len(part_TX), -1, plan.head_width)).flatten(1)
        for norm, part_TX in zip(head_norms, (q_TX, k_TX), strict=True)
    ]
    return torch.cat((*normalised, v_TX), dim=1)


def activate(up_TU: Tensor, activation: Activation) -> Tensor:
    """Returns inner_TF of the result of `up`: its GELU, or f(gate) * value of its two halves, gate and value."""
    if activation == "gelu":
        return functional.gelu(up_TU)
    gate_TF, value_TF = up_TU.chunk(2, dim=1)
    match activation:
        case "geglu":
            return functional.gelu(gate_TF) * value_TF
        case "geglu_tanh":
            return functional.gelu(gate_TF, approximate="tanh") * value_TF
    return functional.silu(gate_TF) * value_TF


class RMSNorm(nn.LayerNorm):
    """RMSNorm with a bias, which is 0 in published encoders: x / sqrt(mean(x^2) + eps) * weight + bias."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.rms_norm(input, self.weight.shape, self.weight, self.eps) + self.bias


def _norm(config: StrataConfig, width: int) -> nn.LayerNorm:
    """Returns a norm of the encoder, with new parameters."""
    norm_class = RMSNorm if config.norm == "rms" else nn.LayerNorm
    return norm_class(width, config.norm_eps)


MAX_BATCH_TOKENS = 16_384
"""The most tokens that `encode_many` encodes at a time. At D = 384, the float32 rows inside a block take 100 MB."""


class Embedding(nn.Module):
    """The embedding layer: adds token, position and segment embeddings, and normalises the sum.

    If queries and keys are rotated, there is no position embedding. Narrow token embeddings are expanded first.
    """

    def __init__(self, config: StrataConfig) -> None:
        super().__init__()
        width = config.d_model
        embedding = build_plan(config).embedding
        self.word = nn.Embedding(config.vocab, config.embed_dim or width)
        self.expand = nn.Linear(config.embed_dim, width, bias=False) if embedding.expand else None
        self.position = nn.Embedding(config.max_pos, width) if embedding.position else None
        self.segment = nn.Embedding(config.type_vocab, width)
        self.norm = _norm(config, width) if embedding.norm else nn.Identity()
        self.first_position = config.first_position

    def forward(self, batch: RaggedBatch) -> Tensor:
        x_TD = self.word(batch.ids_T)
        if self.expand is not None:
            x_TD = self.expand(x_TD)
        if self.position is not None:
            x_TD = x_TD + self.position(batch.positions_T + self.first_position)
        # All texts are segment 0.
        return cast("Tensor", self.norm(x_TD + self.segment.weight[0]))


class Block(nn.Module):
    """A transformer layer, built from its plan. `lower` are the lower blocks, which own the matrices that it shares."""

    def __init__(self, config: StrataConfig, plan: BlockPlan, lower: Sequence[nn.Module]) -> None:
        super().__init__()
        self.plan = plan
        self.qkv = _matrix(plan.qkv, lower)
        self.out = _matrix(plan.out, lower)
        self.norm1 = _norm(config, config.d_model) if plan.norm1 else nn.Identity()
        self.up = _matrix(plan.up, lower)
        self.down = _matrix(plan.down, lower)
        self.norm2 = _norm(config, config.d_model)
        self.out_norm = _norm(config, config.d_model) if plan.out_norm else nn.Identity()
        self.down_norm = _norm(config, config.d_model) if plan.down_norm else nn.Identity()
        self.q_norm = RMSNorm(plan.head_width, config.norm_eps) if plan.q_norm else None
        self.k_norm = RMSNorm(plan.head_width, config.norm_eps) if plan.k_norm else None
        self.final_norm = _norm(config, config.d_model) if plan.final_norm else nn.Identity()
        self.project = _matrix(plan.project, lower) if plan.project else None

    def forward(
        self,
        x_TD: Tensor,
        layout: RaggedLayout,
        linear: Linear,
        attention: Attention = kernels_attention.attention,
    ) -> Tensor:
        if self.plan.is_post_norm:
            x_TD = self.norm1(x_TD + self._attention(x_TD, layout, linear, attention))
            x_TD = self.norm2(x_TD + self._feed_forward(x_TD, linear))
        else:
            x_TD = x_TD + self.out_norm(self._attention(x_TD, layout, linear, attention))
            x_TD = x_TD + self.down_norm(self._feed_forward(self.norm2(x_TD), linear))
        x_TD = self.final_norm(x_TD)
        return x_TD if self.project is None else product(x_TD, self.project, linear)

    @property
    def head_norms(self) -> tuple[Norm, Norm] | None:
        """The norms of queries and keys; None if the block has none."""
        return None if self.q_norm is None or self.k_norm is None else (self.q_norm, self.k_norm)

    def queries_keys_values(self, x_TD: Tensor, linear: Linear) -> Tensor:
        """Returns qkv_TW of the block's input, before queries and keys are normalised and rotated."""
        return product(x_TD if self.plan.is_post_norm else self.norm1(x_TD), self.qkv, linear)

    def _attention(self, x_TD: Tensor, layout: RaggedLayout, linear: Linear, attention: Attention) -> Tensor:
        qkv_TW = self.queries_keys_values(x_TD, linear)
        mixed_TX = attend(qkv_TW, layout, self.plan, attention, head_norms=self.head_norms)
        return product(mixed_TX, self.out, linear)

    def _feed_forward(self, x_TD: Tensor, linear: Linear) -> Tensor:
        inner_TF = activate(product(x_TD, self.up, linear), self.plan.activation)
        return product(inner_TF, self.down, linear)


def _matrix(plan: MatrixPlan, lower: Sequence[nn.Module]) -> nn.Linear:
    layer: nn.Linear
    if plan.is_first:
        own_class = ScaledLinear if plan.in_scale else nn.Linear
        layer = own_class(plan.columns, plan.rows)
    else:
        bank = linear_at(lower[layer_index(plan.name)], plan.name.split(".")[2])
        tied_class = TiedScaledLinear if plan.in_scale else TiedLinear
        layer = tied_class(bank)
    if plan.lora_rank:
        add_lora(layer, plan.lora_rank)
    return layer


class Strata(WholeEncoder):
    """The built-in encoder. Vectors are in the caller's order, and activations x_TD in the layout's order."""

    config: StrataConfig
    embed: Embedding

    def __init__(self, config: StrataConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        blocks: list[nn.Module] = []
        for plan in build_plan(config).blocks:
            blocks.append(Block(config, plan, blocks))
        self.layers = nn.ModuleList(blocks)

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Returns z_BD of unit length for the texts of `batch`. Raises BadTokens."""
        return self.forward_from(0, self.encode_prefix(batch, 0), batch.layout)

    def vectors(self, batch: RaggedBatch) -> Tensor:
        """Encodes texts as the publisher defines it: z_BD may not have unit length (`normalize`). Raises BadTokens."""
        if self.config.normalize:
            return self.forward(batch)
        z_BD = batch.layout.pooled(self.encode_prefix(batch, self.config.n_layers), self.config.pooling)
        return batch.layout.restore(z_BD)

    def encode_prefix(self, batch: RaggedBatch, layer: int) -> Tensor:
        """Returns x_TD at the input of block `layer`: the embeddings for 0, the output of the last block for n_layers.

        Raises BadTokens, or WrongShape for a layer outside [0, n_layers].
        """
        batch.check(self.config.vocab, self.config.max_sequence)
        x_TD = self.embed(batch)
        for block in self._blocks(0, layer):
            x_TD = block(x_TD, batch.layout, full_precision)
        return cast("Tensor", x_TD)

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        """Returns z_BD of unit length from x_TD, the activations at the input of block `layer`. Raises WrongShape."""
        if x_TD.shape != (layout.num_tokens, self.config.d_model):
            expected = (layout.num_tokens, self.config.d_model)
            raise WrongShape(f"x_TD is {tuple(x_TD.shape)}; expected {expected}")
        blocks = self._blocks(layer, self.config.n_layers)
        return encode_through(blocks, x_TD, layout, linear, pooling=self.config.pooling)

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        """Makes the blocks from `first_layer` on trainable; returns their parameters."""
        return list(self.layers[first_layer:].requires_grad_().parameters())

    @property
    def run_blocks(self) -> BlockRunner:
        return partial(encode_through, pooling=self.config.pooling)

    def _blocks(self, first: int, end: int) -> list[nn.Module]:
        if first < 0 or end < first or end > self.config.n_layers:
            raise WrongShape(f"blocks {first} to {end}; expected 0 <= first <= end <= {self.config.n_layers}")
        return list(self.layers)[first:end]


def encode_through(
    blocks: Iterable[nn.Module], x_TD: Tensor, layout: RaggedLayout, linear: Linear, *, pooling: str
) -> Tensor:
    """Runs the top blocks of an encoder: returns z_BD of unit length from x_TD, the input of the first of `blocks`."""
    for block in blocks:
        x_TD = block(x_TD, layout, linear)
    return layout.restore(functional.normalize(layout.pooled(x_TD, pooling), dim=1))


def encode_many(encoder: Callable[[RaggedBatch], Tensor], token_ids: list[list[int]], *, batch_size: int) -> Tensor:
    """Encodes any number of texts; returns z_BD. A batch has at most `batch_size` texts and MAX_BATCH_TOKENS tokens."""
    vectors: list[Tensor] = []
    for start in range(0, len(token_ids), batch_size):
        batch = token_ids[start : start + batch_size]
        offsets = [0, *accumulate(map(len, batch))]
        vectors += [encoder(RaggedBatch.of(batch[first:end])) for first, end in runs(offsets, MAX_BATCH_TOKENS)]
    return torch.cat(vectors)


State: TypeAlias = dict[str, Tensor]

RowsChange: TypeAlias = Callable[[int, Tensor], Tensor]
"""Takes the index of a layer and one of its tensors, and returns the tensor with other rows or columns."""


def state_of(strata: Strata) -> State:
    """Returns copies of all parameters and buffers by name, except for grids, which a change of values invalidates."""
    values = strata.state_dict().items()
    return {name: value.detach().clone() for name, value in values if not is_grid_part(name)}


class _WithoutValues(TorchFunctionMode):
    """Skips the functions that draw the initial values of parameters.

    Drawing the values of MiniLM takes 0.3 s. On the device "meta" these functions have no effect, but torch takes 0.7 s
    to import modules that nothing else needs.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def without_storage(config: StrataConfig) -> Strata:
    """Returns an encoder whose tensors have shapes and no values, for `load_state_dict(state, assign=True)`."""
    with torch.device("meta"), _WithoutValues():
        return Strata(config)


def rebuilt(config: StrataConfig, state: Mapping[str, Tensor]) -> Strata:
    """Makes an encoder of its tensors, in evaluation mode. Raises RuntimeError, which names tensors that do not fit."""
    strata = without_storage(config)
    strata.load_state_dict({name: value.contiguous() for name, value in state.items()}, assign=True)
    return strata.requires_grad_(True).eval()


def with_layers(config: StrataConfig, specs: Sequence[LayerSpec]) -> StrataConfig:
    """Returns the config with `specs` as the records of its layers."""
    return replace(config, layers=tuple(specs))


def map_heads(strata: Strata, specs: Sequence[LayerSpec], *, rows: RowsChange, columns: RowsChange) -> Strata:
    """Returns an encoder whose attention heads are changed, for example reordered or removed.

    `rows` changes the rows of every `qkv`, and `columns` the columns of every `out`. `specs` describe the layers of the
    result. The functions must do the same in all layers that share a matrix.
    """
    state = state_of(strata)
    change_heads(state, strata.config, rows=rows, columns=columns)
    return rebuilt(with_layers(strata.config, specs), state)


def change_heads(state: State, config: StrataConfig, *, rows: RowsChange, columns: RowsChange) -> None:
    """Changes the heads in the tensors of an encoder of `config`, like `map_heads`. Gradients pass through."""
    for block in build_plan(config).blocks:
        for kind in ("weight", "bias", "lora_b.weight"):
            _change(state, f"{block.qkv.path}.{kind}", block.index, rows)
        for kind in ("weight", "lora_a.weight"):
            _change(state, f"{block.out.path}.{kind}", block.index, columns)


def _change(state: State, name: str, layer: int, change: RowsChange) -> None:
    # A shared matrix only exists in its lowest layer, and not every matrix has a low-rank pair.
    if name in state:
        state[name] = change(layer, state[name])
