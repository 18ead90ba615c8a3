"""Defines the size of a scene: a few minutes for the slow tests, an hour for the published rows."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Arm: TypeAlias = Literal["both", "shipped", "durable"]
"""How the servers sync. `shipped`: Apache Kafka never syncs, and Redis syncs once a second. `durable`: both sync before
they acknowledge. A scene is played in one arm; `both` plays it in each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneSize:
    """The size of one scene. `seed` determines every random draw."""

    seed: int = 0
    arm: Arm = "both"
    events: int = 30_000
    """The number of events. More events are sent if the faults take longer."""
    kills: int = 30
    """The number of faults that kill a process."""
    cuts: int = 10
    """The number of power cuts: of the broker, of Redis, of the learner, and of all."""
    others: int = 20
    """The number of all other faults: pauses, the network, the disk, the clock, the store."""
    rate: float = 40.0
    """Events a second, over Kafka and HTTP together."""
    http_every: int = 10
    """One event in this many is sent over HTTP."""
    label_delay_s: tuple[float, float] = (1.0, 8.0)
    """The bounds, in seconds, of the time from an answer to its label."""
    shortest_s: float = 2.0
    longest_s: float = 12.0
    """The bounds, in seconds, of the duration of a fault that does not end at once."""
    stuck_s: float = 90.0
    """A service that has not recovered after this many seconds is restarted and counted as stuck."""
    only: str = ""
    """Draws only kinds of faults whose name contains one of these words, split at commas: `cut,pause broker`."""
    connection: str = ""
    """Disturbs only connections whose name contains this text: `all and Kafka`."""


FULL = SceneSize()

SHORT = SceneSize(
    arm="shipped", seed=125_469, events=1_500, kills=4, cuts=2, others=5, rate=30.0, label_delay_s=(1.0, 4.0)
)
"""The size in the slow tests: about a minute of faults in each scene. The seed was chosen for the few faults that fit.
For `up` it draws the kill of a learner, a full disk, FLUSHALL, a damaged blob and a power cut of all. For `apart` it
draws the restore of a backup, a rotation of keys, an attack, FLUSHALL, delays between Kafka and all programs, and power
cuts of the broker and of all."""
