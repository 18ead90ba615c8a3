"""The labels of a series: a thread reads those that come from now on, and tells the series of each.

    feedback.v1 --all partitions--> not trusted? outside the set? --> Series.add_label, under the name that it has now

Every replica reads all labels, since a label of an event may lie in any partition. What came before the start is not
read: the series that it belongs to begins anew, too. A label counts as soon as it lies in the topic, before the learner
has judged it. Receipts, rates and shares are checked as in the learner, under the same settings (`learner.trust`); the
flip alarm, which needs what the model has answered, is the learner's alone.

Rejected: taking the labels that come by HTTP to this replica (most come over Kafka, or to another one).
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import structlog

from serving.errors import Unhealthy
from serving.series import Series
from wire.backoff import Backoff
from wire.bus import Bus, Received
from wire.config import TrustConfig
from wire.errors import WireError
from wire.label_set import LabelSet
from wire.rate_limits import Rates, Shares
from wire.receipts import Receipts, time_of
from wire.records import Feedback
from wire.targets import shown_label
from wire.threads import BackgroundThread

POLL_MS = 50

log = structlog.get_logger("series")


class SeriesLabels:
    """Reads labels for `series`, if that needs them. Verbs: start, check, close.

    `trust` says which labels are believed, and `labels` returns the set of labels as it is now.
    """

    def __init__(
        self,
        bus: Bus,
        series: Series,
        receipts: Receipts,
        labels: Callable[[], LabelSet],
        *,
        trust: TrustConfig,
        backoff: Backoff,
    ) -> None:
        self._bus = bus
        self._series = series
        self._receipts = receipts
        self._labels = labels
        self._trust = trust
        self._rates = Rates(per_s=trust.source_labels_per_s, burst=trust.source_burst, max_sources=trust.max_sources)
        self._shares = Shares(share=trust.source_share, window=trust.source_window)
        self._backoff = backoff
        self._thread = BackgroundThread(self._run, name="series")

    def start(self) -> None:
        if self._series.needs_labels:
            self._thread.start()

    def check(self) -> None:
        """Raises Unhealthy where the thread has ended by itself."""
        if self._series.needs_labels:
            self._thread.check(Unhealthy)

    def close(self) -> None:
        self._thread.close()

    def _run(self) -> None:
        """Reads until closed.

        consumes: Feedback, from the ends of all partitions on
        produces: labels of the series
        waits for: records, at most POLL_MS; the back-off, while the broker is unreachable
        unblocked by: records, the end of these times, close
        """
        num_failures = 0
        while not self._thread.closing.is_set():
            try:
                with closing(self._bus.follow([Feedback], self._bus.end_offsets(Feedback))) as follower:
                    while not self._thread.closing.is_set():
                        for received in follower.poll(POLL_MS).received:
                            self._add(received)
                        num_failures = 0
            except WireError as error:
                num_failures += 1
                if num_failures == 1:  # an outage is logged once
                    log.warning("labels_not_read", error=str(error))
                self._thread.closing.wait(self._backoff.pause_s(num_failures))

    def _add(self, received: Received[Any]) -> None:
        feedback: Feedback = received.record
        labels = self._labels()
        if labels.refusal(feedback.target, lambda _: True) or not self._is_trusted(feedback, received.log_ms):
            return
        self._series.add_label(feedback, shown_label(labels.name_of(feedback.target)))

    def _is_trusted(self, feedback: Feedback, log_ms: int) -> bool:
        """Whether the label is believed. The clock of its source is the time of the answers that it labels; of a label
        without a receipt, the time at which the label came."""
        refusal = self._receipts.refusal(
            feedback, is_required=self._trust.require_receipts, max_age_ms=1e3 * self._trust.receipt_max_age_s
        )
        answer_ms = time_of(feedback.receipt) if feedback.receipt else log_ms
        return not refusal and self._rates.take(feedback.source, answer_ms) and self._shares.add(feedback.source)
