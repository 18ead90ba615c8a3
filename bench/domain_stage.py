"""Measures the domain stage in a running service: what pretraining on unlabelled texts of another domain brings.

    lifelong demo --data clinc150 --pretrain: CLINC150 with labels --> clauses of CUAD without --> 5 labels a class

The gain is over a head on the published encoder that has learnt the same labels. The latencies are of the same texts at
the same rate, before the clauses came and while the stage trained.
"""

from collections.abc import Iterator

from bench.demo import run_demo
from bench.harness.case import Run
from bench.harness.texts import clinc150, data_folder
from evals.results.row import NoResult, Row, Skip
from evals.streams.text_sets import CUAD, text_set
from learner.errors import DataError

LIMIT_S = 3_600.0


def measure(run: Run) -> Iterator[Row]:
    """Yields the rows. Raises Skip without data, and NoResult if the learner has not decided in time."""
    clinc150()
    try:
        text_set(CUAD, data_folder())
    except DataError as error:
        raise Skip(str(error)) from error
    figures = run_demo("--data", "clinc150", "--pretrain", limit_s=LIMIT_S).figures
    domain = figures["domain"]
    if domain["decision"] is None:
        raise NoResult("the learner has not decided about the pretrained encoder")
    state = domain["decision"] + ("" if domain["is_stable"] else ", not stable at the end")
    note = f"{state}; {domain['accuracy']:.2f} %, frozen {domain['accuracy_frozen']:.2f} %"
    yield Row.of("domain.gain", domain["gain"], "points on CUAD's clauses, 5 labels a class", goal=">= 4", note=note)
    yield Row.of("domain.forgotten", domain["forgotten"], "points on CLINC150", goal="<= 0.3")
    before_ms, during_ms = domain["latency_p99_before"], domain["latency_p99"]
    ratio = round(during_ms / before_ms, 3) if before_ms and during_ms is not None else None
    note = f"{during_ms} ms, {before_ms} ms before"
    yield Row.of("domain.latency", ratio, "p99 while the stage trains / before", goal="<= 1.2", note=note)
    yield Row.of("domain.seconds", domain["took_s"], "s from the last clause to the decision")
    yield Row.of("domain.lost", figures["lost"], "events", goal="<= 0")
