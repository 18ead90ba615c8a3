"""`lifelong status`."""

from services.commands.status import promise_lines
from tests.services.command_line import lifelong
from wire.records import Promise, ReplicaReport

REPORT = ReplicaReport(
    replica="r1",
    revision=1,
    versions=(1,),
    time_ms=1,
    profile="base",
    promises=(
        Promise(name="p99_ms", limit=150.0, is_ceiling=True, value=12.34),
        Promise(name="accuracy", limit=0.88, is_ceiling=False, value=0.8),
        Promise(name="answers_per_s", limit=30.0, is_ceiling=False),
    ),
)


def test_each_promise_is_shown_with_what_was_measured() -> None:
    first, *promises = [" ".join(line.split()) for line in promise_lines(REPORT)]
    assert first == "replica r1: profile base"
    assert promises == [
        "p99_ms 12.34 <= 150 kept",
        "accuracy 0.8 >= 0.88 NOT KEPT",
        "answers_per_s nothing measured >= 30",
    ]


def test_nothing_is_shown_of_what_does_not_run(tmp_path: object) -> None:
    done = lifelong("status", LIFELONG_STATE_DIR=str(tmp_path))
    assert done.returncode == 75
