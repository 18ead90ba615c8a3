import os
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.replay import Labelled, Replay, ReplayState

STREAM = [Labelled(f"text {i}", f"class {label}") for i, label in enumerate([0] * 30 + [1] * 6 + [0] * 4 + [2] * 20)]
CAPACITY = 14


@pytest.fixture(scope="module")
def avalanche_replay() -> Callable[[int], list[Labelled]]:
    """Avalanche's buffer after the whole stream, fed ten samples at a time."""
    os.environ["WANDB_MODE"] = "disabled"
    with warnings.catch_warnings():  # of Avalanche's own imports
        warnings.simplefilter("ignore")
        import torch
        from avalanche.benchmarks.utils import as_classification_dataset
        from avalanche.training.storage_policy import ClassBalancedBuffer

    class Places(torch.utils.data.Dataset[Any]):
        def __init__(self, first: int, last: int) -> None:
            self.rows = [(place, int(STREAM[place].label[-1])) for place in range(first, last)]
            self.targets = [target for _, target in self.rows]

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> tuple[int, int]:
            return self.rows[index]

    parts = [as_classification_dataset(Places(i, i + 10)) for i in range(0, len(STREAM), 10)]

    def fill(seed: int) -> list[Labelled]:
        torch.manual_seed(seed)
        buffer = ClassBalancedBuffer(CAPACITY)
        for part in parts:
            buffer.update_from_dataset(part)
        return [STREAM[int(row[0])] for row in buffer.buffer]

    return fill


def filled(seed: int) -> list[Labelled]:
    replay = Replay(CAPACITY, 1 << 20, seed=seed)
    replay.add(STREAM)
    return replay.samples()


def test_class_counts_are_avalanches(avalanche_replay: Callable[[int], list[Labelled]]) -> None:
    theirs = Counter(label for _, label in avalanche_replay(0))
    assert Counter(label for _, label in filled(0)) == theirs == {"class 0": 5, "class 1": 5, "class 2": 4}


def test_inclusion_is_uniform_within_a_class_as_in_avalanche(
    avalanche_replay: Callable[[int], list[Labelled]],
) -> None:
    ours, theirs, runs = Counter[str](), Counter[str](), 400
    for seed in range(runs):
        ours.update(text for text, _ in filled(seed))
        theirs.update(text for text, _ in avalanche_replay(seed))
    classes = [([*range(30), *range(36, 40)], 5), (range(30, 36), 5), (range(40, 60), 4)]
    for seen, kept in classes:
        expected = kept / len(seen)
        tolerance = 4.5 * (expected * (1 - expected) / runs) ** 0.5
        for place in seen:
            assert abs(ours[f"text {place}"] / runs - expected) < tolerance
            assert abs(theirs[f"text {place}"] / runs - expected) < tolerance


def test_the_draw_is_balanced_however_the_classes_are_filled() -> None:
    replay = Replay(100, 1 << 20, seed=3)
    replay.add([Labelled("rare", "a")] + [Labelled(f"often {i}", "b") for i in range(500)])
    drawn = Counter(label for _, label in replay.draw(2_000))
    assert abs(drawn["a"] - 1_000) < 150


def test_an_empty_memory_draws_nothing() -> None:
    assert Replay(4, 100, seed=0).draw(3) == []


def test_bytes_are_taken_from_the_class_that_holds_most() -> None:
    replay = Replay(100, 50, seed=0)
    replay.add([Labelled("small", "a")] + [Labelled("x" * 9, "b") for _ in range(20)])
    assert replay.num_bytes <= 50 and Labelled("small", "a") in replay.samples()


def test_inclusion_stays_uniform_when_bytes_are_the_bound() -> None:
    kept, runs = Counter[str](), 600
    for seed in range(runs):
        replay = Replay(100, 40, seed=seed)
        replay.add(Labelled(f"{i:04d}", "a") for i in range(40))
        kept.update(text for text, _ in replay.samples())
    assert all(abs(kept[f"{i:04d}"] / runs - 0.25) < 0.08 for i in range(40))


SAMPLES = st.lists(st.builds(Labelled, st.text("ab", max_size=9), st.sampled_from("xyz")), max_size=60)


@given(SAMPLES, st.integers(1, 12), st.integers(1, 60))
def test_both_bounds_hold_always(samples: list[Labelled], capacity: int, budget_bytes: int) -> None:
    replay = Replay(capacity, budget_bytes, seed=1)
    for sample in samples:
        replay.add([sample])
        assert len(replay) <= capacity and replay.num_bytes <= budget_bytes
        assert replay.num_bytes == sum(len(text) for text, _ in replay.samples())
    assert sum(replay.num_seen.values()) == len(samples)


@given(SAMPLES, SAMPLES)
def test_a_restored_memory_goes_on_as_if_nothing_had_happened(before: list[Labelled], after: list[Labelled]) -> None:
    first, whole = Replay(9, 50, seed=5), Replay(9, 50, seed=5)
    first.add(before)
    second = Replay(
        9, 50, seed=0, state=msgspec.msgpack.decode(msgspec.msgpack.encode(first.export()), type=ReplayState)
    )
    for replay in (second, whole):
        replay.add(after if replay is second else before + after)
    assert second.draw(5) == whole.draw(5) and second.export() == whole.export()


def test_some_of_the_samples_stay_the_same_as_others_come() -> None:
    it = Replay(100, 1 << 20, seed=3)
    samples = [Labelled(f"text {number}", f"label {number % 5}") for number in range(44)]
    it.add(samples[:40])
    before = it.some(10)
    assert len(set(before)) == 10 and set(before) <= set(it.samples()) and len(it.some(99)) == 40
    it.add(samples[40:])
    assert len(set(it.some(10)) - set(before)) <= 4
