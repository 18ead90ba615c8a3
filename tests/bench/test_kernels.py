"""Checks the rows of the kernels, from made measurements."""

from bench.kernels import make_rows
from evals.results.row import Peer


def test_ours_is_the_first_and_the_fastest_other_one_is_its_peer() -> None:
    times = {"name": "linear_i8.32x64.16", "us": {"vnni": 10.04, "plain": 90.0, "float32": 20.0}, "limit_us": 8.0}
    peak, row = make_rows({"peak": {"giga_per_s": 512.3, "how": "ours"}, "kernels": [times]})
    (call,) = row.calls
    assert (peak.name, peak.calls[0].value, peak.calls[0].note) == ("kernels.peak", 512, "ours")
    assert (row.name, call.value, call.ratio) == ("kernels.linear_i8.32x64.16", 10.0, 0.5)
    assert call.peers == (Peer("float32", 20.0), Peer("plain", 90.0))
    assert call.note == "vnni; the limit: 8.0 us"
