"""What two threads have learnt of a backlog is, bit for bit, what one has learnt label by label."""

from concurrent.futures import Executor, ThreadPoolExecutor

import torch

from learner.fast.fast_head import RELEARN_BATCH
from learner.learner import Learner
from learner.slow.worker import INLINE
from tests.learner.small_learner import small_learner
from tests.learner.streams import labelled_events

NUM = 4 * RELEARN_BATCH


def learnt(batch: int, helper: Executor = INLINE) -> Learner:
    """A learner that has read the stream in batches of so many events."""
    it = small_learner()
    it.helper = helper
    for first in range(0, NUM, batch):
        it.learn_many(labelled_events(range(first, min(first + batch, NUM))), {})
    return it


def test_batches_and_threads_change_no_bit_of_what_is_learnt() -> None:
    alone = learnt(1)
    with ThreadPoolExecutor(1) as helper:
        together = learnt(NUM, helper)
    sums = together.fast_head.export()
    assert all(torch.equal(value, sums[name]) for name, value in alone.fast_head.export().items())
    assert alone.fast_head.ridge.classes == together.fast_head.ridge.classes
    for memory in ("replay", "fresh"):
        assert getattr(alone.knowledge, memory).export() == getattr(together.knowledge, memory).export()
    assert alone.counts == together.counts


def test_the_holdout_is_encoded_with_the_labels_beside_it() -> None:
    it = learnt(NUM)
    served = it.fast_head.served
    assert len(it.knowledge.holdout) > 0
    assert it.knowledge.holdout.unencoded(served, served.precisions[0]) == []
