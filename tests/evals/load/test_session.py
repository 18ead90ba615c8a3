"""A whole run on a real broker and a real Redis, with a service whose answers are known."""

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
import torch

from evals.load.player import Timeouts
from evals.load.session import LoadProfile, Loops, ReferenceEncoder, SessionOutcome, SystemUnderTest, play
from evals.streams.arrivals import one_after_another
from evals.streams.stream import Stage, Stream, StreamItem, TextStage
from tests.evals.load.answerer import Answerer, refuse_one
from wire.bus import Bus
from wire.config import BusConfig
from wire.store import Store

pytestmark = pytest.mark.live


def stage(*labels: str, train: int = 10, test: int = 3) -> TextStage:
    items: list[StreamItem] = []
    for label in labels:
        items += [StreamItem(f"{label} {number}", label) for number in range(train)]
    return Stage(" ".join(labels), tuple(items), tuple(items[:test]))


NAMES = ("red", "green", "blue", "grey")
STREAM = Stream("made", (stage("red", "green"), stage("blue", "grey")))
PROFILE = LoadProfile(
    rate=100, label_delay_s=(0.05, 0.2), seed=0, timeouts=Timeouts(answer_s=3, judge_s=0.3, learn_s=20, quiet_s=0.5)
)

COLORS = ReferenceEncoder(
    lambda texts: torch.stack([torch.eye(4)[NAMES.index(text.split()[0])] for text in texts]), digest="colors"
)
"""An encoder that gives all texts of a class the same vector."""

Run = Callable[..., tuple[SessionOutcome, str]]


@pytest.fixture
def run(bus: Bus, bus_config: BusConfig, store: Store) -> Run:
    """Returns a function that plays the stream on a service that drops or repeats events, or saves on versions."""

    def run_session(
        stream: Stream = STREAM,
        *,
        drops: Collection[int] = (),
        repeats: Collection[int] = (),
        saving: bool = False,
        judges: bool = True,
        profile: LoadProfile = PROFILE,
    ) -> tuple[SessionOutcome, str]:
        lines: list[str] = []
        answerer = Answerer(bus, store, drops=drops, repeats=repeats, saving=saving, judges=judges)
        loops = Loops(answerer)
        with loops:
            system = SystemUnderTest(bus=bus_config, store=store, check=loops.check, num_restarts=lambda: 1)
            outcome = play(system, stream, profile, say=lines.append, reference=lambda: COLORS)
        return outcome, "\n".join(lines)

    return run_session


def test_learnt_labels_are_right_at_the_end(run: Run) -> None:
    outcome, lines = run()
    figures = outcome.figures
    assert figures.events == figures.answers
    # 40 training events, 9 test items, and the fillers.
    assert figures.events >= 49
    assert (figures.lost, figures.duplicates) == (0, 0)
    assert figures.accuracy_by_stage == ((100.0,), (100.0, 100.0))
    assert (figures.accuracy_final, figures.forgetting) == (100.0, 0.0)
    # The first event of each class was answered before its label was sent.
    assert figures.accuracy_first_seen < 100.0
    p50_s = figures.label_to_live_s["p50"]
    assert p50_s is not None
    assert p50_s > 0.0
    assert p50_s < 10.0
    assert (figures.label_to_live_s["stable_p95"] or 0.0) >= (figures.label_to_live_s["p95"] or 0.0)
    assert figures.versions_published >= 3
    assert figures.swaps >= figures.versions_published
    assert figures.restarts == 1
    assert sum(figures.precisions.values()) == figures.answers
    assert figures.swap_stall_ms == {"p50": 0.25, "p99": 0.25}
    assert figures.model_bytes["fp32"] == 32
    assert sum(point.answered for point in outcome.curve) == 40
    assert {arm for _, arm in outcome.marks} == {"stable", "candidate"}
    assert "first answer" in lines


def test_a_stream_without_pauses_is_tested_at_its_end_and_compared_with_an_oracle(run: Run) -> None:
    outcome, lines = run(one_after_another(STREAM), judges=False, profile=replace(PROFILE, rate=10))
    figures = outcome.figures
    assert [len(row) for row in figures.accuracy_by_stage] == [2]
    assert figures.forgetting == 0.0
    assert "red green: learnt" not in lines
    assert "it keeps its share" in lines
    known = figures.prequential
    assert known is not None
    assert (known.events, known.encoder, len(known.by_stage)) == (40, "colors", 2)
    assert known.as_given == figures.accuracy_first_seen
    # The first text of each class comes before its label.
    assert 0.0 < known.oracle < 100.0
    assert sum(point.answered for point in outcome.beside["oracle"]) == 40


def test_lost_duplicate_and_refused_events_are_counted(run: Run, bus: Bus) -> None:
    refuse_one(bus)
    outcome, lines = run(drops={3, 15}, repeats={5, 6, 30})
    figures = outcome.figures
    assert (figures.events - figures.answers, figures.lost, figures.duplicates) == (2, 2, 3)
    assert figures.dead_letters == 1
    assert "events are given up" in lines


def test_labels_that_make_no_version_do_not_delay_the_run(run: Run) -> None:
    outcome, lines = run(saving=True)
    assert outcome.figures.accuracy_final == 100.0
    assert "labels changed nothing (in the holdout, or repeated)" in lines
    # Labels that were never live are not left out of the percentiles.
    assert outcome.figures.label_to_live_s["p95"] is None
