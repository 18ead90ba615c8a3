"""The rollout plan: which version answers which traffic, and the decisions that changed it."""

from typing import Final, Literal, TypeAlias

from wire.records.record import ArmName, Record


class Arm(Record, frozen=True, kw_only=True):
    """A share of the traffic, in [0, 1], and the version that answers it."""

    name: ArmName
    version: int
    share: float


STABLE: ArmName = "stable"
CANDIDATE: ArmName = "candidate"
"""The arm of the version that is evaluated, from its first answer until it is promoted or withdrawn."""
NEWEST: ArmName = "newest"
"""The arm of the learner's newest version. It has a small, fixed share of the traffic, and its versions change too
often to be evaluated one by one."""
STAND_IN: ArmName = "stand-in"
"""The arm of answers from a replica that cannot load the stable version and serves another one instead. No plan names
this arm. Its answers are evidence for no version; in the traffic, they count as the stable version's."""


class RolloutPlan(Record, frozen=True, kw_only=True):
    """The traffic split: which version answers which share of the entities.

    - `revision`: increases by one with every change.
    - `salt`: seeds the split. It changes only if a new split is wanted.
    - `arms`: in the order stable, candidate, newest.
    - `stable_since_ms`: when the stable version became stable.
    - `previous`: an earlier version that was stable for a while. A rollback returns to it (0: none).
    - `reference`: an earlier stable version with which candidates are compared, so that small losses cannot add up
      (0: none).
    - `pinned`: no version is promoted, and no new candidate is admitted.
    - `paused`: no version is promoted, and the candidate's share does not grow.
    - `approved`: the candidate whose promotion an operator has approved (0: none).
    """

    revision: int
    salt: str
    arms: tuple[Arm, ...]
    previous: int = 0
    reference: int = 0
    pinned: bool = False
    paused: bool = False
    approved: int = 0
    reason: str = ""
    time_ms: int = 0
    stable_since_ms: int = 0

    def arm(self, name: ArmName) -> Arm | None:
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def stable(self) -> int:
        """The version of the stable arm (0: none yet)."""
        arm = self.arm(STABLE)
        return arm.version if arm else 0

    @property
    def candidate(self) -> int:
        """The version of the candidate arm (0: none)."""
        arm = self.arm(CANDIDATE)
        return arm.version if arm else 0

    @property
    def newest(self) -> int:
        """The version of the newest arm (0: none)."""
        arm = self.arm(NEWEST)
        return arm.version if arm else 0

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that answer traffic, the stable one first."""
        return tuple(dict.fromkeys(arm.version for arm in self.arms))

    @property
    def needed(self) -> tuple[int, ...]:
        """The versions that must stay stored: `versions`, then `previous` and `reference`.

        >>> RolloutPlan(revision=1, salt="", arms=(Arm(name=STABLE, version=7, share=1.0),), previous=4).needed
        (7, 4)
        """
        versions = dict.fromkeys((*self.versions, self.previous, self.reference))
        return tuple(version for version in versions if version)


Action: TypeAlias = Literal[
    "promoted",
    "withdrawn",
    "ramped",
    "rolled_back",
    "reference",
    "started",
    "approved",
    "pinned",
    "unpinned",
    "paused",
    "resumed",
]

ADDITIVE: Final = "A"
SUPERIOR: Final = "B"
NOT_WORSE: Final = "C"


class Decision(Record, frozen=True, kw_only=True):
    """A decision about `version`, which made the plan with this `revision`.

    - `rule`: the rule that decided: A, B or C (`rollout/publication_rule.py`, `rollout/paired_rule.py`), "unpaired"
      (`rollout/unpaired_rule.py`), "change" (`rollout/statistics.py`), or "operator".
    - `stable`, `reference`: the plan's stable and reference versions after the decision.
    - `count`: the number of decisions that this entry represents. Of the promotions by the same rule (A, B or C) within
      an hour, only the last one is an entry.
    - `numbers`: the measured numbers on which the decision is based, by name.
    """

    version: int
    action: Action
    time_ms: int
    rule: str = ""
    reason: str = ""
    numbers: dict[str, float] = {}
    revision: int = 0
    stable: int = 0
    reference: int = 0
    count: int = 1
