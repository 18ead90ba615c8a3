"""Checks the summary of races."""

import io

from rich.console import Console

from bench.peers.race import Race, summary
from bench.peers.workloads import NATURAL, ONE_SHORT
from tests.bench.peers.test_race import entry


def test_all_encoders_are_shown_and_broken_ones_are_marked() -> None:
    races = [
        Race(ONE_SHORT, entry("ours", 1, 0.999), (entry("theirs", 2, 0.99), entry("exact", 9, 1.0))),
        Race(NATURAL, entry("ours", 40, 0.998), (entry("exact", 250, 1.0),)),
    ]
    for race in races:
        race.run()
    out = io.StringIO()
    Console(file=out, width=140).print(summary(races))
    lines = out.getvalue().splitlines()
    assert any("ours" in line and "40  0.9980" in line for line in lines)
    assert any("theirs" in line and "2  0.9900" in line and "broke" in line for line in lines)
