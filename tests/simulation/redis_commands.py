"""The commands of Redis on its data: the part of them that the store uses.

Each method that begins with `_` and the small letters of a command is that command, with the reply that the client
library gives. A value that lies under a key is never changed in place.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from tests.simulation.lua_values import text

Undo: TypeAlias = list[tuple[bytes, Any]]
"""The keys that one change has written, with what they were before; None where there was none."""


class RedisCommands:
    """The data of one server, and the commands on it. `now_ms` is its clock.

    `published` is called with the channel of each message.
    """

    def __init__(self, now_ms: Callable[[], int], published: Callable[[bytes], None]) -> None:
        self._now_ms = now_ms
        self._published = published
        self._data: dict[bytes, Any] = {}
        self._expiries: dict[bytes, int] = {}
        self._change: Undo | None = None

    def carry_out(self, command: str, *args: Any) -> Any:
        """Carries out one command; returns its reply as the client library gives it."""
        run: Callable[..., Any] = getattr(self, f"_{command.lower()}")
        return run(*(encoded(arg) for arg in args))

    def _value(self, key: bytes) -> Any:
        if self._expiries.get(key, math.inf) <= self._now_ms():
            return None
        return self._data.get(key)

    def _write(self, key: bytes, value: Any) -> None:
        """Puts a value under a key; an empty one removes it. A value that is there is never changed in place."""
        assert self._change is not None
        self._change.append((key, self._data.get(key)))
        self._expiries.pop(key, None)
        if value or isinstance(value, bytes):
            self._data[key] = value
        else:
            self._data.pop(key, None)

    def _hash(self, key: bytes) -> dict[bytes, bytes]:
        return dict(self._value(key) or {})

    def _list(self, key: bytes) -> list[bytes]:
        return list(self._value(key) or [])

    def _ranked(self, key: bytes) -> list[tuple[bytes, float]]:
        return sorted((self._value(key) or {}).items(), key=lambda item: (item[1], item[0]))

    def _get(self, key: bytes) -> Any:
        return self._value(key)

    def _mget(self, *keys: bytes) -> Any:
        return [self._value(key) for key in keys]

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Any:
        self._write(key, value)
        if options:
            self._expiries[key] = self._now_ms() + int(options[1])
        return True

    def _incr(self, key: bytes) -> Any:
        value = int(self._value(key) or 0) + 1
        self._write(key, b"%d" % value)
        return value

    def _del(self, *keys: bytes) -> Any:
        found = [key for key in keys if self._value(key) is not None]
        for key in found:
            self._write(key, None)
        return len(found)

    def _unlink(self, *keys: bytes) -> Any:
        return self._del(*keys)

    def _exists(self, *keys: bytes) -> Any:
        return sum(self._value(key) is not None for key in keys)

    def _rename(self, old: bytes, new: bytes) -> Any:
        self._write(new, self._value(old))
        self._write(old, None)
        return True

    def _publish(self, channel: bytes, message: bytes) -> Any:
        self._published(channel)
        return 0

    def _time(self) -> Any:
        now_ms = self._now_ms()
        return (now_ms // 1000, now_ms % 1000 * 1000)

    def _info(self, section: bytes) -> Any:
        return {"redis_mode": "standalone", "redis_version": "8.0.0", "aof_enabled": 1, "used_memory": 1}

    def _hget(self, key: bytes, field: bytes) -> Any:
        return self._hash(key).get(field)

    def _hmget(self, key: bytes, *fields: bytes) -> Any:
        stored = self._hash(key)
        return [stored.get(field) for field in fields]

    def _hset(self, key: bytes, *pairs: bytes) -> Any:
        stored = self._hash(key)
        num_before = len(stored)
        stored |= dict(zip(pairs[::2], pairs[1::2], strict=True))
        self._write(key, stored)
        return len(stored) - num_before

    def _hsetnx(self, key: bytes, field: bytes, value: bytes) -> Any:
        return 0 if field in self._hash(key) else self._hset(key, field, value)

    def _hdel(self, key: bytes, *fields: bytes) -> Any:
        stored = self._hash(key)
        left = {field: value for field, value in stored.items() if field not in fields}
        if len(left) < len(stored):
            self._write(key, left)
        return len(stored) - len(left)

    def _hexists(self, key: bytes, field: bytes) -> Any:
        return int(field in self._hash(key))

    def _hlen(self, key: bytes) -> Any:
        return len(self._hash(key))

    def _hstrlen(self, key: bytes, field: bytes) -> Any:
        return len(self._hash(key).get(field, b""))

    def _hgetall(self, key: bytes) -> Any:
        return self._hash(key)

    def _lpush(self, key: bytes, *values: bytes) -> Any:
        self._write(key, [*reversed(values), *self._list(key)])
        return self._llen(key)

    def _rpush(self, key: bytes, *values: bytes) -> Any:
        self._write(key, [*self._list(key), *values])
        return self._llen(key)

    def _lrange(self, key: bytes, first: bytes, last: bytes) -> Any:
        stored = self._list(key)
        return stored[_span(first, last, len(stored))]

    def _ltrim(self, key: bytes, first: bytes, last: bytes) -> Any:
        self._write(key, self._lrange(key, first, last))
        return True

    def _llen(self, key: bytes) -> Any:
        return len(self._list(key))

    def _lindex(self, key: bytes, index: bytes) -> Any:
        return dict(enumerate(self._list(key))).get(_place(index, self._llen(key)))

    def _lpos(self, key: bytes, value: bytes) -> Any:
        stored = self._list(key)
        return stored.index(value) if value in stored else None

    def _lset(self, key: bytes, index: bytes, value: bytes) -> Any:
        stored = self._list(key)
        stored[int(index)] = value
        self._write(key, stored)
        return True

    def _zadd(self, key: bytes, *pairs: bytes) -> Any:
        stored: dict[bytes, float] = dict(self._value(key) or {})
        num_before = len(stored)
        stored |= {member: float(score) for score, member in zip(pairs[::2], pairs[1::2], strict=True)}
        self._write(key, stored)
        return len(stored) - num_before

    def _zrem(self, key: bytes, *members: bytes) -> Any:
        return self._zkeep(key, lambda rank, member, score: member not in members)

    def _zscore(self, key: bytes, member: bytes) -> Any:
        score = (self._value(key) or {}).get(member)
        return None if score is None else b"%.17g" % score

    def _zrange(self, key: bytes, first: bytes, last: bytes) -> Any:
        members = [member for member, _ in self._ranked(key)]
        return members[_span(first, last, len(members))]

    def _zrevrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> Any:
        ranked = self._ranked(key)[::-1]
        return _members(ranked[_span(first, last, len(ranked))], options)

    def _zrangebyscore(self, key: bytes, low: bytes, high: bytes, *options: bytes) -> Any:
        return _members([each for each in self._ranked(key) if _is_within(each[1], low, high)], options)

    def _zcard(self, key: bytes) -> Any:
        return len(self._ranked(key))

    def _zremrangebyscore(self, key: bytes, low: bytes, high: bytes) -> Any:
        return self._zkeep(key, lambda rank, member, score: not _is_within(score, low, high))

    def _zremrangebyrank(self, key: bytes, first: bytes, last: bytes) -> Any:
        num = len(self._ranked(key))
        return self._zkeep(key, lambda rank, member, score: not _place(first, num) <= rank <= _place(last, num))

    def _zkeep(self, key: bytes, is_kept: Callable[[int, bytes, float], bool]) -> int:
        ranked = self._ranked(key)
        kept = {member: score for rank, (member, score) in enumerate(ranked) if is_kept(rank, member, score)}
        if len(kept) < len(ranked):
            self._write(key, kept)
        return len(ranked) - len(kept)


def encoded(value: Any) -> Any:
    """Returns an argument as the client library, or Lua, sends it."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, bool):
        raise TypeError("Redis knows no truth values")
    return text(value)


def _members(ranked: list[tuple[bytes, float]], options: tuple[bytes, ...]) -> list[bytes]:
    """Returns the members, each before its score if the options ask for it."""
    if options != (b"WITHSCORES",):
        return [member for member, _ in ranked]
    return [part for member, score in ranked for part in (member, b"%.17g" % score)]


def _span(first: bytes, last: bytes, length: int) -> slice:
    return slice(max(_place(first, length), 0), max(_place(last, length), -1) + 1)


def _place(index: bytes, length: int) -> int:
    """Returns an index that may count from the end; below 0 where it lies before the beginning."""
    place = int(index)
    return place if place >= 0 else place + length


def _is_within(score: float, low: bytes, high: bytes) -> bool:
    is_above = score > float(low[1:]) if low.startswith(b"(") else score >= float(low)
    is_below = score < float(high[1:]) if high.startswith(b"(") else score <= float(high)
    return is_above and is_below
