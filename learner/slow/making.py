"""Where the next encoder of a round is from: it is trained, or it was offered by an operator.

    TrainedEncoder: plan --> (PSEUDO_LABEL) --> TRAIN, a step a unit --> STORE: an empty fast head under the encoder
    OfferedEncoder: offer --------------------------------------------> STORE: the same, of blobs that were stored

Both yield units to a round (`learner.slow.round`), which measures what they return. What training makes is a function
of its plan, the class means that it starts from, and the encoder, so a restart repeats it from these; an offer is open
until it is decided on, so a restart begins it again.

Rejected: two classes of rounds (from STORE on they do the same).
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from learner.config import LearnerConfig
from learner.export import ServedEncoder, export_encoder
from learner.fast.fast_head import FastHead
from learner.labels.sample import Labelled
from learner.quality.comparison import Paired
from learner.quality.gate import GateLimits
from learner.slow.pseudo_labels import PseudoLabels
from learner.slow.round_plan import RoundPlan
from learner.slow.training import Training
from learner.state.base_encoder import BaseEncoder
from learner.state.parts import fast_head_of
from model.encoders import WholeEncoder
from wire.records import EncoderOffer

Making: TypeAlias = Generator[Callable[[], Any], Any, FastHead]
"""Yields units, gets back what each has returned, and returns the empty fast head of the next encoder."""


class Phase(Enum):
    """What the unit of a round does that was begun last. The values are part of the learner's reports."""

    PSEUDO_LABEL = "pseudo_label"
    TRAIN = "train"
    STORE = "store"
    READ = "read"
    REBUILD = "rebuild"
    CARRY_OVER = "carry_over"
    MEASURE = "measure"
    COMPARE = "compare"
    TRIAL = "trial"
    CATCH_UP = "catch_up"
    DONE = "done"


class TrainedEncoder:
    """Trains a copy of `strata`, which is served as `served`, by `plan`, from the class means `means_CD` on."""

    def __init__(
        self, plan: RoundPlan, means_CD: Tensor, served: ServedEncoder, strata: WholeEncoder, *, config: LearnerConfig
    ) -> None:
        self.plan = plan
        self.means_CD = means_CD
        self._served = served
        self._config = config
        self._pseudo_labels = PseudoLabels(plan.unlabelled, means_CD, unit=config.rebuild_batch)
        self._training = Training(plan, means_CD, self._pseudo_labels, served, strata, config=config)
        self.phase = Phase.TRAIN if self._pseudo_labels.is_done else Phase.PSEUDO_LABEL

    def units(self) -> Making:
        """Yields every unit."""
        while not self._pseudo_labels.is_done:
            yield partial(self._pseudo_labels.step, self._served)
        self.phase = Phase.TRAIN
        for step in self.plan.steps:
            yield partial(self._training.step, step)
        self.phase = Phase.STORE
        stored: FastHead = yield self._store
        return stored

    @property
    def strata(self) -> WholeEncoder:
        """The encoder in training."""
        return self._training.strata

    @property
    def apart(self) -> set[Labelled]:
        """The samples that training has set apart so far."""
        return self._training.apart

    @property
    def losses(self) -> list[float]:
        """The loss of each gradient step so far."""
        return self._training.losses

    @property
    def progress(self) -> float:
        """The share of the phase that is done, in [0, 1]."""
        if self.phase is Phase.PSEUDO_LABEL:
            return self._pseudo_labels.progress
        return len(self.losses) / max(len(self.plan.steps), 1)

    def _store(self) -> FastHead:
        """Returns an empty fast head under the encoder that was trained, as it will be served."""
        top = export_encoder(self.strata, first_layer=self._training.first_layer)
        return fast_head_of(self._config, self._served.with_top(top))


@dataclass(slots=True, kw_only=True)
class OfferedEncoder:
    """Takes the encoder of `offer` into use. `take` fetches and checks it, and may raise OfferRefused.

    `refusals` are the reasons against it, once it is decided on; empty where it was adopted. `held` and `tried` are
    how it did beside the encoder in use, on the holdout and on the labels of its trial.
    """

    offer: EncoderOffer
    take: Callable[[], BaseEncoder]
    phase: Phase = Phase.STORE
    progress: float = 0.0
    refusals: tuple[str, ...] | None = None
    held: Paired = field(default_factory=Paired)
    tried: Paired = field(default_factory=Paired)
    _base: BaseEncoder | None = None

    def units(self) -> Making:
        """Yields the one unit."""
        base: BaseEncoder = yield self.take
        self._base = base
        return fast_head_of(base.config, base.served)

    @property
    def base(self) -> BaseEncoder:
        """The encoder, when it was taken."""
        assert self._base is not None, "it was not taken yet"
        return self._base

    @property
    def strata(self) -> WholeEncoder:
        """The same in full precision."""
        return self.base.strata

    @property
    def limits(self) -> GateLimits:
        """What it must reach."""
        return GateLimits.of(self.base.config, max_loss=self.offer.max_loss)

    def settle(self, refusals: tuple[str, ...], held: Paired, tried: Paired) -> None:
        """Takes note of the decision."""
        self.refusals = refusals
        self.held = held
        self.tried = tried


NextEncoder: TypeAlias = TrainedEncoder | OfferedEncoder
