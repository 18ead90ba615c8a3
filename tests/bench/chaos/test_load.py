"""Checks that labels can be kept, and come when they are released."""

import threading
from collections.abc import Callable
from dataclasses import replace

from bench.chaos.ledger import ChaosLedger
from bench.chaos.load import ChaosLabeller, Reply, Texts
from bench.chaos.retrying import RetryingPublisher
from bench.chaos.size import SHORT
from evals.streams.stream import StreamItem
from tests.waiting import eventually
from wire.config import BusConfig
from wire.records import Event, Feedback


class Sent(RetryingPublisher):
    """Takes labels, and sends none."""

    def __init__(self) -> None:
        super().__init__(BusConfig, client_id="test")
        self.labels: list[Event | Feedback] = []

    def send(self, record: Event | Feedback, acknowledged: Callable[[], None]) -> None:
        self.labels.append(record)


def test_kept_labels_come_at_once_when_they_are_released() -> None:
    sent = Sent()
    ledger = ChaosLedger(http_every=10, clock_s=lambda: 0.0)
    at_once = replace(SHORT, label_delay_s=(0.0, 0.0))
    labeller = ChaosLabeller(Texts([StreamItem("a text", "a label")]), ledger, sent, at_once)
    thread = threading.Thread(target=labeller.run)
    thread.start()
    try:
        labeller.schedule(1, Reply("chaos-1", "key", "receipt", ""))
        eventually(lambda: len(sent.labels) == 1)
        labeller.hold()
        labeller.schedule(2, Reply("chaos-2", "key", "receipt", ""))
        assert (len(sent.labels), labeller.num_due) == (1, 1)
        labeller.release()
        eventually(lambda: len(sent.labels) == 2)
    finally:
        labeller.close()
        thread.join()
