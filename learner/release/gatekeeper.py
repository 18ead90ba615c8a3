"""The gate on the way of a candidate: lets it pass, or counts why not and gives up after many refusals in a row.

Knowledge --make--> Candidate --gate.refusals--> passes | counted --max_refusals in a row--> back to the parent
"""

import structlog

from learner.config import LearnerConfig
from learner.failpoints import failpoint
from learner.learner import Learner
from learner.quality import gate
from learner.release.candidate import Candidate, Maker
from learner.release.parent import ParentVersion
from learner.stopwatch import Stopwatch
from model.errors import NonFinite

log = structlog.get_logger("learner")


class Gatekeeper:
    """Belongs to the learner's thread. `refusals`: why the last candidate was refused; empty when it passed."""

    def __init__(self, config: LearnerConfig, learner: Learner, maker: Maker, parent: ParentVersion) -> None:
        self._learner = learner
        self._maker = maker
        self._parent = parent
        self._limits = gate.GateLimits.of(config)
        self._max_refusals = config.max_refusals
        self.refusals: tuple[str, ...] = ()

    def candidate(self, stopwatch: Stopwatch) -> Candidate | None:
        """What to publish; None where the gate refuses it, which is counted."""
        num_changes = self._parent.num_changes
        try:
            candidate = self._maker.make(self._learner.knowledge, stopwatch)
            refusals = gate.refusals(candidate.measured, candidate.precisions[0], self._limits)
        except NonFinite as error:
            log.warning("not_finite", reason=str(error))
            candidate = None
            refusals = ["not_finite"]
        failpoint("after-evaluate")
        self.refusals = tuple(refusals)
        if not refusals:
            return candidate
        self._learner.counts.update(f"gate_{reason}" for reason in refusals)
        if self._parent.refused(num_changes) >= self._max_refusals:
            self._parent.give_up()
        log.warning("refused", reasons=refusals, evaluation=candidate.measured.evaluation if candidate else None)
        return None
