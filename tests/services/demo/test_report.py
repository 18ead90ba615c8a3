"""Tests the report of a run: the names in the JSON are frozen."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import cast

from rich.console import Console

from evals.load.curve import Point
from evals.load.session import SessionOutcome
from services.demo.report import Played, closing_lines, figures_table, plot, stages_table, write_json
from tests.evals.load.examples import FIGURES, STREAM
from tests.services.demo.moved import MOVED

FROZEN: dict[str, type | set[str]] = {
    "events": int,
    "answers": int,
    "lost": int,
    "duplicates": int,
    "dead_letters": int,
    "accuracy_first_seen": float,
    "prequential": {
        "events",
        "as_given",
        "oracle",
        "without_learning",
        "ratio",
        "ratio_low",
        "ratio_high",
        "by_stage",
        "encoder",
    },
    "accuracy_final": float,
    "accuracy_by_kind": {"written one by one", "made of templates"},
    "accuracy_by_stage": list,
    "forgetting": float,
    "versions_published": int,
    "restarts": int,
    "swaps": int,
    "drifts": int,
    "swap_stall_ms": {"p50", "p99"},
    "label_to_live_s": {"p50", "p95", "stable_p50", "stable_p95"},
    "publish_ms": {"p50", "p95"},
    "durable_ms": {"p50", "p99"},
    "latency_ms": {"p50", "p99", "first_p99"},
    "events_per_s": float,
    "arms": {"stable"},
    "precisions": {"int8"},
    "parity": {"cosine", "agreement"},
    "model_bytes": {"fp32", "served"},
}


def test_the_json_has_exactly_the_names_that_were_promised(tmp_path: Path) -> None:
    outcome = SessionOutcome(FIGURES, [], {}, [], [])
    write_json(Played(outcome), tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert list(written) == list(FROZEN)
    for name, kind in FROZEN.items():
        assert set(written[name]) == kind if isinstance(kind, set) else isinstance(written[name], kind), name


def test_the_json_of_two_domains_has_their_figures(tmp_path: Path) -> None:
    write_json(Played(SessionOutcome(FIGURES, [], {}, [], []), moved=MOVED), tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert list(written) == [*FROZEN, "domain"]
    fields = ["decision", "is_stable", "took_s", "accuracy", "accuracy_frozen", "first_domain", "first_domain_before"]
    assert list(written["domain"]) == [*fields, "latency_p99", "latency_p99_before", "gain", "forgotten"]


def shown(*tables: object) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(*tables)
    return cast(io.StringIO, console.file).getvalue()


def test_the_table_says_what_never_happened() -> None:
    text = shown(figures_table(FIGURES, STREAM))
    assert "made: 2 stages, 2 labels" in text
    assert "6 / never s" in text
    assert "int8 10" in text
    assert "40.00 % (ratio 0.625), 10.00 %" in text
    assert "ratio" not in shown(figures_table(replace(FIGURES, prequential=None), STREAM))


def test_the_accuracy_on_what_was_written_one_by_one_comes_before_that_on_all_items() -> None:
    lines = shown(figures_table(FIGURES, STREAM)).splitlines()
    (written,) = [place for place, line in enumerate(lines) if "written one by one" in line and "50.00 %" in line]
    (on_all,) = [place for place, line in enumerate(lines) if "all test items" in line]
    assert written < on_all


def test_the_last_lines_say_what_was_seen_what_comes_next_and_where_the_page_is() -> None:
    seen, following, page = closing_lines(replace(FIGURES, lost=0), 8090).splitlines()
    assert "none was lost" in seen and "10 % without learning" in seen and "2 s after it came" in seen
    assert "lifelong up" in following and "http://127.0.0.1:8090/" in page
    few = closing_lines(replace(FIGURES, lost=3, prequential=None), 0)
    assert "3 were lost" in few and "without learning" not in few and len(few.splitlines()) == 2


def test_the_matrix_has_a_row_after_each_stage() -> None:
    lines = shown(stages_table(FIGURES, STREAM)).splitlines()
    assert any("first" in line and "100.0" in line for line in lines)
    assert any("a long name" in line and "50.0" in line and "100.0" in line for line in lines)


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    points = [Point(float(second), 1.0, 10, second % 10) for second in (0, 1, 2, 8, 9)]
    tests = [Point(5.0, 0.0, 10, 8)]
    beside = {"oracle": points, "without learning": []}
    outcome = SessionOutcome(FIGURES, points, beside, tests, [(2.0, "candidate"), (4.5, "stable")])
    plot(outcome, tmp_path / "curve.png", title="made")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
