"""Prepares the gradient steps of a round: makes pseudo-labels, and turns samples into inputs of the trained blocks.

    texts without a label --z, softmax over the class means--> pseudo-labels
    StepPlan --token dropout--> tokens --quantized lower blocks--> x_TD, rows of the classes --trainer--> loss

The trainer is our own (`learner.rounds.trainer`), or a strategy of Avalanche (`learner.rounds.avalanche`). A random
generator, which the number of the round seeds, draws the dropped tokens and the excerpts of long texts. So the steps
are a function of the plan, the initial class means and the encoder.

**Pseudo-labels** let a round train the encoder on texts without a label, too (self-training; Lee 2013). The class means
are refined by expectation-maximization (EM). In each refined mean, the labelled samples weigh as much as the texts of
an average class. So the mean of a class without texts stays at its labels, and the mean of a class with many texts
cannot drift. Some means attract too many texts (hubness). So the class priors are balanced, but by a factor of at most
two, since the classes of a stream are not equally frequent. Pseudo-labels only train the encoder; the head only learns
true labels. The table has the share of right pseudo-labels on CLINC150, with the pretrained encoder and 5 labels of
each class:

                          all classes   texts of half the classes   class sizes by Zipf's law
    bounded balancing     91.1 %        90.8 %                      86.2 %
    unbounded (Sinkhorn)  91.9 %        53 %                        -
    no balancing          90.2 %        91.6 %                      87.0 %
    label propagation     88.9 %, and it needs a graph

Shapes: T tokens, B samples, U texts without a label, C classes, D width.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from learner.config import LearnerConfig, is_import_path
from learner.encoder.base import with_own_top
from learner.encoder.served import ServedEncoder
from learner.errors import DataError
from learner.failpoints import failpoint
from learner.rounds.plan import RoundPlan, StepPlan
from learner.rounds.strategies import own_strategy
from learner.rounds.trainer import Trainer
from learner.samples import Labelled
from model.packed import WholeEncoder
from model.ragged import RaggedLayout
from wire.inputs import encoded
from wire.kinds import LabelKind, find_kind, row_names

if TYPE_CHECKING:
    from learner.rounds.avalanche import AvalancheTrainer


COSINE_SCALE = 50.0
"""The logits of pseudo-labels are COSINE_SCALE times a cosine."""

MAX_PRIOR = 2.0
"""A class prior, relative to the uniform prior, is clamped to [1 / MAX_PRIOR, MAX_PRIOR]."""

NUM_REFINEMENTS = 4
"""The number of EM steps."""

NUM_BALANCINGS = 5
"""The number of updates of the class priors in each EM step."""


class PseudoLabels:
    """Makes pseudo-labels of texts, a unit of work at a time: call `step` until `is_done`, then read `rows`.

    `unit` is the number of texts that a step encodes.
    """

    def __init__(self, texts: Sequence[str], means_CD: Tensor, *, unit: int) -> None:
        self._texts = texts
        self._means_CD = means_CD
        self._unit = unit
        self._z_units: list[Tensor] = []
        self.rows: dict[str, int] = {}
        """The row of each text's class, once all texts are encoded."""

    def step(self, served: ServedEncoder) -> None:
        """Encodes the next unit of texts; after the last unit, assigns the rows of all texts."""
        first = self._unit * len(self._z_units)
        self._z_units.append(served.z_many(self._texts[first : first + self._unit]))
        if self.is_done:
            rows_U = most_likely_rows(torch.cat(self._z_units), self._means_CD)
            self.rows = dict(zip(self._texts, rows_U.tolist(), strict=True))

    @property
    def is_done(self) -> bool:
        """Whether every text is encoded."""
        return self._unit * len(self._z_units) >= len(self._texts)

    @property
    def progress(self) -> float:
        """The share of the texts that are encoded, in [0, 1]."""
        return min(self._unit * len(self._z_units) / max(len(self._texts), 1), 1.0)


def most_likely_rows(z_UD: Tensor, means_CD: Tensor) -> Tensor:
    """Returns the row of the most likely class of each text, int64 [U].

    `z_UD` are unit vectors; `means_CD` are the class means of the labelled samples, of unit length.

    >>> most_likely_rows(torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [1, 0]
    """
    # The number of texts of an average class.
    uniform = len(z_UD) / len(means_CD)
    refined_CD = means_CD
    prior_C = torch.ones(len(means_CD))
    for _ in range(NUM_REFINEMENTS):
        logits_UC = COSINE_SCALE * z_UD @ refined_CD.T
        # The priors move each class towards the number of texts of an average class.
        for _ in range(NUM_BALANCINGS):
            p_UC = torch.softmax(logits_UC + prior_C.log(), dim=1)
            prior_C = (prior_C * uniform / p_UC.sum(dim=0).clamp(min=1e-6)).clamp(1 / MAX_PRIOR, MAX_PRIOR)
        p_UC = torch.softmax(logits_UC + prior_C.log(), dim=1)
        refined_CD = functional.normalize(uniform * means_CD + p_UC.T @ z_UD, dim=1)
    return p_UC.argmax(dim=1)


MAX_TRAINED_TOKENS: Final = 512
"""The most tokens of a text in a gradient step. This bounds the memory of the step: 32 such texts take about 1 GB in
two trained blocks. The frozen blocks below read the whole text."""


def first_tokens(positions: list[int]) -> list[int]:
    """Returns the first MAX_TRAINED_TOKENS of these positions in a text."""
    return positions[:MAX_TRAINED_TOKENS]


class Training:
    """Trains the top blocks of `strata`, a copy of `parent`, on the outputs of the lower blocks of `served`.

    - `pseudo_labels`: the classes of the samples without a label.
    - `losses`: the loss of each step so far.
    - `excluded`: the samples with which alone the loss or the gradient is not finite. The first step with such a sample
      changes nothing, and later steps leave it out.
    """

    def __init__(
        self,
        plan: RoundPlan,
        means_CD: Tensor,
        pseudo_labels: PseudoLabels,
        served: ServedEncoder,
        parent: WholeEncoder,
        *,
        config: LearnerConfig,
    ) -> None:
        self.first_layer = parent.config.n_layers - (plan.layers or config.deepest_layers)
        self.strata = with_own_top(parent, self.first_layer)
        self.losses = list[float]()
        self.excluded: set[Labelled] = set()
        self._plan = plan
        self._means_CD = means_CD
        self._rows = {label: row for row, label in enumerate(plan.labels)}
        self._pseudo_labels = pseudo_labels
        self._served = served
        self._parent = parent
        self._config = config
        self._rng = np.random.default_rng([config.seed, plan.number])

    def step(self, step: StepPlan) -> None:
        """Takes one gradient step. Raises NonFinite, or DataError if a strategy fails."""
        fresh = self._usable(step.fresh)
        draws = [self._usable(draw) for draw in step.draws]
        loss = math.nan
        # If all fresh samples are excluded, the step is skipped.
        if fresh:
            samples = [*fresh, *chain.from_iterable(draws)]
            x_TD, layout, rows_B = self._inputs(samples, drop_tokens=self._drop_tokens)
            loss = self._trainer.step(x_TD, layout, rows_B, [len(part) for part in (fresh, *draws)])
            if not math.isfinite(loss):
                self._exclude(samples)
        self.losses.append(loss)
        failpoint("after-slow-step")

    def _usable(self, samples: Sequence[Labelled]) -> list[Labelled]:
        return [sample for sample in samples if sample not in self.excluded]

    def _exclude(self, samples: Sequence[Labelled]) -> None:
        """Excludes those samples of a step with which alone the loss or the gradient is not finite."""
        trainer = self._trainer
        if isinstance(trainer, Trainer):
            self.excluded |= {sample for sample in samples if not trainer.is_finite(*self._inputs([sample]))}

    def _drop_tokens(self, positions: list[int]) -> list[int]:
        return token_dropout(excerpt(positions, self._rng), self._config.slow_token_dropout, self._rng)

    @cached_property
    def _trainer(self) -> "Trainer | AvalancheTrainer":
        """The trainer, which is made at the first step. Raises DataError if a user's strategy cannot be made."""
        config = self._config
        if not is_import_path(config.slow_strategy) or own_strategy(config.slow_strategy) is not None:
            num_steps = len(self._plan.steps)
            return Trainer(
                self.strata,
                self._means_CD,
                parent=self._parent,
                first_layer=self.first_layer,
                num_steps=num_steps,
                config=config,
            )
        kind = _label_kind(self._plan.steps[0].samples)
        if not kind.is_exclusive:
            raise DataError(
                f"{config.slow_strategy} learns one class of each sample, and labels.kind is {kind.name}: choose one "
                "of learner/rounds/strategies.py, such as er"
            )
        # Avalanche is an optional dependency.
        from learner.rounds.avalanche import AvalancheTrainer

        return AvalancheTrainer(
            self.strata,
            self._means_CD,
            first_layer=self.first_layer,
            plan=self._plan,
            inputs=self._inputs,
            max_tokens=min(self._served.tokenizer.max_tokens, MAX_TRAINED_TOKENS),
            config=config,
        )

    def _inputs(
        self, samples: Sequence[Labelled], *, drop_tokens: Callable[[list[int]], list[int]] = first_tokens
    ) -> tuple[Tensor, RaggedLayout, Tensor]:
        """Returns the activations x_TD below the trained blocks, their layout, and the row of each sample's class.

        By default it uses the first tokens of each text. If labels are sets, it returns shares_BC instead of rows: the
        classes of a set have equal shares of the sample (Mahajan et al. 2018, arXiv:1805.00932, section 2.2).
        """
        texts = [encoded(sample.text) for sample in samples]
        x_TD, layout = self._served.prefix(texts, self.first_layer, drop_tokens=drop_tokens)
        if not _label_kind(samples).is_exclusive:
            return x_TD, layout, torch.stack([self._label_shares(sample) for sample in samples])
        return x_TD, layout, torch.tensor([self._label_row(sample) for sample in samples])

    def _label_shares(self, sample: Labelled) -> Tensor:
        names = row_names(sample.label)
        shares_C = torch.zeros(len(self._rows))
        shares_C[[self._rows[name] for name in names]] = 1 / max(len(names), 1)
        return shares_C

    def _label_row(self, sample: Labelled) -> int:
        return self._rows[sample.label] if sample.label else self._pseudo_labels.rows[sample.text]


def _label_kind(samples: Sequence[Labelled]) -> LabelKind:
    """Returns the kind of the samples' labels. Texts without a label count as labelled by classes."""
    return find_kind(samples[0].label if samples else "")


def excerpt(positions: list[int], rng: np.random.Generator) -> list[int]:
    """Returns at most MAX_TRAINED_TOKENS positions of a text.

    Of a longer text it returns the first position, the last one, and a random run of positions between them.

    >>> len(excerpt(list(range(600)), np.random.default_rng(0))), excerpt([0, 1, 2], np.random.default_rng(0))
    (512, [0, 1, 2])
    """
    if len(positions) <= MAX_TRAINED_TOKENS:
        return positions
    inside = MAX_TRAINED_TOKENS - 2
    start = int(rng.integers(1, len(positions) - inside))
    return [positions[0], *positions[start : start + inside], positions[-1]]


def token_dropout(positions: Sequence[int], share: float, rng: np.random.Generator) -> list[int]:
    """Returns the positions of the tokens that remain after token dropout. The first and the last one always remain.

    Token dropout leaves out a random `share` of the tokens (Iyyer et al. 2015, "Deep Unordered Composition Rivals
    Syntactic Methods", section 2.3). Each step drops different tokens, so no class depends on a single word. Tokens are
    dropped, not words, since not every language puts spaces between words. They are dropped after the frozen blocks,
    whose outputs are cached. CLINC150 (150 classes, 30 texts each, two passes, one seed) reaches 94.6 % this way,
    94.5 % if tokens are dropped before the frozen blocks, and 94.3 % without dropout.

    >>> token_dropout([0, 1, 2, 3], 1.0, np.random.default_rng(0))
    [0, 3]
    """
    remains_N = rng.random(len(positions)) >= share
    remains_N[[0, -1]] = True
    return [position for position, remains in zip(positions, remains_N.tolist(), strict=True) if remains]
