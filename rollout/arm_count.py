"""The answers of newer versions with another encoder than the stable one, and its own: how many labels were right."""

from rollout.unpaired_rule import ArmEvidence, ArmTally
from wire.records import Record


class ArmCountState(Record, frozen=True, kw_only=True):
    """The labels of both arms. The first one of the others has the number `first`, and is of an answer at `since_ms`
    (both 0: none came yet)."""

    evidence: ArmEvidence = ArmEvidence()
    since_ms: int = 0
    first: int = 0


class ArmCount:
    """Counts for one stable version. Verbs: add, remove, export.

    Labels of the stable arm count from the time on of the first label of the others. Each has a number, by which it is
    known afterwards whether it was counted.
    """

    def __init__(self, state: ArmCountState | None = None) -> None:
        state = state or ArmCountState()
        self.evidence = state.evidence
        self._since_ms = state.since_ms
        self._first = state.first

    def add(self, is_right: bool, *, is_newer: bool, answer_ms: int, number: int) -> None:
        """Counts a label of an answer of a newer version, or of the stable one."""
        if is_newer and not self._first:
            self._since_ms = answer_ms
            self._first = number
        if self._has(is_newer, answer_ms, number):
            self._count(ArmTally(1, int(is_right)), is_newer)

    def remove(self, is_right: bool, *, is_newer: bool, answer_ms: int, number: int) -> None:
        """Takes out a label, if it was counted: another one takes its place."""
        if self._has(is_newer, answer_ms, number):
            self._count(ArmTally(-1, -int(is_right)), is_newer)

    def export(self) -> ArmCountState:
        return ArmCountState(evidence=self.evidence, since_ms=self._since_ms, first=self._first)

    def _has(self, is_newer: bool, answer_ms: int, number: int) -> bool:
        if not 0 < self._first <= number:
            return False
        return is_newer or self._since_ms <= answer_ms

    def _count(self, tally: ArmTally, is_newer: bool) -> None:
        before = self.evidence
        if is_newer:
            self.evidence = ArmEvidence(before.stable, before.candidate + tally)
        else:
            self.evidence = ArmEvidence(before.stable + tally, before.candidate)
