"""Continual-learning strategies: the loss of a gradient step on new (fresh) samples and replayed samples.

    outputs of fresh samples, outputs of replayed samples --loss--> gradients of the parameters --> optimizer
    er, der++, ... --MAKERS--> Strategy      my.module:Mine(alpha=0.5) --import--> the user's subclass of Strategy

Each class implements a method from a paper. A strategy gets outputs and parameters, but neither samples nor networks.
So the same code trains the top blocks of the encoder in a slow round, and a small network on tensors in the
evaluations. The caller runs one forward pass over all samples, passes the outputs to `backward`, and steps the
optimizer.

Some strategies need the outputs from before the round. A round begins with the encoder of the last round, the parent.
So these are the parent's outputs, for fresh and replayed samples. The replay buffer need not store outputs, and a round
is a function of its plan and its parent.

Rejected:

- Hooks around a training loop, like Avalanche's plugins: they have to know the loop that they change. Users can still
  name one, and `learner.rounds.avalanche` runs it.
- Elastic weight consolidation (EWC): its sums over earlier rounds would have to be stored, and it does not use the
  replay buffer. Avalanche's EWC computes them from the replay buffer instead.

Shape suffixes: B samples, C classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from learner.config import SlowStrategy, is_import_path
from learner.errors import DataError
from learner.plugins import PREFIX, import_any


class Outputs(NamedTuple):
    """The outputs of the network for some samples.

    - `logits_BC`: the logits, with their gradient.
    - `labels_B`: the row of each sample's class, int64 [B]; if labels are sets, the share of each class, float [B, C].
    - `before_BC`: earlier logits. For replayed samples these are the logits when they were stored; for fresh samples,
      the logits at the end of the last stage. None unless the strategy `wants_before`, and None for fresh samples of
      the first stage.
    """

    logits_BC: Tensor
    labels_B: Tensor
    before_BC: Tensor | None = None


class Strategy:
    """The base of all strategies, which learns only the fresh samples (naive fine-tuning).

    Other strategies override `loss` or `backward`.

    - `num_draws`: the number of independent draws from the replay buffer for each step.
    - `wants_before`: whether the strategy needs `Outputs.before_BC`.
    - `loss_q`: see `class_loss`.
    """

    num_draws = 0
    wants_before = False

    def __init__(self, *, loss_q: float = 0.0) -> None:
        self.loss_q = loss_q

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        """Returns the scalar loss of a step."""
        return self.class_loss(fresh)

    def backward(self, parameters: Sequence[Tensor], fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        """Sets the gradients of `parameters`, which must be None before; returns the loss, detached."""
        loss = self.loss(fresh, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def end_stage(self, parameters: Sequence[Tensor], losses: Iterable[Tensor]) -> None:
        """Is called at the end of a stage. `losses` yields the loss of each sample of the stage, with its gradient."""

    def class_loss(self, outputs: Outputs) -> Tensor:
        """Returns the mean generalized cross-entropy of the samples."""
        return class_loss(outputs.logits_BC, outputs.labels_B, q=self.loss_q)


def class_loss(logits_BC: Tensor, labels_B: Tensor, *, q: float) -> Tensor:
    """Returns the mean generalized cross-entropy (1 - p_y^q) / q: Zhang, Sabuncu 2018 (arXiv:1805.07836, equation 6).

    q = 0 is cross-entropy; q = 1 is the mean absolute error, on which wrong labels have the least effect. For a set of
    labels, the loss is the share-weighted mean over its classes of (1 - (p / share)^q) / q, which is 0 if p equals the
    shares.
    """
    if q == 0.0:
        return functional.cross_entropy(logits_BC, labels_B)
    log_p_BC = torch.log_softmax(logits_BC, dim=1)
    if labels_B.is_floating_point():
        log_ratios_BC = (log_p_BC - labels_B.clamp(min=1e-6).log()).clamp(max=0.0)
        return -(labels_B * torch.expm1(q * log_ratios_BC)).sum(dim=1).mean() / q
    return -torch.expm1(q * log_p_BC.gather(1, labels_B[:, None])).mean() / q


class ExperienceReplay(Strategy):
    """ER: the mean loss of all samples (Ratcliff 1990; Chaudhry et al. 2019, arXiv:1902.10486, algorithm 1)."""

    num_draws = 1

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        parts = (fresh, *draws)
        logits_BC = torch.cat([part.logits_BC for part in parts])
        labels_B = torch.cat([part.labels_B for part in parts])
        return self.class_loss(Outputs(logits_BC, labels_B))


ABSENT_LOGIT: Final = -1e4
"""The logit of an absent class if labels are shares, since 0 times -inf is NaN."""


class AsymmetricReplay(Strategy):
    """ER-ACE: replay with asymmetric cross-entropy (Caccia et al. 2022, arXiv:2104.05025, equation 4).

    L = L_ce(fresh, classes of the fresh batch) + L_ce(replayed, all classes)
    """

    num_draws = 1

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        own = Outputs(mask_absent(fresh.logits_BC, fresh.labels_B), fresh.labels_B)
        return sum((self.class_loss(replayed) for replayed in draws), start=self.class_loss(own))


def mask_absent(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Returns the logits, with -inf for each class that is not among the labels (ABSENT_LOGIT if labels are shares)."""
    if labels_B.is_floating_point():
        return logits_BC.masked_fill(~labels_B.any(dim=0), ABSENT_LOGIT)
    is_absent_C = torch.ones(logits_BC.shape[1], dtype=torch.bool).index_fill_(0, labels_B, value=False)
    return logits_BC.masked_fill(is_absent_C, -torch.inf)


class DarkReplay(Strategy):
    """DER++: dark experience replay with labels (Buzzega et al. 2020, arXiv:2004.07211, equation 6).

        L = L_ce(fresh) + alpha |z' - h(x')|^2 + beta L_ce(y'', f(x''))        x', x'': two independent draws

    The square is the mean over samples and classes, as in the authors' code, for which they report the best alpha and
    beta. If `is_asymmetric`, the first term is restricted to the classes of the fresh batch, as in ER-ACE.
    """

    num_draws = 2
    wants_before = True

    def __init__(self, *, alpha: float, beta: float, is_asymmetric: bool = False, loss_q: float = 0.0) -> None:
        super().__init__(loss_q=loss_q)
        self._alpha = alpha
        self._beta = beta
        self._is_asymmetric = is_asymmetric

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        if self._is_asymmetric:
            fresh = fresh._replace(logits_BC=mask_absent(fresh.logits_BC, fresh.labels_B))
        loss = self.class_loss(fresh)
        if draws:
            dark, labelled = draws
            assert dark.before_BC is not None, "the replayed samples have no outputs from before the round"
            loss = loss + self._alpha * functional.mse_loss(dark.logits_BC, dark.before_BC)
            loss = loss + self._beta * self.class_loss(labelled)
        return loss


class AveragedGradient(Strategy):
    """A-GEM: the projected gradient of the fresh samples (Chaudhry et al. 2019, arXiv:1812.00420, equation 11)."""

    num_draws = 1

    def backward(self, parameters: Sequence[Tensor], fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        loss = self.class_loss(fresh)
        # The graph is retained, since all gradients come from one forward pass.
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        for replayed in draws:
            reference = torch.autograd.grad(self.class_loss(replayed), parameters, retain_graph=True)
            gradients = project(gradients, reference)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss.detach()


def project(gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Projects the gradient g onto the half-space g.r >= 0: g - (g.r / r.r) r if g.r < 0, else g.

    >>> project([torch.tensor([1.0, -2.0])], [torch.tensor([0.0, 1.0])])
    (tensor([1., 0.]),)
    """
    dot_product = sum((g * r).sum() for g, r in zip(gradients, reference, strict=True))
    if dot_product >= 0:
        return tuple(gradients)
    share = dot_product / sum((r * r).sum() for r in reference)
    return tuple(g - share * r for g, r in zip(gradients, reference, strict=True))


DISTILLATION_TEMPERATURE = 2.0
"""The temperature T of Li and Hoiem."""


class Distillation(Strategy):
    """Learning without forgetting (LwF): cross-entropy and distillation (Li and Hoiem 2016, arXiv:1606.09282, eq. 3).

    The divergence is scaled by T^2, so that its gradient does not depend on T (Hinton et al. 2015, arXiv:1503.02531).
    """

    wants_before = True

    def __init__(self, *, alpha: float, loss_q: float = 0.0) -> None:
        super().__init__(loss_q=loss_q)
        self._alpha = alpha

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        loss = self.class_loss(fresh)
        if fresh.before_BC is None:
            return loss
        now_BC = functional.log_softmax(fresh.logits_BC / DISTILLATION_TEMPERATURE, dim=1)
        before_BC = functional.log_softmax(fresh.before_BC / DISTILLATION_TEMPERATURE, dim=1)
        divergence = functional.kl_div(now_BC, before_BC, reduction="batchmean", log_target=True)
        return loss + self._alpha * DISTILLATION_TEMPERATURE**2 * divergence


MAKERS: Mapping[SlowStrategy, Callable[..., Strategy]] = {
    "naive": Strategy,
    "er": ExperienceReplay,
    "er-ace": AsymmetricReplay,
    "der++": partial(DarkReplay, alpha=0.05, beta=1.0),
    "der-ace": partial(DarkReplay, alpha=0.05, beta=1.0, is_asymmetric=True),
    "a-gem": AveragedGradient,
    "lwf": partial(Distillation, alpha=1.0),
}


def make_strategy(name: str, *, loss_q: float) -> Strategy:
    """Returns a new strategy for a round. Raises DataError if a user's class cannot be imported or made."""
    own = own_strategy(name)
    return MAKERS[cast("SlowStrategy", name)](loss_q=loss_q) if own is None else GuardedStrategy(name, own, loss_q)


def own_strategy(name: str) -> Callable[..., Strategy] | None:
    """Returns the user's strategy class that an import path names, with the arguments in its parentheses applied.

    Returns None for the names in MAKERS, and for classes of Avalanche. Raises DataError if the path does not import.
    """
    if not is_import_path(name) or name.startswith(PREFIX):
        return None
    cls, arguments = import_any(name)
    return partial(cls, **arguments) if isinstance(cls, type) and issubclass(cls, Strategy) else None


def draws_per_step(name: str) -> int:
    """Returns the number of draws from the replay buffer in a step; 1 for strategies of Avalanche."""
    if is_import_path(name) and own_strategy(name) is None:
        return 1
    return make_strategy(name, loss_q=0.0).num_draws


class GuardedStrategy(Strategy):
    """Wraps a user's strategy: its exceptions become DataErrors, which end the round and not the learner."""

    def __init__(self, name: str, make: Callable[..., Strategy], loss_q: float) -> None:
        super().__init__(loss_q=loss_q)
        self._name = name
        try:
            self._own = make(loss_q=loss_q)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name} cannot be made: {error}") from error
        self.num_draws = self._own.num_draws
        self.wants_before = self._own.wants_before

    def backward(self, parameters: Sequence[Tensor], fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        try:
            return self._own.backward(parameters, fresh, draws)
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"{self._name} cannot learn a slow round: {error!r}") from error
