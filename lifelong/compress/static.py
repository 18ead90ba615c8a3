"""Makes a static encoder (`model.static`): a table of vectors of tokens and pairs that imitates a transformer.

    each token alone, texts --teacher--> Lesson --PCA, SIF weights--> first table --StaticDistiller.step ...--> table

It begins as in model2vec (`github.com/MinishLab/model2vec`): the row of a token is the teacher's vector of a text of
this token alone, reduced by PCA, times the weight a / (a + p) of a token of frequency p (smooth inverse frequency, SIF:
Arora et al. 2017, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", equation 3). Rows of pairs begin at 0.

Then the table learns from unlabelled texts, as in Tokenlearn (`github.com/MinishLab/tokenlearn`): the sum of a text's
rows approaches the direction of the teacher's vector of the whole text. The loss is 1 - cos, which does not depend on
the length of a sum. So the table also learns how much each token counts. With `keeps_space`, there is no PCA, and the
teacher's head reads the table's vectors (`model.rung`).

A step depends on the seed and its number alone, so a training that was killed goes on from its last checkpoint
(`lifelong.compress.distillation.resume`) with the same bits.

Shape suffixes: N texts, B texts of a step, V tokens, R rows of the table, P pairs, K width of the teacher, D width.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from learner.rounds.adamw import AdamW, ParameterGroup
from model.config import StaticConfig
from model.errors import WrongConfig
from model.packed import Inputs, PackedEncoder
from model.ragged import RaggedBatch
from model.static import StaticTable, WholeStatic
from model.strata import encode_many

SIF = 1e-3
"""The frequency `a` of a token that has half of the weight of a rare token."""

MIN_PAIR = 2
"""A pair that occurs less often in the texts has no row."""

ENCODE_BATCH = 64

RECIPE = 1
"""Grows if the same options train another table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticOptions:
    """Hyperparameters. `width` and `pairs` are the largest: a teacher may be narrower, and texts have fewer pairs."""

    width: int = 256
    pairs: int = 12_288
    steps: int = 1_500
    batch: int = 256
    """The number of texts in a step."""
    rate: float = 1e-3
    """The initial learning rate, which decays linearly to 0."""
    seed: int = 0
    """The seed of the order of the texts."""
    keeps_space: bool = False
    """Whether the vectors lie in the teacher's space, and have its width. Then `width` has no effect."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a table learns from: texts, and the teacher's vectors, which have unit length.

    - `token_ids`: the tokens of each text
    - `z_NK`: the teacher's vectors of the texts
    - `z_VK`: the teacher's vectors of texts of one token, by its id
    - `special`: the tokens that the tokenizer puts around every text, which say nothing about it
    """

    token_ids: Sequence[list[int]]
    z_NK: Tensor
    z_VK: Tensor
    special: tuple[int, ...]


def make_lesson(
    teacher: PackedEncoder, inputs: Inputs, token_ids: list[list[int]], *, say: Callable[[str], None]
) -> Lesson:
    """Encodes the texts, and each token of the vocabulary alone, by the teacher. This takes minutes.

    Raises WrongConfig if there are fewer than two texts.
    """
    if len(token_ids) < 2:
        raise WrongConfig(f"there are {len(token_ids)} texts; expected at least two")
    (special,) = inputs.encode_many([""])
    alone = [[*special[:-1], token, special[-1]] for token in range(inputs.vocab_size)]

    def encoded(ids: list[list[int]], noun: str) -> Tensor:
        num_done = 0

        def encode(batch: RaggedBatch) -> Tensor:
            nonlocal num_done
            num_done += batch.layout.num_sequences
            say(f"teacher: {num_done} of {len(ids)} {noun}")
            return teacher.encode(batch)

        return encode_many(encode, ids, batch_size=ENCODE_BATCH)

    return Lesson(token_ids, encoded(token_ids, "texts"), encoded(alone, "tokens"), tuple(special))


class StaticDistiller:
    """Trains the table of a static encoder, `whole`.

    `tensors` returns its state, and `restore` sets it, as in `lifelong.compress.distillation.Distiller`.
    """

    def __init__(self, lesson: Lesson, options: StaticOptions, *, max_sequence: int, prefix: str) -> None:
        self.num_done = 0
        """The number of steps that were taken."""
        self.num_steps = options.steps
        self._options = options
        self._token_ids = lesson.token_ids
        vocab = len(lesson.z_VK)
        own_KK = torch.eye(lesson.z_NK.shape[1])
        basis_KD = own_KK if options.keeps_space else principal_components(lesson.z_NK, options.width)
        self._target_ND = functional.normalize(lesson.z_NK @ basis_KD, dim=1)
        weight_V = sif_weights(lesson.token_ids, vocab)
        weight_V[list(lesson.special)] = 0.0
        pairs_P2 = frequent_pairs(lesson.token_ids, options.pairs)
        table_RD = torch.zeros(vocab + len(pairs_P2) + 1, basis_KD.shape[1])
        table_RD[:vocab] = weight_V[:, None] * (lesson.z_VK @ basis_KD)
        config = StaticConfig(
            vocab=vocab, pairs=len(pairs_P2), d_model=table_RD.shape[1], max_sequence=max_sequence, prefix=prefix
        )
        self.whole = WholeStatic(config, StaticTable(table_RD, pairs_P2, vocab=vocab))
        self._table = self.whole.embed.table
        self._optimizer = AdamW([ParameterGroup([self._table], rate=options.rate, decay=0.0)], num_steps=options.steps)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    @property
    def is_done(self) -> bool:
        return self.num_done >= self.num_steps

    def step(self) -> float:
        """Takes one step, and returns the mean cosine of its texts before the step."""
        places_B = self._places(self.num_done)
        batch = RaggedBatch.of([self._token_ids[place] for place in places_B.tolist()])
        cosine = functional.cosine_similarity(self.whole.embed(batch), self._target_ND[places_B], dim=1).mean()
        self._optimizer.zero_grad()
        (1 - cosine).backward()  # type: ignore[no-untyped-call]
        assert self._table.grad is not None
        # The row of unknown pairs stays zero.
        self._table.grad[-1] = 0.0
        self._optimizer.step()
        self.num_done += 1
        return float(cosine.detach())

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state of the table and the optimizer, by name."""
        state = {f"optimizer.{name}": value for name, value in self._optimizer.tensors().items()}
        return state | {"table": self._table.detach()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], num_done: int) -> None:
        """Sets the state that `tensors` returned after `num_done` steps. Raises KeyError if a tensor is missing."""
        self._table.copy_(tensors["table"])
        prefix = "optimizer."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        self._optimizer.restore(own, num_done)
        self.num_done = num_done

    def _places(self, step: int) -> Tensor:
        """Returns the indices of the texts of a step. Every epoch has its own random order."""
        num_texts = len(self._token_ids)
        epoch, place = divmod(step, math.ceil(num_texts / self._options.batch))
        if epoch != self._epoch:
            rng = torch.Generator().manual_seed(self._options.seed * 1_000_003 + epoch)
            self._order = torch.randperm(num_texts, generator=rng)
            self._epoch = epoch
        return self._order[place * self._options.batch :][: self._options.batch]


def principal_components(z_NK: Tensor, width: int) -> Tensor:
    """Returns the directions [K, D] in which centred vectors vary most: an orthonormal basis of D = min(K, width)."""
    centred_NK = z_NK.double() - z_NK.double().mean(dim=0)
    _, vectors_KK = torch.linalg.eigh(centred_NK.T @ centred_NK)
    # The eigenvalues ascend.
    basis_KD: Tensor = vectors_KK.flip(1)[:, :width].float().contiguous()
    return basis_KD


def sif_weights(token_ids: Sequence[list[int]], vocab: int) -> Tensor:
    """Returns the weight of each token [V]: near 1 for rare tokens, and near 0 for the most frequent ones."""
    flat_N = torch.tensor([token for ids in token_ids for token in ids])
    counts_V = torch.bincount(flat_N, minlength=vocab) + 1.0
    frequency_V = counts_V / counts_V.sum()
    return SIF / (SIF + frequency_V)


def frequent_pairs(token_ids: Sequence[list[int]], most: int) -> Tensor:
    """Returns the most frequent pairs of neighbouring tokens, at most `most`: int64 [P, 2] in ascending order.

    >>> frequent_pairs([[1, 5, 7, 2], [1, 5, 7, 2], [1, 9, 2]], 2).tolist()
    [[1, 5], [5, 7]]
    """
    counts = Counter(pair for ids in token_ids for pair in pairwise(ids))
    known = sorted((-count, pair) for pair, count in counts.items() if count >= MIN_PAIR)
    chosen = sorted(pair for _, pair in known[:most])
    return torch.tensor(chosen, dtype=torch.long).reshape(-1, 2)


def distillation_key(teacher: str, token_ids: Sequence[list[int]], options: StaticOptions) -> str:
    """Returns the key of a distillation: equal keys have equal results. `teacher` is a digest of the teacher."""
    return sha256(f"{teacher}\n{options}\n{json.dumps(list(token_ids))}\n{RECIPE}".encode()).hexdigest()
