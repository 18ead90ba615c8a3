"""Trains a net on rows of numbers by gradient with a continual-learning strategy, one step for each batch.

    batch ---.--> net --outputs--> strategy --gradient--> SGD
    draws ---'          '--rows--> RowMemory

After its step, each batch is offered to the memory with its outputs in the step, as Buzzega et al. do. `Replay` decides
which rows are stored; all rows are in one tensor. One epoch is one pass over the stream. If a recipe asks for more
sample gradients, more epochs follow in another order, without offering the same rows to the memory again.
`ElasticWeights` is online EWC, which stores no samples. All other strategies are the learner's.

Shape suffixes: B rows of a batch, N rows, C classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from evals.continual.contender import Contender, Passes, Traits, Usage, counting_passes
from evals.streams.benchmark import Part, joined
from learner.config import ReplayPolicy
from learner.memory import Replay, draw
from learner.rounds.strategies import Outputs, Strategy, class_loss

NO_BOUND = 1 << 62
"""No limit in bytes: all rows have the same size, so their number limits the memory."""


class RowSample(NamedTuple):
    """A row of the replay memory. `slot` is its index in the tensors of the memory."""

    slot: int
    label: int
    experience: int
    num_bytes: int
    subject: str = ""


class RowBatch(NamedTuple):
    """Samples x [B, ...] with their labels and the logits that they had when they were stored."""

    x: Tensor
    labels_B: Tensor
    logits_BC: Tensor


class RowMemory:
    """A replay memory of at most `capacity` rows. The tensors are allocated for the shape of the first rows."""

    def __init__(self, capacity: int, *, seed: int, policy: ReplayPolicy) -> None:
        self._rng = np.random.default_rng(seed)
        self._replay = Replay[RowSample](
            capacity, NO_BOUND, key_of=lambda row: float(self._rng.random()), policy=policy
        )
        # There is one slot more than the capacity, because a row gets its slot before another row is evicted.
        self._free = list(range(capacity + 1))
        self._rows: RowBatch | None = None

    def add(self, rows: RowBatch, *, experience: int) -> None:
        """Offers rows of one experience to the memory."""
        num_bytes = sum(part[0].nbytes for part in rows)
        # A later row of the batch may evict an earlier one and get its slot. So the last row of each slot is written.
        sources: dict[int, int] = {}
        for source, label in enumerate(rows.labels_B.tolist()):
            slot = self._free.pop()
            evicted = [row.slot for row in self._replay.add([RowSample(slot, label, experience, num_bytes)])]
            self._free += evicted
            if slot not in evicted:
                sources[slot] = source
        if sources:
            self._write(list(sources), rows, list(sources.values()))

    def draw(self, num_rows: int) -> RowBatch | None:
        """Draws rows with replacement, each group of the policy equally likely. Returns None if there are no rows."""
        slots = torch.tensor([row.slot for row in draw(self._replay.groups(is_ordered=False), num_rows, self._rng)])
        if self._rows is None or not len(slots):
            return None
        return RowBatch(*(part[slots] for part in self._rows))

    def __len__(self) -> int:
        return len(self._replay)

    @property
    def num_bytes(self) -> int:
        return self._replay.num_bytes

    def _write(self, slots: list[int], rows: RowBatch, sources: list[int]) -> None:
        if self._rows is None:
            num_slots = len(self._free) + len(self._replay)
            self._rows = RowBatch(*(part.new_empty(num_slots, *part.shape[1:]) for part in rows))
        for stored, part in zip(self._rows, rows, strict=True):
            stored[slots] = part[sources]


NUM_FISHER = 1_000
"""The number of samples of a stage from which EWC estimates the Fisher information, one by one."""

PREDICT_BATCH = 10_000


def sgd(net: nn.Module, rate: float) -> Optimizer:
    """Returns plain stochastic gradient descent, the optimizer of small nets."""
    return torch.optim.SGD(net.parameters(), lr=rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The hyperparameters for training a net."""

    strategy: Callable[[], Strategy]
    rate: float
    """The learning rate."""
    batch: int
    """The number of fresh rows in a step."""
    replayed: int = 0
    """The number of rows in each draw from the memory."""
    policy: ReplayPolicy = "reservoir"
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """Augments the rows of a draw."""
    decay: float = 0.0
    """The decay of the running mean of the weights, which predicts: w <- decay w + (1 - decay) weights after each step,
    as the stable model of Arani et al. 2022 (arXiv:2201.12604). At 0 the weights themselves predict."""
    optimizer: Callable[[nn.Module, float], Optimizer] = sgd
    """Returns the optimizer for a net and a learning rate."""
    passes: float = 0.0
    """The number of sample gradients for each row. Epochs are added until it is reached; there is at least one."""

    def paced(self, passes: float) -> "Recipe":
        """Returns the recipe for `passes` sample gradients for each row. 0 leaves the recipe as it is.

        There is one epoch for every two sample gradients, so about half of a step is replayed. The size of the draws is
        chosen so that whole epochs add up to `passes`. A strategy without draws needs one epoch for each of them.

        >>> from learner.rounds.strategies import ExperienceReplay
        >>> recipe = Recipe(strategy=ExperienceReplay, rate=0.1, batch=10)
        >>> [recipe.paced(passes).replayed for passes in (1.5, 2.0, 3.0, 4.0, 9.0)]
        [5, 10, 20, 10, 12]
        """
        num_draws = self.strategy().num_draws
        if not passes or not num_draws:
            return replace(self, passes=passes)
        gradients_of_epoch = passes / max(passes // 2, 1)
        replayed = round(self.batch * (gradients_of_epoch - 1) / num_draws)
        return replace(self, passes=passes, replayed=max(replayed, 1))


class Pixels(nn.Module):
    """Maps bytes to floats in [0, 1]. It is the first layer of a net for images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float() / 255


def mlp(widths: tuple[int, ...], seed: int) -> nn.Sequential:
    """Returns linear layers of these widths, from inputs to outputs, with ReLU between them.

    The weights have Glorot's initialisation, and the biases are zero.
    """
    rng = torch.Generator().manual_seed(seed)
    layers = list[nn.Module]()
    for num_inputs, num_outputs in pairwise(widths):
        layer = nn.Linear(num_inputs, num_outputs)
        nn.init.xavier_uniform_(layer.weight, generator=rng)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class GradientLearner(Contender[Tensor]):
    """A contender that trains `net`. Its memory has at most `capacity` rows, if its strategy uses a memory."""

    traits = Traits(precision="fp32")

    def __init__(self, net: nn.Module, recipe: Recipe, *, capacity: int, seed: int) -> None:
        self._net = net
        self._recipe = recipe
        self._strategy = recipe.strategy()
        self._parameters = list(net.parameters())
        self._predicting: dict[str, Tensor] = {}
        for name, parameter in net.named_parameters():
            self._predicting[name] = parameter.detach().clone() if recipe.decay else parameter
        self._optimizer = recipe.optimizer(net, recipe.rate)
        self._memory = RowMemory(capacity, seed=seed, policy=recipe.policy)
        self._rng = torch.Generator().manual_seed(seed)
        self._before: dict[str, Tensor] = {}
        self._num_stages = 0
        self._passes = Passes()

    def learn_many(self, part: Part[Tensor]) -> None:
        num_gradients = self._passes.gradients + self._recipe.passes * len(part)
        with counting_passes(self._net, self._passes):
            for batch in part.batches(self._recipe.batch):
                self._store(batch, self._step(batch))
            while self._passes.gradients < num_gradients:
                self._repeat(part, num_gradients)
            self._strategy.end_stage(self._parameters, self._losses(part))
        self._before = {name: value.detach().clone() for name, value in self._net.named_parameters()}
        self._num_stages += 1

    @torch.no_grad()
    def predict_many(self, inputs: Tensor) -> Tensor:
        batches = torch.split(inputs, PREDICT_BATCH)
        return torch.cat([functional_call(self._net, self._predicting, (x,)).argmax(dim=1) for x in batches])

    @property
    def usage(self) -> Usage:
        return Usage(
            samples=len(self._memory),
            num_bytes=self._memory.num_bytes,
            gradients=self._passes.gradients,
            forwards=self._passes.forwards,
        )

    def _repeat(self, part: Part[Tensor], num_gradients: float) -> None:
        """Learns another epoch in a new order. It ends early if `num_gradients` is reached."""
        again = joined([part], torch.randperm(len(part), generator=self._rng))
        for batch in again.batches(self._recipe.batch):
            if self._passes.gradients < num_gradients:
                self._step(batch)

    def _step(self, batch: Part[Tensor]) -> Tensor:
        """Takes one step and returns the logits of the fresh rows, detached."""
        x = batch.inputs
        size = self._recipe.replayed
        strategy = self._strategy
        drawn = self._draw(strategy.num_draws * size)
        logits_BC: Tensor = self._net(x if drawn is None else torch.cat((x, drawn.x)))
        fresh_BC = logits_BC[: len(x)]
        replayed_BC = logits_BC[len(x) :]
        draws = []
        if drawn is not None:
            outputs = torch.split(replayed_BC, size)
            labels = torch.split(drawn.labels_B, size)
            stored = torch.split(drawn.logits_BC, size)
            draws = [Outputs(*draw) for draw in zip(outputs, labels, stored, strict=True)]
        self._optimizer.zero_grad()
        strategy.backward(self._parameters, Outputs(fresh_BC, batch.labels_N, self._logits_before(x)), draws)
        self._optimizer.step()
        self._average()
        return fresh_BC.detach()

    def _store(self, batch: Part[Tensor], logits_BC: Tensor) -> None:
        """Offers a batch to the memory, with its logits if the strategy uses them."""
        if self._strategy.num_draws:
            stored_BC = logits_BC if self._strategy.wants_before else logits_BC[:, :0]
            self._memory.add(RowBatch(batch.inputs, batch.labels_N, stored_BC), experience=self._num_stages)

    @torch.no_grad()
    def _average(self) -> None:
        if self._recipe.decay:
            for mean, parameter in zip(self._predicting.values(), self._parameters, strict=True):
                mean.lerp_(parameter, 1 - self._recipe.decay)

    def _draw(self, num_rows: int) -> RowBatch | None:
        drawn = self._memory.draw(num_rows)
        augment = self._recipe.augment
        if drawn is None or augment is None:
            return drawn
        return drawn._replace(x=augment(drawn.x, self._rng))

    @torch.no_grad()
    def _logits_before(self, x: Tensor) -> Tensor | None:
        """Returns the logits under the weights at the end of the last stage, for distillation without a memory."""
        if not self._before or not self._strategy.wants_before or self._strategy.num_draws:
            return None
        logits_BC: Tensor = functional_call(self._net, self._before, (x,))
        return logits_BC

    def _losses(self, part: Part[Tensor]) -> Iterator[Tensor]:
        for x, label in zip(part.inputs[:NUM_FISHER], part.labels_N[:NUM_FISHER], strict=True):
            yield class_loss(self._net(x[None]), label[None], q=0.0)


class ElasticWeights(Strategy):
    """Adds a penalty weighted by a running Fisher information (Schwarz et al. 2018, arXiv:1805.06370, equation 9).

        L = L_ce + strength / 2 * sum_i F_i (theta_i - theta*_i)^2        F <- decay F + mean of squared gradients

    Kirkpatrick et al. 2017 (arXiv:1612.00796) store an F for each stage. A running sum takes constant memory.
    """

    def __init__(self, *, strength: float, decay: float, loss_q: float = 0.0) -> None:
        super().__init__(loss_q=loss_q)
        self._strength = strength
        self._decay = decay
        self._anchors: list[Tensor] = []
        self._fishers: list[Tensor] = []

    def backward(self, parameters: Sequence[Tensor], fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        loss = self.class_loss(fresh)
        for parameter, anchor, fisher in zip(parameters, self._anchors, self._fishers, strict=False):
            loss = loss + self._strength / 2 * (fisher * (parameter - anchor).square()).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def end_stage(self, parameters: Sequence[Tensor], losses: Iterable[Tensor]) -> None:
        squares = [torch.zeros_like(parameter) for parameter in parameters]
        num_samples = 0
        for loss in losses:
            num_samples += 1
            for square, gradient in zip(squares, torch.autograd.grad(loss, parameters), strict=True):
                square += gradient.square()
        before = self._fishers or [torch.zeros_like(parameter) for parameter in parameters]
        self._fishers = [self._decay * f + s / max(num_samples, 1) for f, s in zip(before, squares, strict=True)]
        self._anchors = [parameter.detach().clone() for parameter in parameters]
