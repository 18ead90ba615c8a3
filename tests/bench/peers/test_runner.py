"""Checks an encoder in its own process."""

from contextlib import closing

import pytest

from bench.peers.engines import OURS, PEAK, READ
from bench.peers.runner import Runner
from bench.peers.workloads import ONE_SHORT
from bench.process import PeerFailed


@pytest.mark.parametrize("name", [OURS, PEAK, READ, "torch fp32"])
def test_it_is_prepared_and_takes_its_turns(name: str) -> None:
    with closing(Runner(name, 1)) as runner:
        runner.wait()
        entry = runner.prepare(ONE_SHORT)
        entry.run()
    assert entry.cosine >= (0.9975 if name == OURS else 0.99999)
    assert entry.operations > 16 * 10**7
    turn = entry.turns[0]
    assert turn.best_ms > 0
    assert turn.ms >= turn.best_ms
    assert entry.ms == turn.busy_ms


def test_a_process_that_breaks_is_told_with_its_last_words() -> None:
    with closing(Runner("nobody", 1)) as runner, pytest.raises(PeerFailed, match="KeyError: 'nobody'"):
        runner.wait()
