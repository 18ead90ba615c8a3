import os
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.config import ReplayPolicy
from learner.memory import GROUP_OF, Replay, ReplayState, draw, hash_key, with_names
from learner.samples import Labelled

POLICIES = get_args(ReplayPolicy)
CAPACITY = 14
STREAM = [
    Labelled(f"text {i}", f"class {label}", experience=i // 20)
    for i, label in enumerate([0] * 30 + [1] * 6 + [0] * 4 + [2] * 20)
]
SAMPLES = st.lists(
    st.builds(
        Labelled,
        st.text("ab", max_size=9),
        st.sampled_from("xyz"),
        st.sampled_from(["", "p", "q"]),
        st.just(0),
        st.integers(0, 2**63 - 1),
        st.just(0),
    ),
    max_size=60,
)
Filled = Callable[[int], list[Labelled]]


@pytest.fixture(scope="module")
def avalanche_buffers() -> dict[ReplayPolicy, Filled]:
    """Returns functions that fill Avalanche's buffers with the whole stream, half an experience at a time."""
    os.environ["WANDB_MODE"] = "disabled"
    with warnings.catch_warnings():  # Avalanche's own imports warn
        warnings.simplefilter("ignore")
        import torch
        from avalanche.benchmarks.utils import as_classification_dataset
        from avalanche.training.storage_policy import ClassBalancedBuffer, ReservoirSamplingBuffer

    class Places(torch.utils.data.Dataset[Any]):
        def __init__(self, first: int, last: int) -> None:
            self.rows = [(place, int(STREAM[place].label[-1])) for place in range(first, last)]
            self.targets = [target for _, target in self.rows]

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> tuple[int, int]:
            return self.rows[index]

    parts = [as_classification_dataset(Places(i, i + 10)) for i in range(0, len(STREAM), 10)]

    def filled_with(make: Callable[[int], Any]) -> Filled:
        def fill(seed: int) -> list[Labelled]:
            torch.manual_seed(seed)
            buffer = make(CAPACITY)
            for part in parts:
                buffer.update_from_dataset(part)
            return [STREAM[int(row[0])] for row in buffer.buffer]

        return fill

    return {"reservoir": filled_with(ReservoirSamplingBuffer), "class-balanced": filled_with(ClassBalancedBuffer)}


def filled(seed: int, policy: ReplayPolicy = "class-balanced") -> list[Labelled]:
    replay = Replay[Labelled](CAPACITY, 1 << 20, key_of=hash_key(seed), policy=policy)
    replay.add(STREAM)
    return replay.samples()


def assert_uniform_in_each_group(fill: Filled, policy: ReplayPolicy, *, runs: int = 400) -> None:
    """Checks that each group holds its share of the places, and that its samples are equally likely to be held."""
    held = Counter[Labelled]()
    seen = Counter(GROUP_OF[policy](sample, 0.5) for sample in STREAM)
    for seed in range(runs):
        held.update(fill(seed))
    share, left = divmod(CAPACITY, len(seen))
    quota = {group: share + (place < left) for place, group in enumerate(sorted(seen))}
    for sample in STREAM:
        group = GROUP_OF[policy](sample, 0.5)
        expected = quota[group] / seen[group]
        assert abs(held[sample] / runs - expected) < 4.5 * (expected * (1 - expected) / runs) ** 0.5


def check_replay(
    policy: ReplayPolicy, before: list[Labelled], after: list[Labelled], capacity: int, budget: int
) -> None:
    """Checks what holds of every policy: the bounds, what is returned, erasing, and restoring from bytes."""
    replay = Replay[Labelled](capacity, budget, key_of=hash_key(1), policy=policy)
    returned = Counter[Labelled]()
    for sample in before:
        returned.update(replay.add([sample]))
        assert len(replay) <= capacity and replay.num_bytes <= budget
        assert replay.num_bytes == sum(sample.num_bytes for sample in replay.samples())
    assert returned + Counter(replay.samples()) == Counter(before)
    about_p = sum(sample.subject == "p" for sample in replay.samples())
    assert replay.erase("p".__eq__) == about_p
    assert replay.erase("p".__eq__) == 0
    assert all(sample.subject != "p" for sample in replay.samples())
    others = Counter(sample for sample in replay.samples() if sample.label != "x")
    assert Counter(replay.of("x")) + others == Counter(replay.samples())
    replay.erase_class("x")
    assert replay.of("x") == [] and Counter(replay.samples()) == others
    assert replay.num_bytes == sum(sample.num_bytes for sample in replay.samples())
    data = msgspec.msgpack.encode(replay.export())
    state = msgspec.msgpack.decode(data, type=ReplayState[Labelled])
    restored = Replay[Labelled](capacity, budget, key_of=hash_key(1), policy=policy, state=state)
    for memory in (replay, restored):
        memory.add(after)
    assert restored.groups() == replay.groups() and restored.export() == replay.export()


@pytest.mark.parametrize("policy", POLICIES)
@given(before=SAMPLES, after=SAMPLES, capacity=st.integers(1, 12), budget=st.integers(1, 60))
def test_every_policy_is_a_replay_memory(
    policy: ReplayPolicy, before: list[Labelled], after: list[Labelled], capacity: int, budget: int
) -> None:
    experiences = [sample._replace(experience=place // 9) for place, sample in enumerate(before)]
    check_replay(policy, experiences, after, capacity, budget)


@pytest.mark.parametrize("policy", POLICIES)
def test_inclusion_is_uniform_within_a_group(policy: ReplayPolicy) -> None:
    assert_uniform_in_each_group(lambda seed: filled(seed, policy), policy)


@pytest.mark.parametrize("policy", ["reservoir", "class-balanced"])
def test_avalanches_buffer_of_the_policy_holds_the_same(
    policy: ReplayPolicy, avalanche_buffers: dict[ReplayPolicy, Filled]
) -> None:
    fill = avalanche_buffers[policy]
    assert_uniform_in_each_group(fill, policy)
    if policy == "class-balanced":
        expected = {"class 0": 5, "class 1": 5, "class 2": 4}
        assert Counter(sample.label for sample in fill(0)) == expected
        assert Counter(sample.label for sample in filled(0)) == expected


@pytest.mark.parametrize("policy", POLICIES)
@given(samples=SAMPLES, capacity=st.integers(1, 12), data=st.data())
def test_what_is_held_does_not_depend_on_the_order_in_which_it_came(
    policy: ReplayPolicy, samples: list[Labelled], capacity: int, data: st.DataObject
) -> None:
    samples = [sample._replace(event=place, experience=place // 9) for place, sample in enumerate(samples)]
    groups = {GROUP_OF[policy](sample, 0.5) for sample in samples}
    one, other = (
        Replay[Labelled](max(capacity, len(groups)), 1 << 20, key_of=hash_key(1), policy=policy) for _ in "ab"
    )
    one.add(samples)
    other.add(data.draw(st.permutations(samples)))
    assert one.groups() == other.groups()


def test_the_draw_is_balanced_however_the_classes_are_filled() -> None:
    replay = Replay[Labelled](100, 1 << 20, key_of=hash_key(3))
    replay.add([Labelled("rare", "a")] + [Labelled(f"often {i}", "b") for i in range(500)])
    drawn = Counter(sample.label for sample in draw(replay.groups(), 2_000, np.random.default_rng(0)))
    assert abs(drawn["a"] - 1_000) < 150


def test_an_empty_memory_draws_nothing() -> None:
    assert draw(Replay[Labelled](4, 100, key_of=hash_key(0)).groups(), 3, np.random.default_rng(0)) == []


def test_bytes_are_taken_from_the_class_that_holds_most() -> None:
    replay = Replay[Labelled](100, 50, key_of=hash_key(0))
    replay.add([Labelled("small", "a")] + [Labelled("x" * 9, "b") for _ in range(20)])
    assert replay.num_bytes <= 50 and Labelled("small", "a") in replay.samples()


def test_inclusion_stays_uniform_when_bytes_are_the_bound() -> None:
    held = Counter[str]()
    runs = 600
    for seed in range(runs):
        replay = Replay[Labelled](100, 40, key_of=hash_key(seed))
        replay.add(Labelled(f"{i:04d}", "a") for i in range(40))
        held.update(sample.text for sample in replay.samples())
    assert all(abs(held[f"{i:04d}"] / runs - 0.25) < 0.08 for i in range(40))


def test_what_is_learnt_after_an_erasure_is_as_likely_as_what_stayed() -> None:
    held = Counter[str]()
    runs = 600
    for seed in range(runs):
        replay = Replay[Labelled](8, 1 << 20, key_of=hash_key(seed))
        replay.add(Labelled(f"{i}", "a", "p" if i < 20 else "") for i in range(40))
        replay.erase("p".__eq__)
        replay.add(Labelled(f"{i}", "a") for i in range(40, 120))
        held.update(sample.text for sample in replay.samples())
    early = sum(held[f"{i}"] for i in range(20, 40)) / 20 / runs
    late = sum(held[f"{i}"] for i in range(40, 120)) / 80 / runs
    assert abs(early - late) < 0.01
    assert 0.07 < early < 0.09  # 8 of 100 samples are held


def test_a_sample_without_a_subject_cannot_be_erased_by_it() -> None:
    replay = Replay[Labelled](4, 100, key_of=hash_key(0))
    replay.add([Labelled("a text", "a label")])
    assert (replay.erase("".__eq__), len(replay)) == (0, 1)


@given(SAMPLES, st.sampled_from(POLICIES), st.sampled_from(POLICIES), st.integers(1, 12))
def test_a_memory_of_another_policy_and_size_is_regrouped(
    samples: list[Labelled], before: ReplayPolicy, after: ReplayPolicy, capacity: int
) -> None:
    first = Replay[Labelled](9, 80, key_of=hash_key(5), policy=before)
    first.add(sample._replace(experience=place // 9) for place, sample in enumerate(samples))
    second = Replay[Labelled](capacity, 50, key_of=hash_key(5), policy=after, state=first.export())
    assert len(second) <= capacity and second.num_bytes <= 50
    assert Counter(second.samples()) <= Counter(first.samples())
    assert len(second) >= min(len(first), capacity, 1) or second.num_bytes + 10 > 50
    assert second.export().policy == after


def test_some_of_the_samples_stay_the_same_as_others_come() -> None:
    replay = Replay[Labelled](100, 1 << 20, key_of=hash_key(3))
    samples = [Labelled(f"text {number}", f"label {number % 5}") for number in range(44)]
    replay.add(samples[:40])
    before = replay.subset(10)
    assert len(set(before)) == 10
    assert set(before) <= set(replay.samples())
    assert len(replay.subset(99)) == 40
    replay.add(samples[40:])
    assert len(set(replay.subset(10)) - set(before)) <= 4


@given(st.lists(st.sampled_from(["lost_card", "lost-card", "??", "pay"])), st.integers(1, 5))
def test_each_class_is_led_by_its_name_however_the_samples_are_batched(labels: list[str], size: int) -> None:
    samples = [Labelled(f"text {number}", label) for number, label in enumerate(labels)]
    whole = with_names(samples, set[str]().__contains__)
    parts = list[Labelled]()
    for first in range(0, len(samples), size):
        known = {sample.label for sample in parts}
        parts += with_names(samples[first : first + size], known.__contains__)
    assert parts == whole and [sample for sample in whole if sample in samples] == samples
    for label in set(labels):
        first_of_class = next(sample.text for sample in whole if sample.label == label)
        assert first_of_class == {"??": "??", "pay": "pay"}.get(label, "lost card")
