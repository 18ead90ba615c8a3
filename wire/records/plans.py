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
"""The arm of the one version that is judged, from its first answer until it is promoted or withdrawn."""
NEWEST: ArmName = "newest"
"""The arm that follows the learner. It is never judged, and has a small share of its own."""
STAND_IN: ArmName = "stand-in"
"""The arm of answers from a replica that cannot load the stable version and serves another one in its place. No plan
names it, and the rollout counts none of these answers."""


class RolloutPlan(Record, frozen=True, kw_only=True):
    """Which version answers which share of the entities.

    `revision` grows by one with every change. `salt` seeds the split; it changes only when a new split is wanted.
    `arms` are in the order stable, candidate, newest. The stable version is so since `stable_since_ms`. `previous` is
    an earlier one, which was stable for a while; a rollback returns to it (0: none). `reference` is a stable version of
    the past, beside which candidates are judged in total (0: none). While `pinned` is set, nothing is promoted and no
    new candidate is admitted.
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
        """Every version that answers traffic, stable first."""
        return tuple(dict.fromkeys(arm.version for arm in self.arms))

    @property
    def needed(self) -> tuple[int, ...]:
        """Every version that must be stored: those that answer, stable first, then `previous` and `reference`.

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
    """A decision about `version`, by which the plan got its `revision`: what, when, why, and the numbers behind it.

    `rule` is the rule that decided: A, B or C (`rollout/publication_rule.py`, `rollout/paired_rule.py`), "unpaired"
    (`rollout/unpaired_rule.py`), "change" (`rollout/statistics.py`), or "operator". `stable` and `reference`
    are those of the plan afterwards. `count` says for how many decisions this one stands: promotions by one of the
    rules A, B and C in the same hour are one decision, the last of them.
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
