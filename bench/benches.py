"""Lists the benchmarks, in an order in which nothing is started twice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import (
    backlog,
    clinc_continual,
    encoder,
    first_answer,
    kafka_latency,
    kafka_throughput,
    label_flips,
    label_to_live,
    learner_pace,
    memory,
    precision,
    swap_stall,
)
from bench.chaos import rows as chaos
from bench.fixtures import Fixtures
from bench.row import Row


@dataclass(frozen=True, slots=True)
class Bench:
    """A name for `--only`, and the function that measures, which raises Skip where it cannot run."""

    name: str
    measure: Callable[[Fixtures], Iterator[Row]]


BENCHES = (
    Bench("encoder", encoder.measure),
    Bench("precision", precision.measure),
    Bench("label_flips", label_flips.measure),
    Bench("learner_pace", learner_pace.measure),
    Bench("kafka_latency", kafka_latency.measure),
    Bench("swap_stall", swap_stall.measure),
    Bench("kafka_throughput", kafka_throughput.measure),
    Bench("clinc_continual", clinc_continual.measure),
    Bench("label_to_live", label_to_live.measure),
    Bench("first_answer", first_answer.measure),
    Bench("memory", memory.measure),
    Bench("backlog", backlog.measure),
    Bench("chaos", chaos.measure),
)
