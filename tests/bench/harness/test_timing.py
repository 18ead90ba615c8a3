"""Checks that functions are timed without the first call, and repeated until the time is used up."""

import torch

from bench.harness.timing import elapsed_s, fastest_call_s, fastest_in_turns_s, one_thread, thread_times_s


def work() -> int:
    return sum(range(10_000))


def test_times_are_of_the_work() -> None:
    assert elapsed_s(work) > 0.0
    assert 0.0 < fastest_call_s(work, 0.05, calls=4) < 0.05


def test_calls_are_timed_until_the_time_is_used_up() -> None:
    calls: list[int] = []
    times_s = thread_times_s(lambda: calls.append(work()), 0.01)
    assert len(calls) == len(times_s) + 1
    assert sum(times_s[:-1]) < 0.01 <= sum(times_s)


def test_functions_are_timed_in_turns() -> None:
    called: list[str] = []
    works = {name: lambda name=name: called.append(name) for name in ("a", "b")}
    shortest_s = fastest_in_turns_s(works, 0.001, rounds=2)
    assert shortest_s.keys() == works.keys() and all(0.0 <= each_s < 0.001 for each_s in shortest_s.values())
    turns = [name for place, name in enumerate(called) if place == 0 or called[place - 1] != name]
    assert turns == ["a", "b", "a", "b"]


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
