"""An example of a stream and of figures, for tests of reports."""

from evals.load.figures import Figures
from evals.load.oracle import PrequentialFigures
from evals.streams.stream import Stage, Stream, StreamItem

ITEMS = (StreamItem("hello", "greeting"), StreamItem("bye", "farewell"))
STREAM = Stream("made", (Stage("first", ITEMS, ITEMS), Stage("a long name", ITEMS, ITEMS)))

FIGURES = Figures(
    events=10,
    answers=10,
    lost=0,
    duplicates=0,
    dead_letters=0,
    accuracy_first_seen=25.0,
    prequential=PrequentialFigures(
        events=4,
        as_given=25.0,
        oracle=40.0,
        without_learning=10.0,
        ratio=0.625,
        ratio_low=0.5,
        ratio_high=0.75,
        by_stage=((25.0, 40.0, 10.0),),
        encoder="ab",
    ),
    accuracy_final=75.0,
    accuracy_by_kind={"written one by one": 50.0, "made of templates": 100.0},
    accuracy_by_stage=((100.0,), (50.0, 100.0)),
    forgetting=50.0,
    versions_published=3,
    restarts=0,
    swaps=6,
    drifts=2,
    swap_stall_ms={"p50": 0.1, "p99": 0.4},
    label_to_live_s={"p50": 2.0, "p95": 4.0, "stable_p50": 6.0, "stable_p95": None},
    publish_ms={"p50": 90.0, "p95": 300.0},
    durable_ms={"p50": 400.0, "p99": 1100.0},
    latency_ms={"p50": 12.0, "p99": 31.0, "first_p99": 90.0},
    events_per_s=640.0,
    arms={"stable": {"version": 2, "answers": 3, "accuracy": 33.33}},
    precisions={"int8": 10},
    parity={"cosine": 0.999, "agreement": 1.0},
    model_bytes={"fp32": 400, "served": 100},
)
