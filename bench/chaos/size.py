"""Defines the size of a scene: a few minutes for the slow tests, an hour for the published rows."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Arm: TypeAlias = Literal["both", "shipped", "durable"]
"""Servers as they are shipped: Apache Kafka syncs nothing, Redis once a second. Durable: both sync before they
acknowledge. A scene is played in one arm; `both` plays each of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneSize:
    """The size of one scene. Everything that is drawn follows from `seed`."""

    seed: int = 0
    arm: Arm = "both"
    events: int = 30_000
    """The number of events. More are sent where the faults take longer."""
    kills: int = 30
    """The number of faults that kill a process."""
    cuts: int = 10
    """The number of power cuts: of the broker, of Redis, of the learner, and of all."""
    others: int = 20
    """The number of all other faults: pauses, the network, the disk, the clock, the store."""
    rate: float = 40.0
    """Events a second, over Kafka and HTTP together."""
    http_every: int = 10
    """Each event whose number is a multiple of this is asked for over HTTP."""
    label_delay_s: tuple[float, float] = (1.0, 8.0)
    """The bounds of the seconds from an answer to its label."""
    fastest_call_s: float = 2.0
    longest_s: float = 12.0
    """The bounds, in seconds, of a fault that is not over at once."""
    stuck_s: float = 90.0
    """A service that has not recovered by itself after this long is started anew, as an operator would do, and counted.
    """
    only: str = ""
    """Only kinds of faults with one of these in their name are drawn, split at commas: `cut,pause broker`."""
    connection: str = ""
    """Only connections with this in their name are disturbed: `all and Kafka`."""


FULL = SceneSize()

SHORT = SceneSize(
    arm="shipped", seed=125_469, events=1_500, kills=4, cuts=2, others=5, rate=30.0, label_delay_s=(1.0, 4.0)
)
"""The size in the slow tests: about a minute of faults in each scene. This seed draws, of the few faults that fit, the
kill of a learner, a full disk, FLUSHALL, a damaged blob and a power cut of all for `up`, and for `apart` the restore of
a backup, a rotation of keys, an attack, FLUSHALL, delays between Kafka and everybody, power cuts of broker and all."""
