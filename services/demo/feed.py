"""What the page shows of a demo besides the reports: the right labels are known here.

Ledger --> the curve as given, the matrix of stages;  SessionOutcome, in the end --> the oracle's curve
"""

from collections.abc import Mapping
from typing import Final

from evals.load.ledger import TRAIN, Ledger
from evals.load.score import Hits, accuracy_by_stage
from evals.load.session import SessionOutcome
from evals.streams.stream import Stream
from services.page.state import FedState, PageFigure, curve_of, matrix_table

AS_GIVEN: Final = "as given, second by second"
TESTS: Final = "test items of all stages so far"


class DemoFeed:
    """The feed of one run. Verbs: follow, finish, and being called for the state of now, by the page's thread."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ledger: Ledger | None = None
        self._outcome: SessionOutcome | None = None

    def follow(self, ledger: Ledger) -> None:
        """Shows what the ledger sees from now on."""
        self._ledger = ledger

    def finish(self, outcome: SessionOutcome) -> None:
        """Shows what is known of a run that is over."""
        self._outcome = outcome

    def __call__(self) -> FedState:
        title = f"Lifelong demo: {self._stream.name}"
        if self._ledger is None:
            return FedState(title=title)
        progress = self._ledger.progress()
        started_ms = self._ledger.started_ms
        trained = progress.of_round(TRAIN)
        figures = [PageFigure("right as given, this run", trained.accuracy / 100 if trained.sent else None, "percent")]
        curves = [
            curve_of(AS_GIVEN, self._ledger.curve(), started_ms),
            curve_of(TESTS, self._ledger.tests(), started_ms),
        ]
        if self._outcome is not None:
            curves += [curve_of(name, points, started_ms) for name, points in self._outcome.beside.items()]
            if (known := self._outcome.figures.prequential) is not None:
                figures.append(PageFigure("right, an instant oracle", known.oracle / 100, "percent"))
        names = [stage.name for stage in self._stream.stages]
        matrix = matrix_table(accuracy_by_stage(finished(progress.hits)), names)
        return FedState(title=title, figures=tuple(figures), curves=tuple(curves), tables={"matrix": matrix})


def finished(hits: Mapping[tuple[int, int], Hits]) -> dict[tuple[int, int], Hits]:
    """Returns the hits of the rounds of tests that are over: all of their stages were asked, and answered."""
    rounds = {round for round, _ in hits if round >= 0}
    whole = {
        round
        for round in rounds
        if all((each := hits.get((round, stage))) and each.answered == each.sent for stage in range(round + 1))
    }
    return {place: each for place, each in hits.items() if place[0] in whole}
