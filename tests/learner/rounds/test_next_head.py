import pytest
import torch

from learner.fast.fast_head import FastHead
from learner.rounds import next_head
from learner.rounds.next_head import MAX_CATCH_UPS, MAX_LAST, NextHead, do_nothing
from learner.samples import Labelled
from tests.learner.rounds.rounds import SAMPLES, fast_head
from tests.learner.small_learner import labelled, small_served

NEW = labelled(200, 220)


def next_head_for(old: FastHead, memory: list[Labelled] = SAMPLES) -> NextHead:
    return NextHead(old, FastHead(small_served(), penalty=0.01), memory, unit=40)


def rebuilt(following: NextHead) -> FastHead:
    while following.has_memory:
        following.unit(following.rebuild)()
    while following.has_rest:
        following.unit(following.carry_over)()
    return following.head


def test_the_buffer_is_learnt_in_units() -> None:
    following = next_head_for(fast_head())
    progress = [following.progress]
    while following.has_memory:
        following.rebuild()
        progress.append(following.progress)
    assert [round(share, 2) for share in progress] == [0.0, 0.44, 0.89, 1.0]
    assert torch.equal(following.head.ridge.solve(), fast_head().ridge.solve())


def test_waiting_samples_are_learnt_by_the_next_unit_and_later_ones_by_the_unit_after() -> None:
    old = fast_head()
    following = next_head_for(old)
    rebuilt(following)
    following.add_waiting(NEW[:3])
    unit = following.unit(lambda: "a result")
    old.admit_all(["one more"])
    following.add_waiting([Labelled("a text", "one more")])
    assert unit() == "a result"
    assert following.head.ridge.num_samples == 93
    assert "one more" not in following.head.ridge.classes
    following.learn_waiting()
    assert following.head.ridge.count_samples("one more") == 1


def test_catching_up_ends_when_little_waits_and_in_any_case() -> None:
    following = next_head_for(fast_head())
    rebuilt(following)
    following.add_waiting(NEW[:MAX_LAST])
    assert list(following.catch_up()) == []
    assert following.head.ridge.num_samples == 90 + MAX_LAST
    num_units = 0
    following.add_waiting(NEW)
    for unit in following.catch_up():
        unit()
        following.add_waiting(NEW)
        num_units += 1
    assert num_units == MAX_CATCH_UPS
    assert following.head.ridge.num_samples == 90 + MAX_LAST + (MAX_CATCH_UPS + 1) * len(NEW)


def test_waiting_samples_are_bounded_and_a_unit_takes_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_head, "MAX_WAITING", 19)
    monkeypatch.setattr(next_head, "MAX_TAKEN", 8)
    following = next_head_for(fast_head())
    following.add_waiting(NEW[:19])
    is_full = [following.is_full]
    following.add_waiting(NEW[19:])
    is_full.append(following.is_full)
    following.unit(do_nothing)()
    is_full.append(following.is_full)
    assert is_full == [False, True, False]
    assert following.head.ridge.num_samples == 8
    following.learn_waiting()
    assert following.head.ridge.num_samples == 20


def test_a_class_is_unlearnt_wherever_its_samples_are() -> None:
    old = fast_head()
    label = NEW[0].label
    of_class = [sample for sample in SAMPLES + NEW if sample.label == label]
    others = [sample for sample in SAMPLES + NEW if sample.label != label]
    following = next_head_for(old)
    following.unit(following.rebuild)()
    following.add_waiting(NEW[:10])
    following.unit(do_nothing)()
    following.add_waiting(NEW[10:])
    following.learn_waiting()
    old.learn_many(NEW)
    old.evict(of_class, label, "another")
    following.evict(of_class, label, "another")
    head = rebuilt(following)
    head_of_others = old.successor(small_served())
    head_of_others.learn_many(others)
    assert head.ridge.classes == old.ridge.classes
    assert all(torch.equal(value, head_of_others.export()[name]) for name, value in head.export().items())


def test_samples_are_unlearnt_from_the_head_the_buffer_and_the_waiting_samples() -> None:
    old = fast_head()
    following = next_head_for(old)
    following.unit(following.rebuild)()
    following.add_waiting(NEW[:2])
    gone = [SAMPLES[0], SAMPLES[-1], NEW[0]]
    following.add_waiting([], unlearnt=gone)
    head = rebuilt(following)
    head_of_others = old.successor(small_served())
    head_of_others.learn_many([sample for sample in [*SAMPLES, NEW[1]] if sample not in gone])
    assert all(torch.equal(value, head_of_others.export()[name]) for name, value in head.export().items())
