"""Pretrains an encoder on texts without labels: one stack, one language-model head, and a mixture of objectives.

    texts --a micro-batch, an objective drawn for it--> Strata --LM head, pooling--> loss --> AdamW
    masked      tokens are masked; the output one place before a masked token predicts it (MNTP)
    causal      every output predicts the next token; a token attends only to the tokens before it
    contrast    two crops of a text, under two dropout masks, must find each other among all crops of the batch
    replaced    masked tokens are replaced by the head's own predictions; every output says whether its token was

Because a masked token is predicted from the place before it, `masked` and `causal` share the head and the stack
(GPT-BERT: Charpentier and Samuel, arXiv 2410.24159, section 2). `contrast` is InfoNCE on the pooled vectors with
dropout (SimCSE: Gao et al., arXiv 2104.08821, equation 1) and crops (DeCLUTR: Giorgi et al., arXiv 2006.03659).
`replaced` is ELECTRA (Clark et al., arXiv 2003.10555), with the stack itself as the generator. The head is tied to the
token embedding, after a transform as in BERT.

A step depends on the seed and its number alone, so a training that was killed goes on from its last checkpoint
(`lifelong.compress.distillation.resume`) with the same bits. A step of every objective has at most the same number of
tokens: `contrast` takes half as many texts, because it encodes each of them twice.

Shape suffixes: T tokens of all texts, M chosen tokens, B texts, D width, E width of the token embedding, V size of the
vocabulary.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final, NamedTuple, cast

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFKC, Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from torch.nn import functional

from kernels.attention import attention
from learner.encoder.base import lower_digests
from learner.rounds.adamw import AdamW, ParameterGroup
from lifelong.compress.contrastive import FIRST_SCALE, MAX_GRADIENT_NORM, half_precision, info_nce
from lifelong.compress.cost import flops
from model.config import StrataConfig
from model.errors import WrongConfig
from model.linears import full_precision, linear_at
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata

MASKED: Final = "masked"
CAUSAL: Final = "causal"
CONTRAST: Final = "contrast"
REPLACED: Final = "replaced"

TEMPERATURE: Final = 0.05
"""Divides the cosines of two crops."""

SHORTEST_CROP: Final = 0.5
"""The smallest share of a text's tokens in a crop. At a half, two crops of a text always overlap or touch."""

SHAPE: Final = StrataConfig(vocab=8192, d_model=256, n_layers=4, n_heads=8, d_ff=1024, max_pos=128, embed_dim=128)
"""The shape of an encoder that starts from nothing: 4.3 million parameters."""

SPECIAL: Final = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
"""The special tokens of a new vocabulary, with the ids 0 to 3."""

MASKS: Final = ("[MASK]", "<mask>")
"""The names of the mask token: BERT's and RoBERTa's."""

INITIAL_SCALE: Final = 0.02
"""The standard deviation of new embeddings, as in BERT."""

RECIPE: Final = 1
"""Grows if the same options train another encoder."""


class Mix(NamedTuple):
    """The weights of the objectives. A weight is proportional to the objective's share of the steps."""

    masked: int = 6
    causal: int = 1
    contrast: int = 6
    replaced: int = 3


OBJECTIVES: Final = Mix._fields

ALL_OBJECTIVES: Final = Mix()
"""All objectives, with the default weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixOptions:
    """Hyperparameters. `rate` is the initial learning rate, which decays linearly to 0."""

    tokens: int
    """The number of tokens that pass the stack in training, counted each time."""
    mix: Mix = ALL_OBJECTIVES
    batch_tokens: int = 2048
    """The most tokens in a step."""
    max_tokens: int = 64
    """Longer texts are cut: a step sees a random window of this many tokens."""
    mask_share: float = 0.3
    """The share of tokens that are masked or replaced."""
    dropout: float = 0.1
    rate: float = 1e-3
    decay: float = 0.01
    first_layer: int = 0
    """The layers below, and the embedding if there are any, are not trained."""
    is_half: bool = True
    """Whether matrix products are computed in bfloat16."""
    seed: int = 0


class CurvePoint(NamedTuple):
    """The score of the encoder after some training, and what the training had cost until then."""

    tokens: float
    flops: float
    minutes: float
    score: float


class LanguageHead(nn.Module):
    """Predicts tokens from outputs x_MD, by the token embedding of the encoder, and whether a token was replaced."""

    def __init__(self, config: StrataConfig) -> None:
        super().__init__()
        width = config.embed_dim or config.d_model
        self.transform = nn.Linear(config.d_model, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(config.vocab))
        self.is_replaced = nn.Linear(config.d_model, 1)

    def forward(self, x_MD: Tensor, words_VE: Tensor) -> Tensor:
        """Returns the logits of all tokens, float32 [M, V]."""
        h_ME = self.norm(functional.gelu(self.transform(x_MD)))
        logits_MV: Tensor = (h_ME.to(torch.bfloat16) @ words_VE.to(torch.bfloat16).T).float() + self.bias
        return logits_MV


class MixedPretraining:
    """The training of one encoder. It owns the encoder while it trains.

    `tensors` returns its state, and `restore` sets it, as in `lifelong.compress.distillation.Distiller`. `probe`, if
    given, scores the encoder: before the first step, after each of `num_probes` equal parts of the training, and so at
    its end. The scores are the `curve`. Raises WrongConfig if nothing would be trained.
    """

    def __init__(
        self,
        strata: Strata,
        token_ids: Sequence[list[int]],
        mask_id: int,
        options: MixOptions,
        *,
        probe: Callable[[Strata], float] | None = None,
        num_probes: int = 10,
    ) -> None:
        # A text of two tokens has none between the opening and the closing one.
        self._token_ids = [ids for ids in token_ids if len(ids) > 2]
        self._weights = torch.tensor(options.mix, dtype=torch.float32)
        if not self._token_ids or not self._weights.sum() or options.first_layer > strata.config.n_layers:
            raise WrongConfig(
                f"{len(self._token_ids)} texts with tokens, weights {tuple(options.mix)}, first layer"
                f" {options.first_layer} of {strata.config.n_layers}; expected texts, an objective, and a layer"
            )
        self.strata = strata
        self.num_done = 0
        """The number of steps that were taken."""
        self.tokens = 0
        self.flops = 0.0
        self.curve: list[CurvePoint] = []
        self._options = options
        self._mask_id = mask_id
        self._probe = probe
        self._probe_every = max(1, self.num_steps // num_probes)
        self._elapsed_s = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.head = LanguageHead(strata.config)
        strata.requires_grad_(options.first_layer == 0)
        strata.layers[options.first_layer :].requires_grad_(True)
        self._parameters = {
            name: value
            for name, value in nn.ModuleDict({"strata": strata, "head": self.head}).named_parameters()
            if value.requires_grad
        }
        # BERT's dropout: on the embedding, and on what a block adds to its input.
        self._dropped = {id(linear_at(block, name)) for block in strata.layers for name in ("out", "down")}
        group = ParameterGroup(list(self._parameters.values()), rate=options.rate, decay=options.decay)
        self._optimizer = AdamW([group], num_steps=self.num_steps)

    @property
    def num_steps(self) -> int:
        return math.ceil(self._options.tokens / self._options.batch_tokens)

    @property
    def is_done(self) -> bool:
        return self.num_done >= self.num_steps

    def step(self) -> tuple[str, float]:
        """Takes one step; returns its objective and its loss. If the gradient is not finite, no weight changes."""
        if not self.curve:
            self._score()
        began_s = time.monotonic()
        rng = torch.Generator().manual_seed(self._options.seed * 1_000_003 + self.num_done)
        objective = OBJECTIVES[int(torch.multinomial(self._weights, 1, generator=rng))]
        losses = {MASKED: self._masked, CAUSAL: self._causal, CONTRAST: self._contrast, REPLACED: self._replaced}
        loss = losses[objective](rng)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for each in self._parameters.values():
            # An objective does not reach all parts of the head.
            each.grad = torch.zeros_like(each) if each.grad is None else each.grad
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), MAX_GRADIENT_NORM)
        if torch.isfinite(norm):
            self._optimizer.step()
        self.num_done += 1
        self._elapsed_s += time.monotonic() - began_s
        if self.is_done or self.num_done % self._probe_every == 0:
            self._score()
        return objective, float(loss.detach())

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state of the encoder, the head, the optimizer and the curve, by name."""
        state = {f"module.{name}": value.detach() for name, value in self._parameters.items()}
        state |= {f"optimizer.{name}": value for name, value in self._optimizer.tensors().items()}
        spent = torch.tensor([self.tokens, self.flops, self._elapsed_s], dtype=torch.float64)
        return state | {"spent": spent, "curve": torch.tensor(self.curve, dtype=torch.float64).view(-1, 4)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], num_done: int) -> None:
        """Sets the state that `tensors` returned after `num_done` steps. Raises KeyError if a tensor is missing."""
        for name, value in self._parameters.items():
            value.copy_(tensors[f"module.{name}"])
        prefix = "optimizer."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        self._optimizer.restore(own, num_done)
        tokens, self.flops, self._elapsed_s = tensors["spent"].tolist()
        self.tokens = int(tokens)
        self.curve = [CurvePoint(*row) for row in tensors["curve"].tolist()]
        self.num_done = num_done

    @torch.no_grad()
    def _score(self) -> None:
        if self._probe is not None:
            score = self._probe(self.strata)
            self.curve.append(CurvePoint(self.tokens, self.flops, self._elapsed_s / 60, score))

    def _masked(self, rng: torch.Generator) -> Tensor:
        batch = RaggedBatch.of(self._drawn(rng, self._options.batch_tokens))
        chosen_M = self._chosen(batch, rng)
        x_TD = self._outputs(self._with(batch, chosen_M, self._mask_id), rng)
        return functional.cross_entropy(self._logits(x_TD[chosen_M - 1]), batch.ids_T[chosen_M])

    def _causal(self, rng: torch.Generator) -> Tensor:
        batch = RaggedBatch.of(self._drawn(rng, self._options.batch_tokens))
        is_first_T = batch.positions_T == 0
        next_M = (~is_first_T).nonzero()[:, 0]
        x_TD = self._outputs(batch, rng, is_causal=True)
        return functional.cross_entropy(self._logits(x_TD[next_M - 1]), batch.ids_T[next_M])

    def _contrast(self, rng: torch.Generator) -> Tensor:
        texts = self._drawn(rng, self._options.batch_tokens // 2)
        views = [cropped(ids, rng) for _ in range(2) for ids in texts]
        batch = RaggedBatch.of(views)
        x_TD = self._outputs(batch, rng)
        z_BD = batch.layout.restore(batch.layout.pooled(x_TD, self.strata.config.pooling))
        return info_nce(z_BD[: len(texts)], z_BD[len(texts) :], temperature=TEMPERATURE)

    def _replaced(self, rng: torch.Generator) -> Tensor:
        batch = RaggedBatch.of(self._drawn(rng, self._options.batch_tokens))
        chosen_M = self._chosen(batch, rng)
        with torch.no_grad():
            x_TD = self._outputs(self._with(batch, chosen_M, self._mask_id), rng, is_generator=True)
            p_MV = self._logits(x_TD[chosen_M - 1], is_generator=True).softmax(dim=1)
            sampled_M = torch.multinomial(p_MV, 1, generator=rng)[:, 0]
        corrupted = self._with(batch, chosen_M, sampled_M)
        is_inner_T = _is_inner(batch.layout)
        is_replaced_M = (corrupted.ids_T != batch.ids_T)[is_inner_T].float()
        scores_M = self.head.is_replaced(self._outputs(corrupted, rng)[is_inner_T])[:, 0]
        return functional.binary_cross_entropy_with_logits(scores_M, is_replaced_M)

    def _drawn(self, rng: torch.Generator, budget: int) -> list[list[int]]:
        """Returns different random texts with at most `budget` tokens together, and at least two texts if possible."""
        texts: dict[int, list[int]] = {}
        num_tokens = 0
        # More draws than any batch can take; in a small collection, a draw repeats a text often.
        for row in torch.randint(len(self._token_ids), (budget,), generator=rng).tolist():
            if row in texts:
                continue
            ids = _window(self._token_ids[row], min(self._options.max_tokens, budget // 2), rng)
            if num_tokens + len(ids) > budget:
                break
            texts[row] = ids
            num_tokens += len(ids)
        return list(texts.values())

    def _chosen(self, batch: RaggedBatch, rng: torch.Generator) -> Tensor:
        """Returns the places of the tokens that are masked, int64 [M]: at least one, none of them at a text's ends."""
        inner_I = _is_inner(batch.layout).nonzero()[:, 0]
        num_chosen = max(1, round(self._options.mask_share * len(inner_I)))
        return inner_I[torch.randperm(len(inner_I), generator=rng)[:num_chosen]].sort().values

    def _with(self, batch: RaggedBatch, places_M: Tensor, ids: Tensor | int) -> RaggedBatch:
        ids_T = batch.ids_T.clone()
        ids_T[places_M] = ids
        return RaggedBatch(ids_T, batch.layout)

    def _count(self, forward_flops: int, *, has_backward: bool) -> None:
        """Adds the operations of a forward pass, and of its backward pass through the trained layers.

        A backward pass computes twice as much (Kaplan et al., arXiv 2001.08361, section 2.1).
        """
        trained = 1 - self._options.first_layer / self.strata.config.n_layers
        self.flops += forward_flops * (1 + 2 * trained if has_backward else 1)

    def _outputs(
        self, batch: RaggedBatch, rng: torch.Generator, *, is_causal: bool = False, is_generator: bool = False
    ) -> Tensor:
        """Returns x_TD of a training forward, and counts its cost.

        A generator's forward has no gradient and no dropout, and its tokens are not counted again.
        """
        groups = batch.layout.groups
        forward_flops = sum(group.count * flops(self.strata.config, group.length).total for group in groups)
        self._count(forward_flops, has_backward=not is_generator)
        self.tokens += 0 if is_generator else batch.layout.num_tokens
        dropout = 0.0 if is_generator else self._options.dropout
        product = half_precision if self._options.is_half else full_precision

        def drop(x_TD: Tensor) -> Tensor:
            if not dropout:
                return x_TD
            return x_TD * torch.empty_like(x_TD).bernoulli_(1 - dropout, generator=rng) / (1 - dropout)

        def linear(x_MK: Tensor, layer: nn.Linear) -> Tensor:
            y_MN = product(x_MK, layer)
            return drop(y_MN) if id(layer) in self._dropped else y_MN

        attend = partial(attention, is_causal=True) if is_causal else attention
        x_TD: Tensor = drop(self.strata.embed(batch))
        for block in self.strata.layers:
            x_TD = block(x_TD, batch.layout, linear, attend)
        return x_TD

    def _logits(self, x_MD: Tensor, *, is_generator: bool = False) -> Tensor:
        config = self.strata.config
        width = config.embed_dim or config.d_model
        self._count(2 * len(x_MD) * width * (config.d_model + config.vocab), has_backward=not is_generator)
        logits_MV: Tensor = self.head(x_MD, self.strata.embed.word.weight)
        return logits_MV


def _is_inner(layout: RaggedLayout) -> Tensor:
    """Returns which tokens are neither the first nor the last of their text, bool [T]."""
    offsets = torch.tensor(layout.offsets)
    is_inner_T = torch.ones(layout.num_tokens, dtype=torch.bool)
    is_inner_T[offsets[:-1]] = False
    is_inner_T[offsets[1:] - 1] = False
    return is_inner_T


def _window(ids: list[int], length: int, rng: torch.Generator) -> list[int]:
    """Returns at most `length` tokens: the opening and the closing one, and a random run of those between them."""
    length = max(length, 3)
    if len(ids) <= length:
        return ids
    start = int(torch.randint(1, len(ids) - length + 2, (1,), generator=rng))
    return [ids[0], *ids[start : start + length - 2], ids[-1]]


def cropped(ids: list[int], rng: torch.Generator) -> list[int]:
    """Returns a random crop of a text, with its opening and closing token: at least SHORTEST_CROP of the others."""
    share = SHORTEST_CROP + (1 - SHORTEST_CROP) * float(torch.rand(1, generator=rng))
    return _window(ids, 2 + math.ceil(share * (len(ids) - 2)), rng)


@torch.no_grad()
def token_outputs(strata: Strata, batch: RaggedBatch, *, is_causal: bool) -> Tensor:
    """Returns x_TD of the last block, in the layout's order. A causally trained encoder is read causally."""
    attend = partial(attention, is_causal=True) if is_causal else attention
    x_TD = strata.embed(batch)
    for block in strata.layers:
        x_TD = block(x_TD, batch.layout, full_precision, attend)
    return cast("Tensor", x_TD)


def new_encoder(config: StrataConfig = SHAPE, *, seed: int = 0) -> Strata:
    """Returns an encoder with random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        strata = Strata(config)
        for table in (strata.embed.word, strata.embed.position, strata.embed.segment):
            if table is not None:
                nn.init.normal_(table.weight, std=INITIAL_SCALE)
        if strata.embed.expand is not None:
            nn.init.normal_(strata.embed.expand.weight, std=strata.embed.expand.in_features**-0.5)
        for block in strata.layers:
            # Blocks change little at first, so a post-norm stack needs no warm-up of the rate.
            for name in ("out", "down"):
                linear_at(block, name).weight.data.mul_(FIRST_SCALE)
    return strata.eval()


def new_tokenizer(texts: Sequence[str], *, size: int = SHAPE.vocab) -> bytes:
    """Trains a vocabulary of at most `size` tokens; returns its tokenizer.json.

    It is byte-pair encoding (Sennrich et al., arXiv 1508.07909) over bytes, so that no character is unknown.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = Normalizers([NFKC(), Lowercase()])
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    tokenizer.decoder = ByteLevelDecoder()
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return str(tokenizer.to_str()).encode()


def find_mask_id(tokenizer_json: bytes) -> int:
    """Returns the id of the mask token. Raises WrongConfig if the tokenizer has none."""
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    found = [token for name in MASKS if (token := tokenizer.token_to_id(name)) is not None]
    if not found:
        raise WrongConfig(f"the tokenizer has no mask token; expected {' or '.join(MASKS)} in its vocabulary")
    return int(found[0])


def key_of_pretraining(strata: Strata, token_ids: Sequence[list[int]], options: MixOptions) -> str:
    """Returns the key of a training: equal keys have equal results."""
    start = f"{strata.config.canonical_json()}\n{lower_digests(strata)[-1]}"
    return sha256(f"{start}\n{options}\n{json.dumps(list(token_ids))}\n{RECIPE}".encode()).hexdigest()
