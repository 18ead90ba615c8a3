"""Lets a client with an API key of its own attack for a while (bench/chaos/attacker.py)."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.chaos.attacker import Attacker
from bench.chaos.faults.fault import Lasting


@dataclass(slots=True)
class Attack(Lasting):
    """Attacks until it is healed. `note` gets what the service took that nobody may have taken."""

    attacker: Callable[[], Attacker]
    note: Callable[[list[str]], None]
    lasts_s: float
    name: str = "attack"
    num_kills: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def inject(self) -> str:
        self._thread = threading.Thread(target=self._attack, name="attacker", daemon=True)
        self._thread.start()
        return ""

    def heal(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _attack(self) -> None:
        """Attacks.

        consumes: nothing; produces: requests; waits for: replies, a pause; unblocked by: `heal`
        """
        self.note(self.attacker().run(self._over).breaches)
