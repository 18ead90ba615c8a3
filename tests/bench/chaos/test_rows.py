"""Checks the rows of a run."""

from dataclasses import replace

import msgspec

from bench.chaos.judge import Verdict
from bench.chaos.play import SceneOutcome
from bench.chaos.rows import doubled, rows
from bench.chaos.size import SHORT

GOOD = Verdict(
    lost=(),
    num_lost_with_tails=3,
    unpublished=(),
    twice=(4, 5),
    twice_elsewhere=(),
    num_in_flight=7,
    unaccounted={},
    learnt_share=0.9995,
)

UP = SceneOutcome(
    scene="up",
    arm="shipped",
    events=1_000,
    kills=50,
    cuts=10,
    faults=("kill Redis",) * 60,
    left_out={},
    verdict=GOOD,
    lost_tails={"events": 3, "answers": 4, "labels": 5, "bytes": 6_000},
    recoveries_s={"kill": tuple(map(float, range(1, 15))), "cut": (20.0, 29.0), "other": (1.0, 22.0)},
    silence_s={"http": 21.0, "kafka": 44.0},
    http_failures={"ConnectionRefusedError": 12},
    ended_by_itself=0,
    stuck=0,
    attributed=100,
    misattributed=(),
    breaches=(),
    revisions_back=0,
    are_weights_comparable=False,
    not_the_same=(),
)

APART = replace(UP, scene="apart", http_failures={}, silence_s={"http": 40.0, "kafka": 9.0})


def values(*outcomes: SceneOutcome) -> dict[str, tuple[float | None, bool | None]]:
    found = rows(outcomes, kills=100, cuts=20)
    return {row.name.removeprefix(f"chaos.{outcomes[0].arm}."): (row.calls[0].value, row.met) for row in found}


def missed(found: dict[str, tuple[float | None, bool | None]]) -> set[str]:
    return {name for name, (_, met) in found.items() if met is False}


def test_a_good_run_meets_every_goal() -> None:
    found = values(UP, APART)
    assert not missed(found)
    expected = {
        "kills": (100, True),
        "cuts": (20, True),
        "faults": (120, None),
        "lost_with_tails": (6, None),
        "attribution": (0, True),
        "revisions_back": (0, True),
        "answered_twice": (4, None),
        "answered_twice_elsewhere": (0, True),
        "learnt_share": (99.95, True),
        "longest_silence_s.http": (21.0, True),
        "longest_silence_s.kafka": (44.0, None),
        "http_failed": (0, True),
        "kill_recovery_s.p95": (14.0, True),
        "cut_recovery_s.p95": (29.0, True),
        "other_recovery_s.p95": (22.0, None),
    }
    assert found == found | expected
    assert "weights_differ" not in found, "the topics have lost what was learnt"


def units(outcome: SceneOutcome) -> dict[str, str]:
    return {row.name: row.unit for row in rows([outcome], kills=50, cuts=10)}


def test_units_do_not_depend_on_measurements() -> None:
    assert units(UP) == units(replace(UP, events=2_000))


def test_one_bad_scene_is_enough_to_miss_a_goal() -> None:
    bad = replace(
        APART,
        verdict=replace(GOOD, lost=(3,), twice_elsewhere=(5,), unaccounted={"learnt twice": 2}, learnt_share=0.9),
        http_failures={"503": 1},
        recoveries_s={"kill": (None,) * 10, "cut": (31.0,), "other": (22.0,)},
        misattributed=("chaos-5",),
        breaches=("flood: 1",),
    )
    assert msgspec.json.decode(msgspec.json.encode(bad), type=SceneOutcome) == bad
    found = values(UP, bad)
    bad_ones = {"lost", "answered_twice_elsewhere", "labels_unaccounted", "learnt_share"}
    bad_ones |= {"http_failed", "attribution", "breaches"}
    assert missed(found) == bad_ones | {"kill_recovery_s.p95", "cut_recovery_s.p95"}
    assert found["kill_recovery_s.p95"][0] is None


def test_a_row_says_why_requests_failed() -> None:
    failed = replace(APART, http_failures={"503": 2, "no reply within 10 s": 1})
    (row,) = (row for row in rows([failed], kills=50, cuts=10) if row.name.endswith("http_failed"))
    assert row.calls[0].note == "2 503; 1 no reply within 10 s"


def test_in_the_durable_arm_no_event_may_be_lost_with_a_tail() -> None:
    durable = replace(APART, arm="durable", are_weights_comparable=True, not_the_same=("head.out",))
    assert missed(values(durable)) == {"kills", "cuts", "lost_with_tails", "weights_differ"}


def test_a_doubled_size_has_twice_the_events() -> None:
    assert doubled(SHORT).events == 2 * SHORT.events
    assert doubled(SHORT).rate == SHORT.rate
