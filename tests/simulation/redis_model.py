"""Redis as far as the store uses it: keys, the commands on them, scripts, an append-only file, and a power cut.

    call(command) --> the data, at once        every change is noted until the file is synced --cut--> some are undone

What is on the disk is always a beginning of what was written, since the append-only file is one sequence. So a power
cut undoes the newest changes, as many as the world draws of those since the last sync. A script is one change.

tests/simulation/test_store_model.py compares it, command by command of the store, with a real Redis.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.lua import compiled
from tests.simulation.lua_values import Table
from tests.simulation.redis_commands import RedisCommands, Undo, encoded


class RedisModel(RedisCommands):
    """The data of one server. `now_ms` is its clock. `published` is called with each channel of a message."""

    def __init__(self, now_ms: Callable[[], int], published: Callable[[bytes], None] = lambda channel: None) -> None:
        super().__init__(now_ms, published)
        self._unsynced: list[Undo] = []

    @property
    def num_unsynced(self) -> int:
        """How many changes a power cut may take."""
        return len(self._unsynced)

    @property
    def keys(self) -> list[bytes]:
        return [key for key in sorted(self._data) if self._value(key) is not None]

    def value(self, key: bytes) -> Any:
        """Returns what is under a key; None where nothing is."""
        return self._value(key)

    def sync(self) -> None:
        """Makes everything that was written so far survive a power cut."""
        self._unsynced.clear()

    def cut(self, num_lost: int) -> None:
        """Goes back to what was on the disk, where it lacks the newest `num_lost` changes."""
        for _ in range(min(num_lost, len(self._unsynced))):
            for key, before in reversed(self._unsynced.pop()):
                if before is None:
                    self._data.pop(key, None)
                else:
                    self._data[key] = before
        self._unsynced.clear()

    def call(self, command: str, *args: Any) -> Any:
        """Carries out one command; returns its reply as the client library gives it."""
        return self._changing(lambda: self.carry_out(command, *args))

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Carries out a script, all of it or nothing."""
        names = Table.of([key.encode() for key in keys])
        values = Table.of([encoded(arg) for arg in args])
        return self._changing(lambda: _to_reply(compiled(script)(names, values, self._called_by_lua)))

    def _changing(self, run: Callable[[], Any]) -> Any:
        self._change = []
        try:
            return run()
        finally:
            if self._change:
                self._unsynced.append(self._change)
            self._change = None

    def _called_by_lua(self, name: bytes, *args: Any) -> Any:
        reply = self.carry_out(name.decode(), *args)
        if isinstance(reply, dict):
            reply = [part for pair in reply.items() for part in pair]
        return _to_lua(reply)


def _to_lua(reply: Any) -> Any:
    if reply is None:
        return False
    if reply is True:
        return Table({b"ok": b"OK"})
    if isinstance(reply, list | tuple):
        return Table.of([_to_lua(part) for part in reply])
    return reply


def _to_reply(value: Any) -> Any:
    """Returns what a script returns as its caller gets it."""
    if value is None or value is False:
        return None
    if value is True:
        return 1
    if isinstance(value, Table):
        return [_to_reply(part) for part in value.items_in_order()]
    return int(value) if isinstance(value, int | float) else value
