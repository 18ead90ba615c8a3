"""Measures CLINC150, domain by domain through the live service at INT8: a whole run of `lifelong demo`.

The goal of the time from a label to an answer that learnt it is the stable arm's, which most of the traffic sees. The
time to the first answer includes starting everything; the memory is that of all processes at their peak.
"""

from collections.abc import Iterator, Mapping

from bench.demo_run import run_clinc150
from bench.fixtures import Fixtures
from evals.results.row import Goal, Row


def measure(fixtures: Fixtures) -> Iterator[Row]:
    fixtures.stop_service()
    run = run_clinc150()
    figures = run.figures
    yield Row.of(name="clinc_continual.accuracy", value=figures["accuracy_final"], unit="%", goal=Goal(">=", 96.3))
    yield Row.of(
        name="clinc_continual.at_int8",
        value=percent_at_int8(figures["precisions"]),
        unit="% of answers",
        goal=Goal(">=", 100),
    )
    yield Row.of(name="clinc_continual.forgetting", value=figures["forgetting"], unit="points", goal=Goal("<=", 0.3))
    yield Row.of(name="clinc_continual.first_seen", value=figures["accuracy_first_seen"], unit="%")
    yield Row.of(name="clinc_continual.lost", value=figures["lost"], unit="events", goal=Goal("<=", 0))
    yield Row.of(name="clinc_continual.duplicates", value=figures["duplicates"], unit="events", goal=Goal("<=", 0))
    seconds = figures["label_to_live_s"]
    yield Row.of(name="label_to_live.p50", value=seconds["p50"], unit="s, any arm")
    yield Row.of(name="label_to_live.p95", value=seconds["p95"], unit="s, any arm")
    yield Row.of(name="label_to_live.stable_p50", value=seconds["stable_p50"], unit="s", goal=Goal("<=", 0.5))
    yield Row.of(name="label_to_live.stable_p95", value=seconds["stable_p95"], unit="s", goal=Goal("<=", 1.0))
    yield Row.of(name="first_answer", value=run.first_answer_s, unit="s", goal=Goal("<=", 45))
    yield Row.of(name="memory", value=round(run.peak_bytes / 2**30, 2), unit="GiB", goal=Goal("<=", 4))


def percent_at_int8(precisions: Mapping[str, int]) -> float:
    """Returns how many of the answers were given in INT8; a service may also answer in INT4.

    >>> percent_at_int8({"int8": 3, "int4": 1})
    75.0
    """
    return round(100 * precisions.get("int8", 0) / sum(precisions.values()), 3)
