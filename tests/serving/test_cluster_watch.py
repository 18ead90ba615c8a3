"""The conditions under which Ray, or the application on it, counts as lost."""

import threading

import pytest

from serving.cluster import RayLost, ServeState, await_start, wait_while_running

RUNS = ServeState(is_there=True, has_replica=True)
STARTS = ServeState(is_there=True, has_replica=False)


def test_a_process_of_ray_that_ends_is_noticed_at_once() -> None:
    """F32: nobody watched Ray."""
    with pytest.raises(RayLost, match="raylet of Ray ended"):
        wait_while_running(threading.Event(), serve_state=lambda: RUNS, ended=lambda: ["raylet"])


def test_a_process_of_ray_that_ends_while_replicas_start_is_noticed() -> None:
    """F32: after a raylet was killed, `serve` waited for ever."""
    never = threading.Event()
    with pytest.raises(RayLost, match="raylet of Ray ended"):
        await_start(never.wait, threading.Event(), ended=lambda: ["raylet"])
    never.set()


def test_a_start_ends_as_it_ends() -> None:
    begun = list[str]()
    await_start(lambda: begun.append("replicas"), threading.Event(), ended=list)
    assert begun == ["replicas"]
    with pytest.raises(ZeroDivisionError):
        await_start(lambda: 1 / 0, threading.Event(), ended=list)


def test_an_application_that_was_removed_is_noticed() -> None:
    with pytest.raises(RayLost, match="was removed"):
        wait_while_running(threading.Event(), serve_state=lambda: ServeState(False, False), ended=list)


def test_a_serve_that_never_answers_is_gone() -> None:
    never = threading.Event()
    with pytest.raises(RayLost, match="has not answered"):
        wait_while_running(
            threading.Event(), serve_state=lambda: RUNS if never.wait() else None, ended=list, silence_s=1.5
        )
    never.set()


def test_a_serve_without_a_replica_is_started_again() -> None:
    """Serve waits for ever for a replica that hangs while it starts."""
    states = [RUNS, RUNS, *([STARTS] * 20)]
    with pytest.raises(RayLost, match=r"no replica has run for 2 s"):
        wait_while_running(threading.Event(), serve_state=lambda: states.pop(0), ended=list, start_s=1.5)
    assert len(states) < 20


def test_replicas_that_never_start_are_started_again() -> None:
    never = threading.Event()
    with pytest.raises(RayLost, match="not started in 1 s"):
        await_start(never.wait, threading.Event(), ended=list, within_s=1.0)
    never.set()


def test_a_serve_that_is_silent_for_a_while_is_waited_for() -> None:
    stop = threading.Event()
    answers: list[ServeState | None] = [RUNS, None, RUNS]

    def serve_state() -> ServeState | None:
        if not answers:
            stop.set()
            return RUNS
        return answers.pop()

    wait_while_running(stop, serve_state=serve_state, ended=list, silence_s=10)
    assert not answers
