"""Checks how often each encoder is timed, and which encoder counts as the best."""

from bench.harness.process import PeerFailed
from bench.peers.race import HEATS, ROUNDS, Contestant, Race, Turn, disturbance
from bench.peers.workloads import NATURAL


def entry(
    name: str,
    ms: float,
    cosine: float,
    *,
    busy_ms: float | None = None,
    is_single_threaded: bool = True,
    is_whole: bool = True,
) -> Contestant:
    turn = Turn(ms=ms, best_ms=ms, busy_ms=ms if busy_ms is None else busy_ms)
    return Contestant(
        name=name,
        operations=1,
        how="",
        is_whole=is_whole,
        cosine=cosine,
        worst=cosine,
        time_turn=lambda: turn,
        is_single_threaded=is_single_threaded,
    )


def breaking(name: str, *turns: Turn) -> Contestant:
    """Returns a contestant that breaks after these turns."""
    left = iter(turns)

    def time_turn() -> Turn:
        for turn in left:
            return turn
        raise PeerFailed("it ended with -11")

    found = entry(name, 5, 1.0)
    found.time_turn = time_turn
    return found


def race(*peers: Contestant, ours: float = 0.9995) -> Race:
    found = Race(NATURAL, entry("ours", 10, ours), peers)
    found.run()
    return found


def names(entries: list[Contestant]) -> list[str]:
    return [found.name for found in entries]


def test_the_final_is_between_ours_and_the_two_best_of_both_kinds() -> None:
    found = race(
        entry("slow", 40, 1.0),
        entry("exact", 30, 0.9999),
        entry("close", 25, 0.999),
        entry("rough", 12, 0.99),
        entry("rougher", 11, 0.98),
        entry("roughest", 15, 0.97),
    )
    assert names(found.fastest) == ["rougher", "rough", "roughest", "close", "exact", "slow"]
    assert names(found.accurate) == ["close", "exact", "slow"]
    turns = {peer.name: len(peer.turns) - HEATS for peer in found.peers}
    assert turns == {"slow": 0, "exact": ROUNDS, "close": ROUNDS, "rough": ROUNDS, "rougher": ROUNDS, "roughest": 0}
    assert len(found.ours.turns) == HEATS + 4 * ROUNDS


def test_a_peer_as_near_as_ours_is_of_equal_accuracy() -> None:
    found = race(entry("near", 20, 0.9987), entry("far", 10, 0.9985), ours=0.9986)
    assert names(found.accurate) == ["near"]


def test_without_peers_there_is_no_best() -> None:
    assert race().fastest == []
    assert race().accurate == []


def test_processor_time_counts_on_one_thread_and_wall_clock_time_on_more() -> None:
    alone = entry("x", 30, 1.0, busy_ms=20, is_single_threaded=True)
    alone.run()
    assert alone.ms == 20
    threaded = entry("x", 30, 1.0, busy_ms=20, is_single_threaded=False)
    threaded.run()
    assert threaded.ms == 30


def test_peers_with_untried_settings_are_listed() -> None:
    assert race(entry("cut", 10, 1.0, is_whole=False), entry("sound", 20, 1.0)).unfinished == ("cut",)


def test_others_at_work_are_seen() -> None:
    found = Race(NATURAL, entry("ours", 30, 1.0, busy_ms=20), ())
    found.run()
    assert disturbance([found]) == 1.5


def test_a_peer_that_breaks_in_its_turn_is_named_and_out_of_the_race() -> None:
    found = race(breaking("brittle", Turn(ms=5, best_ms=5, busy_ms=5)), entry("sound", 20, 1.0))
    assert found.broken == {"brittle": "it ended with -11"}
    assert names(found.fastest) == ["sound"]
    assert len(found.peers[0].turns) == HEATS + ROUNDS
