"""Tests the state of the page: figures, and curves with a bounded number of points."""

from evals.load.curve import Point
from rollout.operator import Operator
from services.page.rates import ReplicaTraffic
from services.page.state import (
    ANSWER_RATE,
    LABEL_TO_LIVE,
    MAX_POINTS,
    RECENT_ACCURACY,
    FedState,
    History,
    PageFigure,
    StateReader,
    build_curve,
    build_figures,
    matrix_table,
)
from tests.services.page.states import LEARNER, replica_report, status
from tests.stores import publish, take_lease
from wire.errors import StoreUnavailable
from wire.records import STABLE, Arm, RolloutPlan
from wire.store import Store


def test_a_figure_that_is_not_known_is_none() -> None:
    whole = {figure.name: figure.value for figure in build_figures(status(), ReplicaTraffic(5.0))}
    assert whole["right, last 1,000 answers"] == 0.875
    assert round(float(str(whole["forgotten"])), 6) == 0.05
    assert whole["label to live p50"] == 250.0
    assert whole["skew between replicas"] == 20.0
    assert whole["drifts found"] == 1
    unknown = build_figures(status(is_whole=False), ReplicaTraffic())
    assert {figure.value for figure in unknown} == {None, 0.0}


def test_a_curve_grows_in_a_bounded_number_of_points() -> None:
    history = History("a")
    for second in range(10 * MAX_POINTS):
        history.add(float(second), second / 10_000)
    curve = history.curve()
    assert MAX_POINTS / 3 < len(curve.seconds) <= MAX_POINTS
    assert curve.seconds[0] == 0.0
    assert curve.seconds[-1] > 9.9 * MAX_POINTS
    assert curve.values == tuple(second / 10_000 for second in curve.seconds)


def test_a_long_curve_of_a_demo_is_taken_together() -> None:
    points = [Point(float(second), 1.0, 4, second % 2) for second in range(3 * MAX_POINTS)]
    curve = build_curve("as given", points, 5_000)
    assert len(curve.seconds) == MAX_POINTS
    assert curve.seconds[:2] == (5.0, 8.0)
    assert curve.values[:2] == (1 / 12, 2 / 12)
    assert build_curve("none", [], 0).values == ()


def test_the_matrix_has_a_row_after_each_stage() -> None:
    table = matrix_table([[90.0], [80.0, 70.0]], ["banking", "travel", "kitchen"])
    assert [column.name for column in table.columns] == ["after", "banking", "travel"]
    assert table.rows == (("banking", 0.9, None), ("travel", 0.8, 0.7))
    last = matrix_table([[80.0, 70.0]], ["banking", "travel"])
    assert (len(last.columns), last.rows) == (3, (("travel", 0.8, 0.7),))


def test_it_is_read_from_the_store_and_a_demo_adds_to_it(store: Store) -> None:
    now_ms = [5_000]
    reader = StateReader(Operator(store, name="test"), now_ms=lambda: now_ms[0])
    assert reader.read().tables["arms"].empty == "no plan yet"
    store.reports.write_learner(LEARNER)
    store.reports.write_replica(replica_report())
    store.plans.write(RolloutPlan(revision=1, salt="s", arms=(), paused=True))
    reader.feed = lambda: FedState(
        title="a demo", figures=(PageFigure("oracle", 0.5, "percent"),), tables={"matrix": matrix_table([], [])}
    )
    state = reader.read()
    assert (state.title, state.is_paused, state.figures[0].name) == ("a demo", True, "oracle")
    assert [figure.name for figure in state.headline] == [RECENT_ACCURACY, ANSWER_RATE, LABEL_TO_LIVE]
    assert state.curves[0].values == (0.875,)
    assert "matrix" in state.tables
    assert reader.problem(StoreUnavailable("it is away")).problem == "it is away"


def test_a_model_that_never_learnt_is_shown_large_beside_the_accuracy_now(store: Store) -> None:
    baseline = PageFigure("right without learning", 0.25, "percent")
    reader = StateReader(
        Operator(store, name="test"), now_ms=lambda: 1, feed=lambda: FedState(title="a demo", baseline=baseline)
    )
    assert reader.read().headline[1] == baseline


def test_swaps_are_noted_once_each(store: Store) -> None:
    publish(store, take_lease(store), through=9)
    reader = StateReader(Operator(store, name="test"), now_ms=lambda: 9_000)
    for revision, version in ((1, 7), (2, 7), (3, 9)):
        arms = (Arm(name=STABLE, version=version, share=1.0),)
        plan = RolloutPlan(revision=revision, salt="s", arms=arms, stable_since_ms=1_000 * version)
        store.plans.write(plan)
        state = reader.read()
    assert state.swaps == ((7.0, 7), (9.0, 9))
