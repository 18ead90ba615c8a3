"""The simulated Redis server behind the door that the store has for it, `wire.store.server.Server`.

Store --Server.ask, run, sync, subscribe--> network --> RedisModel, which syncs its file once a second, or at once
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from tests.simulation.network import Network, Unreachable
from tests.simulation.redis_model import RedisModel
from tests.simulation.scheduler import Scheduler
from tests.simulation.threads import Waiters
from wire.config import StoreConfig
from wire.errors import StoreUnavailable
from wire.store.server import DISK_WAIT_MS, Server

REDIS: Final = "redis"
ATTEMPTS: Final = 3
"""How often the client library sends an idempotent command, with short pauses in between."""

EPOCH_MS: Final = 1_700_000_000_000
"""The time of the world's beginning."""


class RedisServer:
    """The one server of a world. Its clock is `skew_ms` ahead; `syncs_always` syncs each change before its reply."""

    def __init__(self, scheduler: Scheduler, network: Network, *, syncs_always: bool) -> None:
        self._scheduler = scheduler
        self.network = network
        self.model = RedisModel(self.now_ms, self._on_published)
        self.syncs_always = syncs_always
        self.skew_ms = 0
        self.num_cuts = 0
        self.num_syncs = 0
        self._watchers = Waiters()
        self._synced = Waiters()

    def now_ms(self) -> int:
        return EPOCH_MS + int(1e3 * self._scheduler.now_s) + self.skew_ms

    def request(self, run: Callable[[], Any], *, timeout_s: float, attempts: int) -> Any:
        """Returns the reply to a request. Raises StoreUnavailable."""
        for attempt in range(1, attempts + 1):
            try:
                return self.network.request(REDIS, lambda: self._carried_out(run), timeout_s=timeout_s)
            except Unreachable as error:
                if attempt == attempts:
                    raise StoreUnavailable(str(error)) from error
                self._scheduler.pause(0.01 * attempt)
        raise AssertionError("there is at least one attempt")

    def _carried_out(self, run: Callable[[], Any]) -> Any:
        reply = run()
        if self.syncs_always:
            self.model.sync()
        return reply

    def sync(self) -> None:
        """Syncs the file: everything that was written so far survives a power cut."""
        self.num_syncs += 1
        self.model.sync()
        self._synced.wake_all()

    def wait_for_sync(self) -> None:
        """Waits until what was written so far is on the disk. Raises StoreUnavailable."""
        num_before = (self.num_cuts, self.num_syncs)
        if self.model.num_unsynced:
            self._synced.wait(1e-3 * DISK_WAIT_MS)
        is_synced = not self.model.num_unsynced or self.num_syncs > num_before[1]
        if self.num_cuts > num_before[0] or not is_synced or self.network.is_away(REDIS):
            raise StoreUnavailable("the server hung up before its disk had everything")

    def cut_power(self, num_lost: int) -> None:
        """Loses the newest changes that are not on the disk."""
        self.num_cuts += 1
        self._scheduler.note(f"redis loses {min(num_lost, self.model.num_unsynced)} changes")
        self.model.cut(num_lost)
        self._synced.wake_all()
        self._watchers.wake_all()

    def wait_for_message(self, timeout_s: float) -> None:
        self._watchers.wait(timeout_s)

    def _on_published(self, channel: bytes) -> None:
        self._watchers.wake_all()


class SimServer(Server):
    """A client of the simulated server, with the verbs of the real one."""

    def __init__(self, config: StoreConfig, server: RedisServer) -> None:
        self.config = config
        self.address = "redis://simulated"
        self._server = server
        self._timeout_s = 1e-3 * config.timeout_ms

    def ask(self, *command: Any) -> Any:
        return self._request(lambda: self._server.model.call(*command), attempts=ATTEMPTS)

    def ask_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        replies: list[Any] = self._request(lambda: self._called(commands), attempts=ATTEMPTS)
        return replies

    def ask_once(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        replies: list[Any] = self._request(lambda: self._called(commands), attempts=1, share=0.25)
        return replies

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        return self._request(lambda: self._server.model.run(script, keys, args), attempts=ATTEMPTS)

    def sync(self) -> None:
        self._request(lambda: None, attempts=1)
        self._server.wait_for_sync()

    def why_not_durable(self) -> str:
        return ""

    def memory(self) -> tuple[int, int]:
        return 1, 0

    def check_policy(self) -> None:
        self._request(lambda: None, attempts=ATTEMPTS)

    def subscribe(self, channel: str) -> Any:
        return Subscriber(self._server)

    def close(self) -> None:
        pass

    def _called(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        return [self._server.model.call(*command) for command in commands]

    def _request(self, run: Callable[[], Any], *, attempts: int, share: float = 1.0) -> Any:
        return self._server.request(run, timeout_s=share * self._timeout_s, attempts=attempts)


class Subscriber:
    """The simulated subscription to a channel."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def get_message(self, timeout: float) -> None:
        """Waits for a message, at most for so long. Raises redis-py's ConnectionError."""
        if self._server.network.is_away(REDIS):
            raise RedisConnectionError("no server")
        self._server.wait_for_message(timeout)

    def close(self) -> None:
        pass
