"""Judges labels, and carries out what follows for the versions of the plan.

    Answer, Feedback --refusal--> LabelJoin --JudgedLabel--> Tallies --> decide --> a step of the plan

After each batch of records it asks, in this order: did the stable version turn bad; is the candidate to be withdrawn or
promoted; are the newest versions better than the stable one; may the reference move; is the next step of the ramp due?
Versions that share the stable one's encoder are decided on by paired evidence, others by the answers of their own arms.
There is no thread and no topic here: `rollout/judge.py` reads the records, and calls.
"""

import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

import structlog

from rollout import paired_rule, plans, unpaired_rule
from rollout.alarms import Alarms
from rollout.change import change
from rollout.config import RolloutConfig
from rollout.influence import Influence
from rollout.label_join import JudgedLabel, LabelJoin
from rollout.plans import UNPAIRED, Grounds, PlanChange
from rollout.tallies import Frame, Tallies, TalliesState
from wire.config import TrustConfig
from wire.errors import BadSignature, UnknownFormat
from wire.records import Answer, Feedback, RolloutPlan
from wire.store import Store

CHANGE: Final = "change"
"""The rule that a stable version has turned bad, in decisions."""

MAX_NUMBER: Final = 1e9
"""Largest number that is written with a decision: JSON has no infinity."""

log = structlog.get_logger("rollout")


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The judge's state so far; `evidence` is in words, `waits_for` says what a decision waits for ("" for nothing).

    `objection` says why no version may become stable at its publication ("" where nothing stands against it).
    """

    evidence: str = ""
    waits_for: str = ""
    objection: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


class Decider:
    """Owns the tallies, and the alarms of judging by them. Verbs: restore, follow_plan, add, decide, state, save.

    `trust` has the learner's settings: labels that the learner would hold for their source do not count here either.
    `refusal` returns why a label is not believed, "" where it is.
    """

    def __init__(
        self,
        store: Store,
        *,
        config: RolloutConfig,
        trust: TrustConfig,
        refusal: Callable[[Feedback], str],
        now_ms: Callable[[], int],
    ) -> None:
        self.alarms = Alarms()
        self._store = store
        self._config = config
        self._refusal = refusal
        self._now_ms = now_ms
        self._influence = Influence(trust, share=config.source_share)
        self._join = LabelJoin(config.max_unlabelled, self._excess, seed=secrets.randbits(32))
        self._tallies = Tallies()
        self._waits_for = ""

    def restore(self) -> dict[str, int]:
        """Goes on from the tallies that are in the store; returns the offsets from which to read ({}: the ends).

        Tallies of other versions than those of the plan are dropped.
        """
        try:
            state = self._store.plans.read_evidence(TalliesState)
        except (BadSignature, UnknownFormat) as error:
            self.alarms.counts["evidence_unreadable"] += 1
            log.warning("evidence_unreadable", reason=str(error))
            state = None
        self._tallies = Tallies(state)
        self.follow_plan()
        return dict(state.offsets) if state else {}

    def follow_plan(self) -> RolloutPlan | None:
        """Goes over to the versions of the plan in force, which it returns. It is asked before records are added."""
        plan = self._store.plans.read()
        if plan is not None:
            self._tallies.follow(plan)
        return plan

    def save(self, offsets: Mapping[str, int]) -> None:
        """Writes the tallies, and the offsets below which every record is in them."""
        self._store.plans.write_evidence(self._tallies.export(dict(offsets)))

    def add(self, record: Answer | Feedback) -> bool:
        """Adds the record to what is known; returns whether a label was judged."""
        if isinstance(record, Answer):
            self._tallies.add_answer(record)
            label = self._join.add_answer(record)
        elif reason := self._refusal(record):
            self._join.counts[f"label_{reason}"] += 1
            return False
        else:
            label = self._join.add_label(record)
        if label is None:
            return False
        self._tallies.add_label(label, self._now_ms())
        return True

    def decide(self) -> bool:
        """Carries out what is known now; returns whether the plan was changed. Raises WireError and NotPossible, and
        may be called again then."""
        plan = self.follow_plan()
        if plan is None or plan.pinned:
            return False
        self._tallies.settle(self._now_ms())
        step = self._step(plan)
        if step is None:
            return False
        after = change(self._store.plans, partial(_if_same, judged=Frame.of(plan), step=step))
        if after is None:
            return False
        self._tallies.follow(after)
        log.info("decided", revision=after.revision, stable=after.stable, candidate=after.candidate, why=after.reason)
        return True

    def state(self) -> RolloutState:
        newest = self._tallies.newest.stable
        is_worse = paired_rule.shown_below(newest, 0.0) >= paired_rule.THRESHOLD
        objection = f"the newest versions are worse than the stable one, {newest.labels}" if is_worse else ""
        return RolloutState(str(self._tallies), self._waits_for, objection, dict(self._join.counts))

    def _excess(self, label: JudgedLabel) -> str:
        return self._influence.excess(label.source, label.answer_ms)

    def _step(self, plan: RolloutPlan) -> Callable[[RolloutPlan], PlanChange] | None:
        """Returns the step of the plan that is due, None where none is."""
        now_ms = self._now_ms()
        if plan.previous and self._tallies.stable_watch.is_alarm:
            numbers = {"turned_bad": self._tallies.stable_watch.log_e}
            grounds = Grounds(CHANGE, f"it turned worse than version {plan.previous}, the one before", numbers)
            return partial(plans.return_to, version=plan.previous, grounds=grounds, now_ms=now_ms)
        if plan.reference and self._tallies.chain_watch.is_alarm:
            numbers = {"turned_bad": self._tallies.chain_watch.log_e}
            grounds = Grounds(CHANGE, f"the stable versions turned worse than the reference {plan.reference}", numbers)
            return partial(plans.return_to, version=plan.reference, grounds=grounds, now_ms=now_ms)
        return (
            self._candidate_step(plan, now_ms)
            or self._newest_step(plan, now_ms)
            or self._reference_step(plan, now_ms)
            or self._ramp_step(plan, now_ms)
        )

    def _candidate_step(self, plan: RolloutPlan, now_ms: int) -> Callable[[RolloutPlan], PlanChange] | None:
        """Withdraws or promotes the candidate by paired evidence."""
        self._waits_for = ""
        if not plan.candidate:
            return None
        evidence = self._tallies.evidence(stable_share=plan.arms[0].share, is_exposed=self._is_exposed(plan))
        ruling = paired_rule.decide(evidence)
        grounds = Grounds(ruling.rule, ruling.reason, numbers_of(ruling.numbers))
        if ruling.action == "withdraw":
            return partial(plans.withdraw, version=plan.candidate, grounds=grounds, now_ms=now_ms)
        if ruling.action == "hold":
            self._waits_for = ruling.reason
        elif self._may_promote(plan, plan.candidate, grounds):
            is_better = ruling.numbers.better_than_reference >= paired_rule.THRESHOLD
            moves_reference = is_better or self._has_other_encoder(plan.candidate, plan.reference)
            return partial(
                plans.promote, grounds=grounds, config=self._config, moves_reference=moves_reference, now_ms=now_ms
            )
        return None

    def _newest_step(self, plan: RolloutPlan, now_ms: int) -> Callable[[RolloutPlan], PlanChange] | None:
        """Makes the newest version stable where the newest ones are better than the stable one (rule B), or have
        another encoder and are not worse; withdraws those of another encoder that are worse.

        By hand it is the approved version instead.
        """
        version = plan.newest if self._config.approval == "automatic" else plan.candidate
        arms = unpaired_rule.decide(self._tallies.arms, self._config)
        if arms.action != "hold":
            grounds = Grounds(UNPAIRED, arms.reason, arms.numbers)
            if arms.action == "withdraw":
                return partial(plans.withdraw, version=plan.newest, grounds=grounds, now_ms=now_ms)
        else:
            ruling = paired_rule.decide(self._tallies.newest)
            grounds = Grounds(ruling.rule, ruling.reason, numbers_of(ruling.numbers))
            if ruling.action != "promote" or self._config.approval == "by_hand":
                return None
        if version <= plan.stable or not self._may_promote(plan, version, grounds):
            return None
        moves_reference = plan.reference == plan.stable or self._has_other_encoder(version, plan.reference)
        return partial(plans.add, version=version, grounds=grounds, moves_reference=moves_reference, now_ms=now_ms)

    def _has_other_encoder(self, version: int, reference: int) -> bool:
        """Whether later versions, which have the encoder of `version`, cannot be compared with the reference."""
        return bool(reference) and len({self._encoder_of(version), self._encoder_of(reference)}) > 1

    def _encoder_of(self, version: int) -> frozenset[str]:
        """Returns the digests of the encoder's tensors. Raises NotFound."""
        tensors = self._store.versions.manifest(version).tensors
        return frozenset(tensor.digest for tensor in tensors if not tensor.name.startswith("head."))

    def _may_promote(self, plan: RolloutPlan, version: int, grounds: Grounds) -> bool:
        if plan.paused:
            self._waits_for = f"paused: {grounds.reason}"
        elif self._config.approval == "by_hand" and plan.approved != version:
            self._waits_for = f"waits for `lifelong rollout approve {version}`: {grounds.reason}"
        else:
            return True
        return False

    def _reference_step(self, plan: RolloutPlan, now_ms: int) -> Callable[[RolloutPlan], PlanChange] | None:
        """Moves the reference where the stable versions since then are shown to be better than it."""
        better = paired_rule.shown_above(self._tallies.chain.comparison(), 0.0)
        if better < paired_rule.THRESHOLD or plan.stable == plan.reference or plan.paused:
            return None
        reason = f"better than version {plan.reference}: {self._tallies.chain.labels}"
        grounds = Grounds("", reason, {"better_than_reference": better})
        return partial(plans.move_reference, grounds=grounds, now_ms=now_ms)

    def _ramp_step(self, plan: RolloutPlan, now_ms: int) -> Callable[[RolloutPlan], PlanChange] | None:
        larger = [share for share in self._config.ramp if share > self._tallies.frame.share]
        is_due = plan.candidate and not plan.paused and self._tallies.num_answers >= self._config.ramp_answers
        return partial(plans.ramp, share=larger[0], now_ms=now_ms) if is_due and larger else None

    def _is_exposed(self, plan: RolloutPlan) -> bool:
        """Whether the ramp of the candidate is over."""
        is_last = self._tallies.frame.share >= self._config.ramp[-1]
        return is_last and self._tallies.num_answers >= self._config.ramp_answers


def numbers_of(numbers: paired_rule.Numbers) -> dict[str, float]:
    """Returns the numbers of a ruling as a decision keeps them: finite, rounded to four digits."""
    return {name: round(min(value, MAX_NUMBER), 4) for name, value in asdict(numbers).items() if not math.isnan(value)}


def _if_same(
    in_force: RolloutPlan | None, *, judged: Frame, step: Callable[[RolloutPlan], PlanChange]
) -> PlanChange | None:
    """Returns the step from the plan in force; None where an operator or rule A has changed what was judged."""
    if in_force is None or in_force.pinned or Frame.of(in_force) != judged:
        return None
    return step(in_force)
