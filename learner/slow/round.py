"""A slow round: training beside the published encoder, one small unit of work at a time.

    (PSEUDO_LABEL) --> (TRAIN), a step a unit --> STORE the encoder --> READ the memory --> REBUILD the fast head
                   --> (CARRY_OVER) --> MEASURE --> COMPARE --> (TRIAL) --> CATCH_UP --> DONE

The encoder was trained, or was offered by an operator (`learner.slow.making`); from STORE on both go the same way.

A round starts after a number of labels. When labels stay away, one more goes over the memory twice (a rehearsal:
CLINC150 gains 0.9 points). Where most texts have no label, two more train on pseudo-labels. All batches are drawn at
the start, and what is dropped by a seed. So what a round learns is a function of its plan, the class means that it
starts from, and the encoder: a checkpoint holds these, and a restart repeats it. Meanwhile the published encoder
serves, and the fast head learns under it; labels that come while the next one is rebuilt are learnt under both. A
trial of both by these labels (`learner.slow.trial`) ends when the rollout would make the next one stable at once. An
encoder that was offered is refused for what the gate would refuse its first version for: beside the encoder in use, and
beside the anchor.

Units run beside the learner's thread (`learner.slow.worker`). A unit touches nothing but its round and what it was
given: the memory is read in the learner's thread, and labels that come meanwhile wait for the next unit. So what a
round makes is the same, bit for bit, whenever its units end.

Rejected: the state of the optimizer in the checkpoint (two numbers for each trained weight), and several units at once
(each begins from what the one before has made).
"""

from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from functools import partial
from typing import Any

from learner.config import LearnerConfig
from learner.fast.fast_head import FastHead
from learner.labels.sample import Labelled
from learner.memory.holdout import Holdout
from learner.memory.replay import Replay
from learner.quality.comparison import Anchor, Comparison, EncoderTrial, Paired
from learner.quality.evaluation import MeasuredCandidate, measure_heads, on_holdout
from learner.quality.gate import is_worse, may_adopt, refusals
from learner.slow.making import NextEncoder, OfferedEncoder, Phase, TrainedEncoder
from learner.slow.next_head import NextHead, do_nothing
from learner.slow.trial import Trial
from learner.slow.worker import INLINE, Units
from wire.records import PrecisionEvaluation


class SlowRound:
    """One round. `step` begins a unit; at DONE, `making` and `next_fast_head` have what the round has made.

    `held` compares the next fast head with the current one on the holdout, `trial` on the labels since. The round
    belongs to the learner's thread. While a unit is under way, `phase`, `progress`, the encoder of `next_fast_head`,
    and plan and means of `making` may be read; whatever else is called waits for the unit.
    """

    def __init__(
        self,
        making: NextEncoder,
        fast_head: FastHead,
        replay: Replay[Labelled],
        holdout: Holdout,
        *,
        anchor: Anchor | None = None,
        config: LearnerConfig,
    ) -> None:
        self.making = making
        self._phase: Phase | None = None
        self._fast_head = fast_head
        self._served = fast_head.served
        self._replay = replay
        self._holdout = holdout
        self._anchor = anchor
        self._next: NextHead | None = None
        self.measured = MeasuredCandidate()
        self.trial: Trial | None = None
        self._has_trial = config.trial_labels > 0
        self._config = config
        self._units = self._all_units()
        self._under_way = Future[Any]()
        self._under_way.set_result(None)

    def step(self, executor: Executor = INLINE, *, may_wait: bool = True) -> Phase:
        """Begins the next unit of work, unless one is under way. Returns the phase.

        Unless it `may_wait` for labels, which perhaps never come, the round ends without a trial.

        Raises what the last unit has raised: NonFinite when training has led nowhere, DataError when a strategy fails,
        OfferRefused when an offer cannot be taken. Drop the round in any case.
        """
        self._has_trial &= may_wait
        if self.is_ready and not self._waits_for_labels:
            result = self._under_way.result()
            try:
                self._under_way = executor.submit(self._units.send(result))
            except StopIteration:
                self._phase = Phase.DONE
        return self.phase

    @property
    def phase(self) -> Phase:
        """The phase: that of `making`, until the encoder is made."""
        return self._phase or self.making.phase

    @property
    def trained(self) -> TrainedEncoder | None:
        """What is made, where that is trained: it has the plan of the round."""
        return self.making if isinstance(self.making, TrainedEncoder) else None

    @property
    def number(self) -> int:
        """The number of a round that trains; 0 for another."""
        return self.trained.plan.number if self.trained else 0

    @property
    def held(self) -> Paired:
        """The current fast head beside the next one on the holdout."""
        return self.measured.parent.overall

    @property
    def is_ready(self) -> bool:
        """Whether no unit is under way."""
        return self._under_way.done()

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do, or a unit is under way."""
        return not (self.is_ready and self._waits_for_labels)

    def is_adoptable(self, *, is_complete: bool) -> bool:
        """Whether the next encoder is good enough, by its trial, or else by the holdout.

        `is_complete`: whether the memory holds all that the current fast head has learnt.
        """
        if isinstance(self.making, OfferedEncoder):
            return not self.refusals
        if self.trial is not None and (self.trial.is_won or self.trial.is_lost):
            return self.trial.is_won
        return may_adopt(self.held.lost, self.held.won, is_complete=is_complete)

    @property
    def refusals(self) -> tuple[str, ...]:
        """The reasons of the gate against an encoder that was offered, by the holdout and by its trial."""
        if not isinstance(self.making, OfferedEncoder):
            return ()
        limits = self.making.limits
        best = PrecisionEvaluation(name=self.next_fast_head.served.precisions[0])
        found = refusals(self.measured, best, limits)
        tried = Comparison(overall=self.tried.paired)
        if is_worse(tried, [tried.overall], limits):
            found.append("worse_on_trial")
        return tuple(found)

    @property
    def tried(self) -> EncoderTrial:
        """How the next encoder did in its trial, if it had one."""
        return EncoderTrial(self._served.key, self.trial.paired if self.trial else Paired())

    def wait(self) -> None:
        """Waits for the unit under way, if there is one. What it raises, the next `step` raises."""
        wait([self._under_way])

    @property
    def next_fast_head(self) -> FastHead:
        """The fast head in the making; the current one before the memory was read."""
        return self._next.head if self._next else self._fast_head

    def learn_meanwhile(self, samples: Sequence[Labelled], *, unlearnt: Sequence[Labelled] = ()) -> None:
        """Takes samples that came meanwhile, and that were taken out: the next unit does so to the next head, too.

        Before the memory is read nothing has to be done, since it is that of the current head. Where more comes than
        units take, some of what waits is done at once, when the unit under way has ended.
        """
        if self._next is not None:
            self._next.add_waiting(samples, unlearnt=unlearnt)
            if self._next.is_full:
                self.wait()
                self._next.unit(do_nothing)()

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """Takes a class, which is `samples`, out of the next head too, when the unit under way has ended."""
        if self._next is not None:
            self.wait()
            self._next.learn_waiting()
            self._next.evict(samples, old, new)

    @property
    def progress(self) -> float:
        """The share of the phase that is done, in [0, 1]."""
        if self._phase is None:
            return self.making.progress
        if self.phase is Phase.TRIAL and self.trial is not None:
            return self.trial.progress
        return self._next.progress if self._next else 1.0

    @property
    def _waits_for_labels(self) -> bool:
        """Whether a trial needs labels that have not come; only of use while no unit is under way."""
        trial = self.trial
        return self._has_trial and trial is not None and not trial.is_over and not trial.is_due

    def _all_units(self) -> Units:
        """Yields every unit. What stands between two of them runs in the learner's thread, while no unit does."""
        stored = yield from self.making.units()
        self._phase = Phase.READ
        yield do_nothing  # so that the caller can note the offsets before the memory is read
        self._next = NextHead(self._fast_head, stored, self._replay.samples(), unit=self._config.rebuild_batch)
        yield from self._rebuild(self._next)
        yield from self._measure(self._next)
        yield from self._try(self._next)
        self._phase = Phase.CATCH_UP
        yield from self._next.catch_up()

    def _rebuild(self, following: NextHead) -> Units:
        self._phase = Phase.REBUILD
        while following.has_memory:
            yield following.unit(following.rebuild)
        self._phase = Phase.CARRY_OVER
        while following.has_rest:
            yield following.unit(following.carry_over)

    def _measure(self, following: NextHead) -> Units:
        """Encodes the holdout samples by both encoders, then compares what both heads name."""
        self._phase = Phase.MEASURE
        holdout = self._holdout
        for served in (self._served, following.head.served):
            for precision in served.precisions:
                while texts := holdout.unencoded(served, precision)[: self._config.rebuild_batch]:
                    z_ND = yield following.unit(partial(served.z_many, texts, precision))
                    holdout.add_vectors(served, precision, texts, z_ND)
        self._phase = Phase.COMPARE
        following.admit()
        old = on_holdout(self._fast_head, holdout, self._fast_head.solver())
        new = on_holdout(following.head, holdout, following.head.solve)
        self.measured = yield following.unit(partial(measure_heads, new, old, self._anchor))

    def _try(self, following: NextHead) -> Units:
        """Compares both heads on new labels, if the holdout alone says too little."""
        if not self._has_trial or self.refusals:
            return
        self._phase = Phase.TRIAL
        self.trial = Trial(self._fast_head, following, held=self.held, max_labels=self._config.trial_labels)
        while self._has_trial and not self.trial.is_over:
            yield self.trial.unit()
