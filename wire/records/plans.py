"""The rollout plan: which version answers which traffic."""

from wire.records.record import ArmName, Record


class Arm(Record, frozen=True, kw_only=True):
    """A share of the traffic, in [0, 1], and the version that answers it."""

    name: ArmName
    version: int
    share: float


STABLE: ArmName = "stable"
CANDIDATE: ArmName = "candidate"
STAND_IN: ArmName = "stand-in"
"""The arm of answers from a replica that cannot load the stable version and serves another one in its place. No plan
names it, and the rollout counts none of these answers."""


class RolloutPlan(Record, frozen=True, kw_only=True):
    """Which version answers which share of the entities.

    `revision` grows by one with every change. `salt` seeds the split; it changes only when a new split is wanted.
    `previous` is the stable version before this one, to which a rollback returns (0: none). While `pinned` is set,
    nothing is promoted and no new candidate is admitted.
    """

    revision: int
    salt: str
    arms: tuple[Arm, ...]
    previous: int = 0
    pinned: bool = False
    reason: str = ""
    time_ms: int = 0

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
    def versions(self) -> tuple[int, ...]:
        """Every version that answers traffic, stable first."""
        return tuple(dict.fromkeys(arm.version for arm in self.arms))

    @property
    def needed(self) -> tuple[int, ...]:
        """Every version that must be stored: those that answer, stable first, and the one to which a rollback returns.

        >>> RolloutPlan(revision=1, salt="", arms=(Arm(name=STABLE, version=7, share=1.0),), previous=4).needed
        (7, 4)
        """
        return tuple(version for version in dict.fromkeys((*self.versions, self.previous)) if version)
