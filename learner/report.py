"""Reports the state of the leading learner to the store, where commands and the page read it. A standby sends none."""

import time
from collections.abc import Callable

from learner.intake.consumer import Consumer
from learner.label_traces import LabelTraces
from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.publisher import WeightPublisher
from wire.errors import StoreUnavailable
from wire.records import Evaluation, LearnerReport

REPORT_INTERVAL_S = 0.5
"""The shortest time between two reports."""


class Reporter:
    """Sends the learner's reports, at most one every REPORT_INTERVAL_S seconds, while the store is reachable."""

    def __init__(
        self,
        send: Callable[[LearnerReport], None],
        leadership: Leadership,
        *,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._leadership = leadership
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._next_s = 0.0

    def report(
        self,
        learner: Learner,
        publisher: WeightPublisher,
        consumer: Consumer,
        label_traces: LabelTraces,
        *,
        is_last: bool = False,
    ) -> None:
        """Sends a report if one is due. The last report of a process does not wait for the interval."""
        is_time = is_last or self._clock_s() >= self._next_s
        if not is_time or not self._leadership.breaker.allows_requests:
            return
        self._next_s = self._clock_s() + REPORT_INTERVAL_S
        candidate = publisher.last
        slow = learner.knowledge.round
        self._try_send(
            LearnerReport(
                learner=self._leadership.holder,
                state="stopped" if is_last else "learning",
                time_ms=self._now_ms(),
                epoch=self._leadership.lease.epoch,
                version=learner.version,
                num_classes=len(learner.fast_head.ridge.classes),
                counts=_counts(learner),
                alarms=(*consumer.alarms(), *_alarms(learner)),
                lag=consumer.lag(),
                accuracy=learner.prequential.accuracy,
                recent_accuracy=learner.prequential.recent_accuracy,
                evaluation=candidate.measured.evaluation if candidate else Evaluation(),
                refusals=publisher.refusals,
                replay_samples=len(learner.replay),
                holdout_samples=len(learner.knowledge.holdout),
                round_phase=slow.phase.value if slow else "",
                round_progress=slow.progress if slow else 0.0,
                is_rested=learner.is_rested,
                publish_ms=publisher.last_ms,
                read_ms=round(label_traces.read_ms),
                learn_ms_per_label=learner.pace.ms,
                drifts=tuple(learner.drift.recent),
                durable_version=publisher.durability.version,
                confusions=learner.prequential.confusions(),
            )
        )

    def _try_send(self, report: LearnerReport) -> None:
        try:
            self._send(report)
        except StoreUnavailable as error:
            self._leadership.breaker.trip(error)


def _alarms(learner: Learner) -> tuple[str, ...]:
    """Returns a sentence for each condition that needs an operator."""
    flips = (f"{alarm}; such labels are held (`lifelong quarantine list`)" for alarm in learner.trust.flips.alarms())
    error = learner.schedule.error
    strategy = () if error is None else (f"learner.slow_strategy is off until the learner is restarted: {error}",)
    return (*flips, *learner.join.alarms(), *learner.knowledge.classes.alarms(), *strategy)


def _counts(learner: Learner) -> dict[str, int]:
    """Returns the counters of all parts of the learner, and some gauges, which are reported like counters."""
    counts = dict(learner.join.counts + learner.counts + learner.drift.counts) | learner.letters.counts
    counts |= learner.join.late.counts
    return counts | {
        "gate_in_a_row": learner.progress.num_refused,
        "parked": learner.join.num_parked,
        "flip_alarms": learner.trust.flips.num_raised,
        "classes_provisional": learner.knowledge.classes.num_provisional,
    }
