"""Labels that were believed although they contradict their answers: an alarm that begins withdraws those behind it.

    label, not held --add--> suspects --take, the events that have raised a chart--> withdrawn

Which of them have raised a chart, `learner.labels.flip_detector` knows by the hashes of their events. The contents are
here once, for the quarantine and for `learner.unlearning`. The oldest go first: a chart is raised within some hundred
labels, and a label that has gone stays learnt.

Rejected: looking for the contents in the replay memory (it has dropped most of a long stream, and knows no ids).
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec

from learner.labels.sample import Sample

MAX_SUSPECTS: Final = 4_096
MAX_BYTES: Final = 4 << 20
"""Most bytes of text."""


class Suspects:
    """Holds samples by the hash of their event, oldest first."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._samples = OrderedDict[int, Sample]()
        self._num_bytes = 0
        for sample in samples:
            self.add(sample)

    def add(self, sample: Sample) -> None:
        """Adds a sample; the oldest go. The bounds hold afterwards."""
        self.take([sample.event])
        self._samples[sample.event] = sample
        self._num_bytes += _num_bytes(sample)
        while len(self._samples) > MAX_SUSPECTS or self._num_bytes > MAX_BYTES:
            _, oldest = self._samples.popitem(last=False)
            self._num_bytes -= _num_bytes(oldest)

    def take(self, events: Collection[int]) -> list[Sample]:
        """Takes the samples of these events out, as far as they are here; returns them, oldest first."""
        if self._samples.keys().isdisjoint(events):
            return []
        taken = [sample for event, sample in self._samples.items() if event in events]
        for sample in taken:
            del self._samples[sample.event]
            self._num_bytes -= _num_bytes(sample)
        return taken

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Removes the samples about erased subjects; returns how many there were."""
        events = {event for event, sample in self._samples.items() if is_erased(sample.subject)}
        return len(self.take(events))

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Goes on under other names of the classes. The samples of one that is named "" go."""
        for sample in self.take(set(self._samples)):
            if name := name_of(sample.label):
                self.add(msgspec.structs.replace(sample, label=name))

    def export(self) -> list[Sample]:
        return list(self._samples.values())


def _num_bytes(sample: Sample) -> int:
    return len(sample.text.encode())
