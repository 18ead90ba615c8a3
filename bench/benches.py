"""Lists the benchmarks, in an order in which nothing is started twice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import (
    backlog,
    concept_change,
    demo,
    encoder,
    head_update,
    http,
    import_pace,
    kernels,
    label_flips,
    learner_pace,
    learning,
    live,
    million,
    over_kafka,
    overload,
    precision,
    scale,
    series,
    setting_costs,
    soak,
    sparse_attention,
    swaps,
    tasks,
    walk,
)
from bench.chaos import rows as chaos
from bench.fixtures import Fixtures
from bench.machine import PEERS, SERVERS
from evals.results.row import Row


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
    Bench("kafka_latency", over_kafka.measure_latency, uses=SERVERS),
    Bench("swap_stall", swaps.measure_swaps, uses=SERVERS),
    Bench("kafka_throughput", over_kafka.measure_throughput, uses=(*PEERS, *SERVERS)),
    Bench("clinc_continual", demo.measure_clinc150, uses=SERVERS),
    Bench("demo", demo.measure_support, uses=SERVERS),
    Bench("million", million.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("rollback", swaps.measure_rollbacks, uses=SERVERS, is_long=True),
    Bench("exactly_once", setting_costs.measure_exactly_once, uses=SERVERS, is_long=True),
    Bench("tasks", tasks.measure, uses=SERVERS, is_long=True),
    Bench("telemetry", setting_costs.measure_telemetry, uses=SERVERS, is_long=True),
    Bench("while_learning", over_kafka.measure_while_learning, uses=SERVERS, is_long=True),
    Bench("kernels", kernels.measure, is_long=True),
    Bench("learning", learning.measure, is_long=True),
    Bench("sparse_attention", sparse_attention.measure, is_long=True),
    Bench("http", http.measure, uses=(*PEERS, *SERVERS), is_long=True),
    Bench("live", live.measure, uses=SERVERS, is_long=True),
    Bench("import_pace", import_pace.measure, uses=SERVERS, is_long=True),
    Bench("mapping", setting_costs.measure_mapping, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("backlog", backlog.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("late_labels", backlog.measure_late_labels, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("series", series.measure, uses=SERVERS, is_long=True),
    Bench("scale", scale.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("walk", walk.measure, uses=SERVERS, is_long=True),
    Bench("overload", overload.measure, uses=SERVERS, is_long=True),
    Bench("soak", soak.measure, uses=SERVERS, has_own_servers=True, is_long=True),
    Bench("chaos", chaos.measure, uses=SERVERS, has_own_servers=True, is_long=True),
)
