"""How much traffic the candidate got at its present share, and whether the keys are split as planned."""

from collections import Counter
from typing import Final

from rollout.paired_evidence import Traffic
from wire.recent import RecentHashes
from wire.records import CANDIDATE, STABLE, STAND_IN, Answer

MAX_KEYS: Final = 20_000
"""Keys that are remembered as counted."""


class Exposure:
    """Counts from one revision of the plan on. Verbs: add, traffic.

    `num_answers` counts the candidate's answers. A key is counted once, for the arm that got it; the newest arm, whose
    versions come and go, is left out, and a stand-in is in the place of the stable version.
    """

    def __init__(self, since_revision: int = 0, num_answers: int = 0) -> None:
        self.since_revision = since_revision
        self.num_answers = num_answers
        self._keys: Counter[str] = Counter()
        self._seen = RecentHashes(MAX_KEYS)

    def add(self, answer: Answer) -> None:
        if answer.rollout_revision < self.since_revision:
            return
        arm = STABLE if answer.arm == STAND_IN else answer.arm
        self.num_answers += arm == CANDIDATE
        key = answer.entity.encode()
        if arm in (STABLE, CANDIDATE) and key not in self._seen:
            self._seen.add(key)
            self._keys[arm] += 1

    def traffic(self, *, stable_share: float, candidate_share: float) -> Traffic:
        """Returns the keys of stable version and candidate, and their shares of both."""
        share = candidate_share / (candidate_share + stable_share)
        return Traffic(keys=(self._keys[STABLE], self._keys[CANDIDATE]), shares=(1.0 - share, share))
