"""Destroys data in Redis: all of it, or one byte of the current weights."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import redis

from bench.chaos.faults.fault import Lasting
from bench.chaos.faults.process import Kill
from services.programs import open_store
from services.settings import Settings
from wire.errors import WireError
from wire.records import key_name


@dataclass(frozen=True, slots=True)
class FlushAll(Lasting):
    """Makes Redis forget everything."""

    settings: Callable[[], Settings]
    name: str = "FLUSHALL"
    lasts_s: float = 0.0
    num_kills: int = 0

    def inject(self) -> str:
        return _execute(self.settings(), lambda client: client.flushall())

    def heal(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class DamagedBlob:
    """Flips a bit of the current weights in Redis, and kills a replica, which has to read them when it starts."""

    settings: Callable[[], Settings]
    kill: Kill
    place: float
    """Selects the blob, in [0, 1)."""
    name: str = "damaged blob"
    lasts_s: float = 0.0

    @property
    def num_kills(self) -> int:
        return self.kill.num_kills

    def inject(self) -> str:
        settings = self.settings()
        try:
            with closing(open_store(settings)) as store:
                tensors = store.versions.manifest(store.plans.read().stable).tensors  # type: ignore[union-attr]  # caught below
        except (WireError, AttributeError) as error:
            return f"none: {error}"
        tensor = tensors[int(self.place * len(tensors))]
        key = key_name(settings.store.prefix, "blob", tensor.digest)
        reply = _execute(settings, lambda client: client.hset(key, 0, _with_flipped_bit(client.hget(key, 0))))
        return f"{tensor.name} {reply}, killed {self.kill.inject()}"

    def heal(self) -> None:
        self.kill.heal()

    def is_over(self) -> bool:
        return self.kill.is_over()


def _execute(settings: Settings, command: Callable[[Any], object]) -> str:
    """Executes a command on Redis; returns its reply, or why it was refused, in words."""
    try:
        with redis.Redis.from_url(settings.store.url, protocol=2, socket_timeout=2.0) as client:
            return str(command(client))
    except redis.RedisError as error:
        return f"refused: {error}"


def _with_flipped_bit(chunk: bytes) -> bytes:
    middle = len(chunk) // 2
    return chunk[:middle] + bytes([chunk[middle] ^ 0x20]) + chunk[middle + 1 :]
