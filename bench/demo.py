"""Measures `lifelong demo`, as `make demo` runs it: a support stream on a service that knows nothing.

The stream's test items are of two kinds: some were written one by one, the others are made of templates that are
learnt, too.
"""

from collections.abc import Iterator

from bench.demo_run import run_demo
from bench.fixtures import Fixtures
from evals.results.row import Goal, Row

WRITTEN = "written one by one"
MADE = "made of templates"


def measure(fixtures: Fixtures) -> Iterator[Row]:
    fixtures.stop_service()
    run = run_demo()
    figures = run.figures
    by_kind = figures["accuracy_by_kind"]
    latency = figures["latency_ms"]
    known = figures["prequential"]
    live = figures["label_to_live_s"]
    yield Row.of(name="demo.accuracy_written", value=by_kind[WRITTEN], unit="%")
    yield Row.of(name="demo.accuracy_made", value=by_kind[MADE], unit="%")
    yield Row.of(name="demo.first_seen", value=figures["accuracy_first_seen"], unit="%")
    yield Row.of(name="demo.oracle", value=known["oracle"], unit="%")
    yield Row.of(name="demo.ratio", value=known["ratio"], unit="of the oracle", goal=Goal(">=", 1.0))
    yield Row.of(name="demo.stable_p50", value=live["stable_p50"], unit="s, label to live")
    yield Row.of(name="demo.stable_p95", value=live["stable_p95"], unit="s, label to live")
    yield Row.of(name="demo.latency_p99", value=latency["p99"], unit="ms")
    yield Row.of(name="demo.first_five_seconds_p99", value=latency["first_p99"], unit="ms", goal=Goal("<=", 150))
    yield Row.of(name="demo.lost", value=figures["lost"], unit="events", goal=Goal("<=", 0))
    yield Row.of(name="demo.first_answer", value=run.first_answer_s, unit="s", goal=Goal("<=", 45))
    yield Row.of(name="demo.seconds", value=round(run.took_s, 1), unit="s", goal=Goal("<=", 150))
    yield Row.of(name="demo.memory", value=round(run.peak_bytes / 2**30, 2), unit="GiB")
