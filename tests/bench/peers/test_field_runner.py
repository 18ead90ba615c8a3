"""Checks an encoder in its own process."""

from contextlib import closing

import pytest

from bench.harness.process import PeerFailed
from bench.peers import field
from bench.peers.engines import OURS, PEAK, READ
from bench.peers.field import Runner
from bench.peers.workloads import ONE_SHORT


@pytest.mark.parametrize("name", [OURS, PEAK, READ, "torch fp32"])
def test_it_is_prepared_and_takes_its_turns(name: str) -> None:
    with closing(Runner(name, 1)) as started:
        started.wait()
        entry = started.prepare(ONE_SHORT)
        entry.run()
    assert entry.cosine >= (0.9975 if name == OURS else 0.99999)
    assert entry.operations > 16 * 10**7
    turn = entry.turns[0]
    assert turn.best_ms > 0
    assert turn.ms >= turn.best_ms
    assert entry.ms == turn.busy_ms


@pytest.mark.parametrize(("limit", "what"), [("START_S", "ready"), ("PREPARE_S", "done with 1x16")])
def test_a_process_that_takes_too_long_is_ended_and_the_error_has_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: str, what: str
) -> None:
    monkeypatch.setattr(field, limit, 0.0)
    with closing(Runner(OURS, 1)) as slow, pytest.raises(PeerFailed, match=f"not {what} within the limit of 0 s"):
        slow.wait()
        slow.prepare(ONE_SHORT)


def test_the_error_of_a_broken_process_has_its_last_output() -> None:
    with closing(Runner("nobody", 1)) as broken, pytest.raises(PeerFailed, match="KeyError: 'nobody'"):
        broken.wait()
