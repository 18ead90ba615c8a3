"""The fast head of the next encoder in the making: what the memory holds, what it does not, and what comes meanwhile.

    memory --rebuild, a unit at a time--> next fast head <--learn-- what waits <--learn_meanwhile-- new labels
    sums beyond the memory --carry_over------^

All sums are exact, so the order in which samples reach the head changes nothing.

Rejected: learning what comes meanwhile in the learner's thread (each label would be encoded by both encoders there).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from learner.fast.carry_over import CarryOver
from learner.fast.fast_head import FastHead
from learner.labels.sample import Labelled
from learner.slow.worker import Units

T = TypeVar("T")

MAX_WAITING: Final = 4_096
"""Samples that wait for the next units at most: those of 20 s at 200 labels a second, where a unit takes so long."""

MAX_TAKEN: Final = 256
"""Waiting samples that one unit learns at most."""

MAX_LAST: Final = 4
"""So few samples that still wait are learnt in the learner's thread, when everything else is done."""

MAX_CATCH_UPS: Final = 32
"""Units that catch up at most, where labels come faster than they are learnt. Then the rest is learnt at once."""


class NextHead:
    """Learns the samples of `memory` and all that came after it into `head`, which is empty; `old` goes on learning.

    Belongs to the learner's thread. The units that it returns may run in another, one at a time and while none of its
    methods runs: they touch neither `old` nor what waits.
    """

    def __init__(self, old: FastHead, head: FastHead, memory: Sequence[Labelled], *, unit: int) -> None:
        self.head = head
        self._old = old
        self._todo = list(memory)
        self._num_todo = max(len(memory), 1)
        self._unit = unit
        self._waiting: list[Labelled] = []
        self._unlearnt: list[Labelled] = []
        self.admit()
        self.has_rest = old.ridge.num_samples > len(memory)
        """Whether the old head knows something that the memory does not hold and that is not carried over yet."""
        self._carry_over = CarryOver(old.copy(), head) if self.has_rest else None

    def unit(
        self, work: Callable[[], T], *, before: Callable[[Sequence[Labelled]], None] = lambda _: None
    ) -> Callable[[], T]:
        """Returns a unit that does to the head what waits now, does `work`, and returns what that returns.

        `before` is called with the samples that wait, before they are learnt.
        """
        self.admit()
        unlearnt = [sample for sample in self._unlearnt if not _remove(sample, self._waiting)]
        from_head = [sample for sample in unlearnt if not _remove(sample, self._todo)]
        from_rest = list((Counter(unlearnt) - Counter(from_head)).elements())
        waiting = self._waiting[:MAX_TAKEN]
        self._waiting = self._waiting[MAX_TAKEN:]
        self._unlearnt = []

        def run() -> T:
            before(waiting)
            self.head.learn_many(waiting)
            self.head.unlearn_many(from_head)
            if self._carry_over is not None:
                self._carry_over.take_out(from_rest)
            return work()

        return run

    def rebuild(self) -> None:
        """Learns one unit of the memory."""
        samples = self._todo[: self._unit]
        self._todo = self._todo[self._unit :]
        if self._carry_over is None:
            self.head.learn_many(samples)
        else:
            self._carry_over.relearn(samples)

    def carry_over(self) -> None:
        """Does one unit of carrying over what the memory does not hold."""
        assert self._carry_over is not None, "the memory holds everything"
        self.has_rest = not self._carry_over.step()

    def admit(self) -> None:
        """Gives every class of the old head its row."""
        self.head.admit_all(self._old.ridge.classes)

    def add_waiting(self, samples: Sequence[Labelled], *, unlearnt: Sequence[Labelled] = ()) -> None:
        """Takes samples that came after the memory was read, and samples that were taken out, for the next unit."""
        self._waiting += samples
        self._unlearnt += unlearnt

    def learn_waiting(self) -> None:
        """Does all that waits at once."""
        while self._waiting or self._unlearnt:
            self.unit(do_nothing)()

    def catch_up(self) -> Units:
        """Yields units that learn what waits, until little does; then learns the rest at once."""
        for _ in range(MAX_CATCH_UPS):
            if len(self._waiting) > MAX_LAST:
                yield self.unit(do_nothing)
        self.learn_waiting()

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """Takes a class, which is `samples`, out of the head, and gives its row to another. Nothing may wait."""
        left = [sample for sample in self._todo if sample.label == old]
        learnt = Counter(samples) - Counter(left)
        self._todo = [sample for sample in self._todo if sample.label != old]
        self.admit()
        if self._carry_over is not None:
            self._carry_over.evict(left, old, new)
        self.head.evict(list(learnt.elements()), old, new)

    @property
    def has_memory(self) -> bool:
        """Whether samples of the memory are not learnt yet."""
        return bool(self._todo)

    @property
    def num_waiting(self) -> int:
        """Samples that wait to be learnt."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether more samples wait than may."""
        return len(self._waiting) + len(self._unlearnt) > MAX_WAITING

    @property
    def progress(self) -> float:
        """The share of the memory that is learnt, in [0, 1]."""
        return 1 - len(self._todo) / self._num_todo


def _remove(sample: Labelled, samples: list[Labelled]) -> bool:
    """Removes a sample from `samples`, once, if it is there; returns whether it was."""
    is_there = sample in samples
    if is_there:
        samples.remove(sample)
    return is_there


def do_nothing() -> None:
    """Does nothing: a unit that only learns what waits."""
