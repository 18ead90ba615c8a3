"""What two threads have learnt of a backlog is, bit for bit, what one has learnt label by label."""

import math
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from learner.fast.fast_head import RELEARN_BATCH
from learner.learner import Learner
from learner.rounds.worker import INLINE
from learner.samples import HoldoutDraw
from tests.learner.small_learner import CONFIG, small_learner
from tests.learner.streams import answer, labelled_events
from wire.receipts import Receipts

NUM = 4 * RELEARN_BATCH
RECEIPTS = Receipts(b"a key for the tests")


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


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("holdout_share", [0.0, 1.0])
def test_a_sample_whose_vector_has_overflowed_is_in_no_sum(number: float, holdout_share: float) -> None:
    """F10: one such row in the sums had made every later version one without numbers."""
    clean = small_learner(holdout_share=0.0)
    clean.learn_many(labelled_events(range(40)), {})
    it = small_learner(holdout_share=0.0)
    it.learn_many(labelled_events(range(20)), {})
    it.names.is_in_holdout = HoldoutDraw(holdout_share)
    served = it.fast_head.served
    z = np.full(CONFIG.d_model, number, dtype="<f4").tobytes()
    text = answer(100).text
    served.known.add(text, RECEIPTS.vector(text, z, served.known.encoding))
    it.learn_many(labelled_events(range(100, 101)), {})
    it.names.is_in_holdout = HoldoutDraw(0.0)
    it.learn_many(labelled_events(range(20, 40)), {})
    assert it.counts["samples_set_apart"] == 1
    assert len(it.knowledge.holdout) == 0
    sums = it.fast_head.export()
    assert all(torch.equal(value, sums[name]) for name, value in clean.fast_head.export().items())
