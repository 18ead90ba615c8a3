"""How much of it: a few minutes for the slow tests, an hour for the published rows."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneSize:
    """What one scene is played with. Everything that is drawn follows from `seed`."""

    seed: int = 0
    events: int = 50_000
    """Events of the load. More are sent where the faults take longer."""
    kills: int = 50
    """Faults that kill a process."""
    others: int = 25
    """Faults that kill nobody: pauses, the network, the disk, the clock, the store."""
    rate: float = 40.0
    """Events a second, over Kafka and HTTP together."""
    http_every: int = 10
    """Each event whose number divides by this is asked for over HTTP."""
    label_delay_s: tuple[float, float] = (1.0, 8.0)
    """Seconds from an answer to its label."""
    longest_s: float = 12.0
    """Seconds that a fault lasts at most which is not over at once."""
    only: str = ""
    """Draw only faults that have this in their name."""


FULL = SceneSize()

SHORT = SceneSize(events=1_500, kills=5, others=3, rate=30.0, label_delay_s=(1.0, 4.0))
"""What the slow tests play in each scene: about a minute of faults."""
