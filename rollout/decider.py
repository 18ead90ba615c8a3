"""Adds answers and labels to the tallies, and carries out the step of the plan that is due after them.

    Answer, Feedback --refusal--> LabelJoin --JudgedLabel--> Tallies --due_step--> a step of the plan --> the store

This file has no thread and reads no topic: `rollout/judge.py` reads the records and calls the decider.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import structlog

from rollout.alarms import Alarms
from rollout.config import RolloutConfig
from rollout.due_step import DecisionInputs, Step, due_step, objection
from rollout.judged_events import MAX_EVENTS, JudgedEvent, JudgedEvents, JudgedLabel
from rollout.label_join import LabelJoin, make_source_quota
from rollout.paired_rule import OPERATIONAL_THRESHOLD
from rollout.plans import PlanChange, change
from rollout.reports import ArmAccuracies, ArmCounts, LabelToLive, SwapSkews
from rollout.statistics import log_e_value_mismatch
from rollout.tallies import PlanKey, Tallies, TalliesState
from wire.config import LabelConfig, TrustConfig
from wire.errors import BadSignature, UnknownFormat
from wire.events import with_key
from wire.label_set import LabelSet, with_label
from wire.records import Answer, Feedback, LabelRate, LogMark, LogMarks, ReplicaReport, RolloutPlan, VersionHealth
from wire.store import Store

log = structlog.get_logger("rollout")


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The judge's present state, for the controller and its report.

    - `evidence`: a summary of the tallies in words.
    - `waits_for`: what the next decision waits for ("": nothing).
    - `objection`: why no version may become stable at its publication ("": there is no objection).
    - `label_to_live`: the totals of LabelToLive.
    """

    evidence: str = ""
    waits_for: str = ""
    objection: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    label_rates: tuple[LabelRate, ...] = ()
    label_to_live: tuple[tuple[int, ...], float] = ((), 0.0)
    swap_skews_ms: tuple[float, ...] = ()
    arm_counts: tuple[ArmCounts, ...] = ()


class Decider:
    """Owns the tallies, and the judge's alarms. Verbs: restore, follow_plan, follow_health, add, decide, state, save.

    - `trust`: the learner's settings. Labels that the learner would hold back because of their source do not count here
      either.
    - `refusal`: returns the reason why a label is not believed ("": it is believed).
    - `is_audited`: whether the event with this id is in the audit: the random sample of events whose labels are always
      requested.
    - `labels`: the settings of the label set, which decides which labels are equal.
    """

    def __init__(
        self,
        store: Store,
        *,
        config: RolloutConfig,
        trust: TrustConfig,
        refusal: Callable[[Feedback], str],
        now_ms: Callable[[], int],
        is_audited: Callable[[str], bool] = lambda event_id: False,
        labels: LabelConfig | None = None,
    ) -> None:
        self.alarms = Alarms()
        self._store = store
        self._config = config
        self._refusal = refusal
        self._now_ms = now_ms
        self._is_audited = is_audited
        self._labels = LabelSet(labels or LabelConfig())
        self._source_quota = make_source_quota(trust, share=config.source_share)
        self._join = self._make_join(TalliesState(seed=secrets.randbits(32)))
        self._tallies = Tallies()
        self._plan: RolloutPlan | None = None
        self._health: Mapping[int, VersionHealth] = {}
        self._waits_for = ""
        self.label_to_live = LabelToLive(lambda version: store.versions.manifest(version).trained_through)
        self._arm_accuracies = ArmAccuracies()
        self._skews = SwapSkews()

    def restore(self) -> tuple[dict[str, int], dict[str, LogMark]]:
        """Continues from the tallies in the store. Returns the offsets from which to read, and the logs' marks at these
        offsets.

        If there are no tallies, both are empty, and the judge reads from the ends of the logs. Tallies about versions
        that the plan does not name are dropped.
        """
        plans = self._store.plans
        try:
            state = plans.read_evidence(TalliesState)
            if state is not None:
                self._join = self._make_join(state, plans.read_judged(JudgedEvent))
        except (BadSignature, UnknownFormat) as error:
            self.alarms.counts["evidence_unreadable"] += 1
            log.warning("evidence_unreadable", reason=str(error))
            plans.forget_evidence()
            state = None
        self._tallies = Tallies(state)
        self.follow_plan()
        self._follow_label_set()
        return (dict(state.offsets), dict(state.marks)) if state else ({}, {})

    def _make_join(self, state: TalliesState, events: Sequence[JudgedEvent] = ()) -> LabelJoin:
        """Returns a join that continues from the tallies. `events` are the events that have been judged."""
        # An event has three aliases or more.
        num_known = 3 * self._config.max_unlabelled
        judged = JudgedEvents(num_known, seed=state.seed, events=events, last_number=state.last_number)
        join = LabelJoin(self._config.max_unlabelled, judged, self._source_quota, self._is_audited)
        join.follow(self._labels)
        return join

    def follow_plan(self) -> None:
        """Reads the plan in force, and follows its versions. To be called before each batch of records."""
        self._plan = self._store.plans.read()
        if self._plan is not None:
            self._tallies.follow(self._plan)

    def follow_health(self) -> None:
        """Reads the health of each version from the replicas' reports. A restarted replica counts from 0."""
        reports = self._store.reports.replicas()
        self._health = sum_health(reports)
        self._skews.add(reports)
        self._follow_label_set()

    def _follow_label_set(self) -> None:
        """Applies the operators' changes of the label set, so that labels and predictions are compared by their present
        names."""
        commands = self._store.labels.requested(self._labels.number)
        if commands:
            self._labels = self._labels.after_all(commands)
            self._join.follow(self._labels)

    def save(self, offsets: Mapping[str, int], marks: LogMarks) -> None:
        """Saves the tallies with the judged events. The tallies contain every record up to `offsets`."""
        judged = self._join.judged
        tallies = self._tallies.export(dict(offsets), marks, seed=judged.seed)
        self._store.plans.write_evidence(tallies, judged.unsaved, max_judged=MAX_EVENTS)
        judged.mark_saved()

    def add(self, record: Answer | Feedback) -> bool:
        """Adds the record to the evidence; returns whether a label was judged."""
        if isinstance(record, Answer):
            self._tallies.add_answer(record)
            label = self._join.add_answer(record)
        else:
            label = self._add_label(with_key(record, self._join.waiting(record.event_id), self._refusal))
        if label is None:
            return False
        self._tallies.add_label(label, self._now_ms())
        self._arm_accuracies.add(label)
        return True

    def _add_label(self, feedback: Feedback) -> JudgedLabel | None:
        if reason := self._refusal(feedback) or self._labels.refusal(feedback.label_string, lambda name: True):
            self._join.counts[f"label_{reason}"] += 1
            return None
        return self._join.add_label(with_label(feedback, self._labels.name_of(feedback.label_string)))

    def decide(self) -> bool:
        """Carries out the step of the plan that is due; returns whether the plan changed.

        Raises WireError or NotPossible. The caller may then call it again.
        """
        plan = self._plan
        if plan is None or plan.pinned:
            return False
        self._tallies.settle_events(self._now_ms())
        self._compare_label_rates(plan)
        step, self._waits_for = due_step(
            DecisionInputs(
                plan=plan,
                tallies=self._tallies,
                health=self._health,
                config=self._config,
                now_ms=self._now_ms(),
                has_other_encoder=self._has_other_encoder,
                is_imported=self._store.versions.is_imported,
            )
        )
        if step is None:
            return False
        after = change(self._store.plans, partial(_step_if_unchanged, judged=plan, step=step))
        if after is None:
            return False
        self._plan = after
        self._tallies.follow(after)
        log.info("decided", revision=after.revision, stable=after.stable, candidate=after.candidate, why=after.reason)
        return True

    def state(self) -> RolloutState:
        tallies = self._tallies
        return RolloutState(
            evidence=str(tallies),
            waits_for=self._waits_for,
            objection=objection(tallies),
            counts=dict(self._join.counts),
            label_rates=tallies.arm_traffic.label_rates(),
            label_to_live=self.label_to_live.totals(),
            swap_skews_ms=self._skews.recent(),
            arm_counts=self._arm_accuracies.counts(),
        )

    def _compare_label_rates(self, plan: RolloutPlan) -> None:
        """Raises an alarm if the arms' shares of the labelled keys differ from their shares of the traffic."""
        candidate_share = self._tallies.frame.share
        if not candidate_share:
            return
        arm_traffic = self._tallies.arm_traffic
        labelled = arm_traffic.labelled_split(stable_share=plan.arms[0].share, candidate_share=candidate_share)
        if log_e_value_mismatch(labelled.keys, labelled.shares) < OPERATIONAL_THRESHOLD:
            self.alarms.clear("label_rates")
            return
        stable, candidate = labelled.keys
        counts = f"{candidate} of the candidate's entities have labels, and {stable} of the stable version's"
        self.alarms.raise_("label_rates", f"whether a label comes depends on the arm that answered: {counts}")

    def _has_other_encoder(self, version: int, reference: int) -> bool:
        """Whether the two versions' encoders differ, so that they cannot be compared by pairs. Raises NotFound."""
        manifest = self._store.versions.manifest
        return bool(reference) and manifest(version).encoder_digests != manifest(reference).encoder_digests


def sum_health(reports: Iterable[ReplicaReport]) -> dict[int, VersionHealth]:
    """Returns the health of each version, summed over all replicas."""
    sums: dict[int, VersionHealth] = {}
    for health in chain.from_iterable(report.health for report in reports):
        before = sums.get(health.version, VersionHealth(version=health.version))
        sums[health.version] = VersionHealth(
            version=health.version,
            answers=before.answers + health.answers,
            errors=before.errors + health.errors,
            timed=before.timed + health.timed,
            slow=before.slow + health.slow,
        )
    return sums


def _step_if_unchanged(in_force: RolloutPlan | None, *, judged: RolloutPlan, step: Step) -> PlanChange | None:
    """Returns the step from the plan in force; None if that plan differs from the `judged` one in a way that matters.

    An operator, or a promotion at a publication, may have changed the plan meanwhile.
    """
    if in_force is None or in_force.pinned or PlanKey.of(in_force) != PlanKey.of(judged):
        return None
    if (in_force.paused, in_force.approved) != (judged.paused, judged.approved):
        return None
    return step(in_force)
