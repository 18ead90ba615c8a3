"""Makes the API keys of a scene: that of the load, and that of the client that attacks."""

import random
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.attacker import Attacker
from bench.chaos.faults import Attack, FaultKind
from bench.chaos.load import SOURCE
from bench.chaos.scene import lasting
from bench.chaos.size import SceneSize
from services.settings import Settings
from serving.http.keys import Role, create_key
from wire.clock import now_ms

ROLES = (Role.PREDICT, Role.FEEDBACK)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys, and the file that has their digests. `breaches` are what the service took from the attacker wrongly."""

    file: Path
    load: str
    attacker: str
    breaches: list[str]

    def kind(self, settings: Settings, size: SceneSize) -> FaultKind:
        serving = settings.serving
        url = f"http://{serving.http_host}:{serving.http_port}"

        def make(rng: random.Random) -> Attack:
            seed = rng.randrange(1 << 30)
            return Attack(lambda: Attacker(url, self.attacker, seed), self.breaches.extend, lasting(rng, size))

        return FaultKind("attack", make)


def api_keys(folder: Path) -> ApiKeys:
    """Makes the keys in a new file. The source of an event over HTTP is the name of its key."""
    file = folder / "api-keys.json"
    folder.mkdir(parents=True, exist_ok=True)
    _, load = create_key(file, SOURCE, ROLES, now_ms=now_ms())
    _, attacker = create_key(file, "mallory", ROLES, now_ms=now_ms())
    return ApiKeys(file, load, attacker, breaches=[])
