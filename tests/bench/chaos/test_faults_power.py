"""Checks when a power cut is over."""

from bench.chaos.faults import PowerCut


def test_it_is_over_when_another_process_has_the_role() -> None:
    pids = [7]

    def cut() -> str:
        pids.clear()
        return "5 bytes"

    fault = PowerCut("broker", cut, lambda: list(pids))
    assert (fault.name, fault.inject(), fault.is_over()) == ("power cut broker", "5 bytes", False)
    pids.append(7)
    assert not fault.is_over()
    pids.append(8)
    assert fault.is_over()
    assert fault.num_kills == 0
