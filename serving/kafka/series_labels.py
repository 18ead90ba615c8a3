"""The labels of a series: a thread reads those that come from now on, and tells the series of each.

    feedback.v1 --all partitions--> forged? outside the set? --> Series.add_label, under the name that it has now

Every replica reads all labels, since a label of an event may lie in any partition. What came before the start is not
read: the series that it belongs to begins anew, too. A label counts as soon as it lies in the topic, before the learner
has judged it, as long as its receipt, where it has one, is ours.

Rejected: taking the labels that come by HTTP to this replica (most come over Kafka, or to another one).
"""

from collections.abc import Callable
from contextlib import closing
from math import inf
from typing import Any

import structlog

from serving.errors import Unhealthy
from serving.series import Series
from wire.backoff import Backoff
from wire.bus import Bus, Received
from wire.errors import WireError
from wire.label_set import LabelSet
from wire.receipts import Receipts
from wire.records import Feedback
from wire.targets import shown_label
from wire.threads import BackgroundThread

POLL_MS = 50

log = structlog.get_logger("series")


class SeriesLabels:
    """Reads labels for `series`, if that needs them. Verbs: start, check, close."""

    def __init__(
        self, bus: Bus, series: Series, receipts: Receipts, labels: Callable[[], LabelSet], *, backoff: Backoff
    ) -> None:
        self._bus = bus
        self._series = series
        self._receipts = receipts
        self._labels = labels
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
        is_forged = self._receipts.refusal(feedback, is_required=False, max_age_ms=inf)
        if not is_forged and not labels.refusal(feedback.target, lambda _: True):
            self._series.add_label(feedback, shown_label(labels.name_of(feedback.target)))
