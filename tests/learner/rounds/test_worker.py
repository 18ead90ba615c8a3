"""Slow work in another thread changes only the time that it takes."""

import os
import threading
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.learner import Learner
from learner.release.candidate import Candidate, CandidateMaker, build_manifest
from learner.release.rebuild import differences, rebuild
from learner.rounds.worker import INLINE, worker_thread
from learner.stopwatch import Stopwatch
from model.errors import NonFinite
from tests.learner.rounds.held_executor import HeldExecutor
from tests.learner.small_learner import Setting, small_config, small_learner
from tests.learner.streams import stream
from wire.records import Answer, Feedback

NUM_EVENTS = 116
BATCH = 4
ROUND: Mapping[str, Setting] = {"slow_rate": 1e-5, "holdout_share": 0.2, "rebuild_batch": 10}
"""One round begins after 60 labels, and ends after the last one."""

FULL: Mapping[str, Setting] = {**ROUND, "replay_samples": 40}
"""The replay buffer drops samples, so the result of the round depends on when the buffer was read."""

ends = st.lists(st.integers(0, 3), min_size=NUM_EVENTS // BATCH, max_size=NUM_EVENTS // BATCH)
"""The number of units that end after each batch of labels."""


def offsets_at(number: int) -> dict[str, int]:
    return {"feedback.v1/0": number}


def played(ends: Sequence[int], changed: Mapping[str, Setting]) -> Learner:
    """A learner that has read all events; `ends` units of its round ended after each batch."""
    executor = HeldExecutor()
    it = small_learner(None, executor, **changed)
    for place, num_ends in enumerate(ends):
        it.learn_many(stream(BATCH * place, BATCH * (place + 1)), offsets_at(BATCH * (place + 1)))
        it.tick()
        for _ in range(num_ends):
            executor.finish()
            it.tick()
    while it.has_work:
        executor.finish()
        it.tick()
    return it


def inline(changed: Mapping[str, Setting]) -> Learner:
    it = small_learner(**changed)
    for first in range(0, NUM_EVENTS, BATCH):
        it.learn_many(stream(first, first + BATCH), offsets_at(first + BATCH))
        it.tick()
    while it.has_work:
        it.tick()
    return it


def made(learner: Learner) -> Candidate:
    return CandidateMaker(small_config()).make(learner.knowledge, Stopwatch(), learner.offsets)


def read_to(offsets: Mapping[str, int], *, position: list[int]) -> list[list[Answer | Feedback]]:
    first, last = position[0], offsets["feedback.v1/0"]
    position[0] = last
    return [list(stream(first, last))]


@given(ends)
@settings(max_examples=20, deadline=None)
def test_the_weights_are_the_same_whenever_units_end(ends: list[int]) -> None:
    expected = inline(ROUND)
    found = played(ends, ROUND)
    assert (found.counts["rounds"], found.counts["rounds_adopted"]) == (1, 1)
    assert found.fast_head.served.key == expected.fast_head.served.key
    tensors = {name: stored.entry for name, stored in made(found).tensors.items()}
    assert tensors == {name: stored.entry for name, stored in made(expected).tensors.items()}
    sums = expected.fast_head.export()
    assert all(torch.equal(value, sums[name]) for name, value in found.fast_head.export().items())


@given(ends)
@settings(max_examples=10, deadline=None)
def test_a_version_is_rebuilt_whenever_units_ended(ends: list[int]) -> None:
    found = played(ends, FULL)
    assert found.fast_head.ridge.num_samples > len(found.replay)
    manifest = build_manifest(made(found), found, version=1, epoch=1, time_ms=0)
    position = [0]
    again = rebuild(
        manifest, small_learner(**FULL), small_config(**FULL), lambda offsets: read_to(offsets, position=position)
    )
    assert differences(manifest, again) == []


def test_a_thread_gives_the_same_weights_as_none() -> None:
    with worker_thread("slow", niceness=1, threads=1) as executor:
        it = small_learner(None, executor, **ROUND)
        for first in range(0, NUM_EVENTS, BATCH):
            it.learn_many(stream(first, first + BATCH), {})
            it.tick()
        while it.has_work:
            it.tick()
    expected = inline(ROUND)
    assert made(it).tensors.keys() == made(expected).tensors.keys()
    assert it.fast_head.served.key == expected.fast_head.served.key
    assert torch.equal(it.fast_head.ridge.solve(), expected.fast_head.ridge.solve())


def test_the_thread_is_nicer_than_the_process_and_has_its_own_number_of_threads() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with worker_thread("slow", niceness=3, threads=1) as executor:
        nice = executor.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result()
        assert nice == min(own + 3, 19)
        assert executor.submit(torch.get_num_threads).result() == 1
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_the_error_of_a_task_is_raised_when_its_result_is_taken() -> None:
    def fail() -> None:
        raise NonFinite("somewhere")

    with worker_thread("slow", niceness=0, threads=1) as executor:
        future = executor.submit(fail)
        with pytest.raises(NonFinite):
            future.result()
        assert executor.submit(int, "7").result() == 7
    with pytest.raises(NonFinite):
        INLINE.submit(fail)
