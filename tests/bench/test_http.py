"""Checks the peers and the goals of the rows of the benchmark over HTTP."""

from bench.http import HttpSize, grpc_rows, rows
from bench.http_load import Load

OURS = {("one", 1): Load(100.0, 8.0, 12.0), ("one", 32): Load(1_000.0, 20.0, 40.0)}
PEERS = {
    "slow": {("one", 1): Load(50.0, 10.0, 30.0), ("one", 32): Load(300.0, 60.0, 90.0)},
    "fast": {("one", 1): Load(90.0, 9.0, 20.0), ("one", 32): Load(400.0, 70.0, 95.0)},
}


def test_each_point_has_its_best_peer_first_and_goals_with_many_clients() -> None:
    found = {row.name: row for row in rows(OURS, PEERS, [])}
    rate = found["http.one.32_clients"]
    assert [peer.name for peer in rate.calls[0].peers] == ["fast", "slow"]
    assert (rate.goal, rate.met) == (">= 2x", True)
    late = found["http.one.32_clients.p99"]
    assert [peer.name for peer in late.calls[0].peers] == ["slow", "fast"]
    assert (late.goal, late.met) == ("<= 1x", True)
    assert found["http.one.1_clients"].goal is None


def test_without_every_peer_no_goal_is_judged() -> None:
    row = next(row for row in rows(OURS, PEERS, ["gone"]) if row.name == "http.one.32_clients")
    assert (row.met, row.calls[0].gaps.missing) == (None, ("gone",))


def test_grpc_is_compared_with_the_same_protocol_in_rest() -> None:
    (one, many) = grpc_rows(OURS, PEERS["fast"])
    assert (one.goal, many.goal, many.met) == (None, ">= 1x", True)


def test_every_point_is_a_request_and_a_number_of_clients() -> None:
    assert HttpSize(clients="1 8").measuring_points == [("one", 1), ("one", 8), ("batch16", 1), ("batch16", 8)]
