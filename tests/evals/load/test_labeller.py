"""Labels come back late; they can be held, and come when they are released."""

import threading
from collections.abc import Callable
from itertools import pairwise

from evals.load.labeller import Labeller, Reply, delays
from evals.load.sender import Sender, nothing
from tests.waiting import eventually
from wire.config import BusConfig
from wire.records import Event, Feedback

SECONDS = [delays(number, seed=0, between_s=(1.0, 4.0)) for number in range(5_000)]


def test_labels_are_late_and_overtake_each_other() -> None:
    first = [each[0] for each in SECONDS]
    assert min(first) >= 1.0
    assert max(first) <= 4.0
    assert sum(later < earlier for earlier, later in pairwise(first)) > 2_000


def test_one_label_in_a_hundred_comes_twice() -> None:
    twice = [each for each in SECONDS if len(each) == 2]
    assert len(twice) in range(25, 76)
    gaps = [second - first for first, second in twice]
    assert min(gaps) >= 1.0
    assert max(gaps) <= 4.0


def test_delays_depend_on_the_seed_and_the_number() -> None:
    assert delays(7, seed=1, between_s=(1.0, 4.0)) == delays(7, seed=1, between_s=(1.0, 4.0))
    assert delays(7, seed=1, between_s=(1.0, 4.0)) != delays(7, seed=2, between_s=(1.0, 4.0))
    assert delays(7, seed=1, between_s=(2.0, 2.0))[0] == 2.0


class Taken(Sender):
    """Collects labels and sends none."""

    def __init__(self) -> None:
        super().__init__(BusConfig, client_id="test")
        self.labels: list[Event | Feedback] = []

    def send(self, record: Event | Feedback, acknowledged: Callable[[], None] = nothing) -> None:
        self.labels.append(record)


def test_held_labels_come_immediately_when_they_are_released() -> None:
    taken = Taken()
    labeller = Labeller(taken, source="desk", delays=lambda number: (0.0,), label_of=lambda number: "a label")
    thread = threading.Thread(target=labeller.run)
    thread.start()
    try:
        labeller.schedule(1, Reply("chaos-1", "key", "receipt", ""))
        eventually(lambda: len(taken.labels) == 1)
        labeller.hold()
        labeller.schedule(2, Reply("chaos-2", "key", "receipt", ""))
        assert (len(taken.labels), labeller.num_due) == (1, 1)
        labeller.release()
        eventually(lambda: len(taken.labels) == 2)
    finally:
        labeller.close()
        thread.join()
