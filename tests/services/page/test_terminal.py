"""Tests the drawing of a state in the terminal."""

import io

from rich.console import Console

from rollout.operator import Operator
from services.page.rates import ReplicaTraffic
from services.page.state import PageState, StateReader, build_figures
from services.page.tables import build_tables
from services.page.terminal import render_state, watch
from tests.services.page.states import DECISION, status
from wire.config import StoreConfig
from wire.keyring import parse
from wire.store import Store


def read_text(state: PageState) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(render_state(state))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_it_draws_figures_and_tables() -> None:
    found = status()
    state = PageState(
        title="Lifelong",
        time_ms=1,
        is_paused=True,
        figures=build_figures(found, ReplicaTraffic(5.0)),
        tables=build_tables(found, [DECISION], {}),
    )
    text = read_text(state)
    for part in ("Lifelong, paused", "right on the holdout 90.0 %", "label to live p50 250 ms", "better by 9 labels"):
        assert part in text
    assert "75.0 %" in text and "refund" in text
    assert "ALARM: rollout: collect: it is gone\n" in text


def test_it_is_drawn_again_and_again_until_it_is_interrupted(store: Store) -> None:
    times = iter([1_000, 2_000])

    def now_ms() -> int:
        if (time_ms := next(times, None)) is None:
            raise KeyboardInterrupt
        return time_ms

    console = Console(width=200, file=io.StringIO())
    watch(StateReader(Operator(store, name="test"), now_ms=now_ms), console)
    assert next(times, None) is None
    assert isinstance(console.file, io.StringIO) and "Lifelong" in console.file.getvalue()


def test_it_says_why_it_knows_nothing() -> None:
    away = Store(StoreConfig(url="redis://127.0.0.1:1", timeout_ms=100), parse("a key for the tests"))
    state = StateReader(Operator(away, name="test"), now_ms=lambda: 1).read_or_problem()
    assert state.problem and state.problem in " ".join(read_text(state).split())
    away.close()
