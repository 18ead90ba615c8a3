"""Lists the benchmarks, in an order in which nothing is started twice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import (
    backlog,
    clinc_continual,
    concept_change,
    demo,
    encoder,
    exactly_once,
    head_update,
    http,
    import_pace,
    kafka_latency,
    kafka_throughput,
    kernels,
    label_flips,
    late_labels,
    learner_pace,
    learning,
    live,
    mapping,
    million,
    overload,
    precision,
    rollback,
    scale,
    series,
    soak,
    sparse_attention,
    swap_stall,
    tasks,
    telemetry,
    walk,
    while_learning,
)
from bench.chaos import rows as chaos
from bench.fixtures import Fixtures
from evals.results.row import Row
from services.machine import PEERS, SERVERS


@dataclass(frozen=True, slots=True)
class Bench:
    """A name for `--only`, and the function that measures, which raises Skip where it cannot run, and NoResult."""

    name: str
    measure: Callable[[Fixtures], Iterator[Row]]
    uses: tuple[str, ...] = ()
    """The libraries and servers, besides those of every benchmark, whose versions its rows have."""
    has_own_servers: bool = False
    """Whether it starts servers of its own even where the settings give the address of another."""
    is_long: bool = False
    """Whether it runs only where `--only` names it: it takes long, or serves those who change a kernel."""


BENCHES = (
    Bench("encoder", encoder.measure, uses=PEERS),
    Bench("precision", precision.measure),
    Bench("label_flips", label_flips.measure),
    Bench("concept_change", concept_change.measure, is_long=True),
    Bench("learner_pace", learner_pace.measure),
    Bench("head_update", head_update.measure),
    Bench("kafka_latency", kafka_latency.measure, uses=SERVERS),
    Bench("swap_stall", swap_stall.measure, uses=SERVERS),
    Bench("kafka_throughput", kafka_throughput.measure, uses=(*PEERS, *SERVERS)),
    Bench("clinc_continual", clinc_continual.measure, uses=SERVERS),
    Bench("demo", demo.measure, uses=SERVERS),
    Bench("million", million.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("rollback", rollback.measure, uses=SERVERS, is_long=True),
    Bench("exactly_once", exactly_once.measure, uses=SERVERS, is_long=True),
    Bench("tasks", tasks.measure, uses=SERVERS, is_long=True),
    Bench("telemetry", telemetry.measure, uses=SERVERS, is_long=True),
    Bench("while_learning", while_learning.measure, uses=SERVERS, is_long=True),
    Bench("kernels", kernels.measure, is_long=True),
    Bench("learning", learning.measure, is_long=True),
    Bench("sparse_attention", sparse_attention.measure, is_long=True),
    Bench("http", http.measure, uses=(*PEERS, *SERVERS), is_long=True),
    Bench("live", live.measure, uses=SERVERS, is_long=True),
    Bench("import_pace", import_pace.measure, uses=SERVERS, is_long=True),
    Bench("mapping", mapping.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("backlog", backlog.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("late_labels", late_labels.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("series", series.measure, uses=SERVERS, is_long=True),
    Bench("scale", scale.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("walk", walk.measure, uses=SERVERS, is_long=True),
    Bench("overload", overload.measure, uses=SERVERS, is_long=True),
    Bench("soak", soak.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("chaos", chaos.measure, uses=SERVERS, has_own_servers=True, is_long=True),
)
