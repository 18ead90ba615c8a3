"""Trains toy encoders to recall: multi-query associative recall (MQAR, Arora et al., arXiv 2312.04927, section 4.1).

    k1 v1 k2 v2 ... noise k2 noise k1 ...    at each repeated key, predict the value that followed its first occurrence

The pairs stand at the start of a text of a thousand tokens. The keys are repeated anywhere after the pairs, between
noise tokens from a vocabulary of their own. So local attention alone cannot answer, and a router must find the few
blocks with the pairs. Training begins with few pairs on short texts, which all spans see as a whole.

Recall needs two hops: first a key attends to the value after it, then the repeated key attends to the first one.
Encoders of this size guess among the values of the text for thousands of steps until they have learnt both hops. Four
measures speed this up, for every kind of attention:

- In training, each key of a pair also has to predict its value, which trains the first hop.
- Queries and keys have equal initial weights, so that a token attends to equal tokens.
- The biases of queries and keys are random, so that heads prefer certain distances.
- The output layer starts from the embeddings of the values.

Recall is measured at the repeated keys only.

Shape suffixes: B texts, S tokens of a text, T tokens of all texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import LayerSpec, Span, StrataConfig
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Block, Strata

NUM_KEYS = 64
NUM_VALUES = 64
NUM_NOISE = 64
NOT_ASKED = -100
"""The target of a token that is not a query. Cross-entropy ignores it."""

DENSE_BELOW = 512
NEAR = Span(kind="local", window=64, sinks=4, dense_below=DENSE_BELOW)
ROUTED = Span(kind="topk", window=64, sinks=4, block=32, topk=4, dense_below=DENSE_BELOW)

FULL = StrataConfig(
    vocab=NUM_KEYS + NUM_VALUES + NUM_NOISE,
    d_model=128,
    n_layers=4,
    n_heads=4,
    d_ff=256,
    max_pos=16_384,
    positions="rope",
)
SPARSE = replace(
    FULL, spans=(NEAR, ROUTED), layers=tuple(LayerSpec(spans=((4, index % 2),)) for index in range(FULL.n_layers))
)
"""Layers alternate between a window, and a window with routed blocks."""
LOCAL = FULL.with_span(NEAR)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A stage of the training: a number of steps on texts of one length."""

    length: int
    num_pairs: int
    num_queries: int
    batch: int
    steps: int


class RecallNet(nn.Module):
    """An encoder with a linear layer that predicts a value at every token."""

    def __init__(self, config: StrataConfig) -> None:
        super().__init__()
        self.encoder = Strata(config)
        self.values = nn.Linear(config.d_model, NUM_VALUES)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        self._init_weights()

    @torch.no_grad()
    def _init_weights(self) -> None:
        width = self.encoder.config.d_model
        self.values.weight.copy_(self.encoder.embed.word.weight[NUM_KEYS : NUM_KEYS + NUM_VALUES])
        for block in self.encoder.layers:
            assert isinstance(block, Block)
            block.qkv.weight[width : 2 * width] = block.qkv.weight[:width]
            nn.init.normal_(block.qkv.bias[: 2 * width])

    def forward(self, ids_BS: Tensor) -> Tensor:
        """Returns the logits of the values at every token, [T, NUM_VALUES]."""
        num_texts, length = ids_BS.shape
        batch = RaggedBatch(ids_BS.flatten(), RaggedLayout.of([length] * num_texts))
        logits: Tensor = self.values(self.encoder.encode_prefix(batch, self.encoder.config.n_layers))
        return logits

    def with_spans(self, config: StrataConfig) -> "RecallNet":
        """Returns a copy with the same weights and the attention spans of `config`."""
        net = RecallNet(config)
        net.load_state_dict(self.state_dict())
        return net


def draw(lesson: Lesson, rng: np.random.Generator, *, asks_pairs: bool = False) -> tuple[Tensor, Tensor]:
    """Returns ids_BS and targets_BS, the value that each query asks for.

    With `asks_pairs` the keys of the pairs are queries, too.
    """
    pairs = 2 * lesson.num_pairs
    ids_BS = rng.integers(NUM_KEYS + NUM_VALUES, FULL.vocab, (lesson.batch, lesson.length))
    targets_BS = np.full_like(ids_BS, NOT_ASKED)
    for ids_S, targets_S in zip(ids_BS, targets_BS, strict=True):
        keys = rng.permutation(NUM_KEYS)[: lesson.num_pairs]
        values = rng.integers(0, NUM_VALUES, lesson.num_pairs)
        ids_S[:pairs:2] = keys
        ids_S[1:pairs:2] = NUM_KEYS + values
        places = pairs + rng.permutation(lesson.length - pairs)[: lesson.num_queries]
        asked = rng.integers(0, lesson.num_pairs, len(places))
        ids_S[places] = keys[asked]
        targets_S[places] = values[asked]
        if asks_pairs:
            targets_S[:pairs:2] = values
    return torch.from_numpy(ids_BS), torch.from_numpy(targets_BS)


def train(net: RecallNet, lessons: Sequence[Lesson], *, rate: float, seed: int) -> list[float]:
    """Trains `net` in place, one lesson after the other; returns the loss of every step."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0, foreach=False)
    num_steps = sum(lesson.steps for lesson in lessons)
    warm_up = max(num_steps // 20, 1)
    losses: list[float] = []
    for lesson in lessons:
        for _ in range(lesson.steps):
            done = len(losses)
            for group in optimizer.param_groups:
                group["lr"] = rate * min((done + 1) / warm_up, 1 - 0.9 * done / num_steps)
            ids_BS, targets_BS = draw(lesson, rng, asks_pairs=True)
            loss = functional.cross_entropy(net(ids_BS), targets_BS.flatten(), ignore_index=NOT_ASKED)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def recall(net: RecallNet, lesson: Lesson, *, seed: int) -> float:
    """Returns the percentage of queries whose value is predicted correctly, on new texts."""
    rng = np.random.default_rng([seed, 1])
    num_right = 0
    num_asked = 0
    for _ in range(lesson.steps):
        ids_BS, targets_BS = draw(lesson, rng)
        targets_T = targets_BS.flatten()
        is_asked_T = targets_T != NOT_ASKED
        num_right += int((net(ids_BS).argmax(dim=1) == targets_T)[is_asked_T].sum())
        num_asked += int(is_asked_T.sum())
    return 100 * num_right / num_asked
