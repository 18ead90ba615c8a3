"""Everything that the store holds of one service, as values that another server takes: for backups.

    read() -> the small keys, as they were in one moment -> blobs_of(them) -> digests, each fetched by `Blobs.get`
    write(keys) -> each in one script, those that are followed last         is_empty, clear: before a restore

What expires is left out: reports, and who holds a lease. The epoch of a lease is kept, or the next holder would have
one that the store refuses. After a restore the numbers of versions go on GAP higher: numbers that were given after the
backup are in receipts, and must never name two versions.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Final, Literal, TypeAlias

import msgspec

from wire.errors import UnknownFormat
from wire.keyring import KeyRing
from wire.records import Command, CommandEntry, CommandOutcome, EncoderOffer, Erase, RolloutPlan
from wire.store import keys, signed
from wire.store.commands import CommandLog, merged, verified
from wire.store.server import Server
from wire.store.signatures import SEALED
from wire.store.versions import GAP

BATCH: Final = 500
"""Keys that one command removes."""

FOLLOWED: Final = (keys.NEWEST, keys.CURRENT, keys.PLAN)
"""Written last: a program that finds them finds everything else."""

LOG: Final = (keys.COMMANDS, keys.OUTCOMES)
"""The log of commands: whatever else is made of it is written with it."""

_SINGLE: Final = (
    *(keys.VERSIONS, keys.HISTORY, keys.EVIDENCE, keys.JUDGED, keys.DECISIONS, *LOG),
    *(keys.EPOCH, keys.NOTICES, *FOLLOWED),
)

_READ: Final = """
local prefix, found = ARGV[1], {}
local readers = {
  string = function(key) return {redis.call('GET', key)} end,
  hash = function(key) return redis.call('HGETALL', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
}
local function add(name)
  local kind = redis.call('TYPE', prefix .. name).ok
  if readers[kind] then found[#found + 1] = {name, kind, readers[kind](prefix .. name)} end
end
for _, version in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do add('manifest:' .. version) end
for i = 2, #ARGV do add(ARGV[i]) end
return found
"""

_WRITE: Final = """
redis.call('DEL', KEYS[1])
local kind = ARGV[1]
if kind == 'string' then redis.call('SET', KEYS[1], ARGV[2]) end
for i = 2, #ARGV do
  if kind == 'list' then redis.call('RPUSH', KEYS[1], ARGV[i]) end
  if kind == 'hash' and i % 2 == 0 then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  if kind == 'zset' and i % 2 == 0 then redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i]) end
end
"""

KeyType: TypeAlias = Literal["string", "hash", "list", "zset"]


class StoredKey(msgspec.Struct, frozen=True, array_like=True):
    """One key without its prefix: its value, the items, fields and values by turns, or members and scores by turns."""

    name: str
    type: KeyType
    values: tuple[bytes, ...]

    @property
    def is_signed(self) -> bool:
        """Whether it is one signed record."""
        return self.type == "hash" and b"body" in self.fields

    @property
    def fields(self) -> dict[bytes, bytes]:
        """The fields of a hash."""
        return dict(zip(self.values[::2], self.values[1::2], strict=True))


class Dump:
    """The keys of one service on one server."""

    def __init__(self, server: Server, ring: KeyRing, commands: CommandLog) -> None:
        self._server = server
        self._ring = ring
        self._commands = commands
        self._prefix = server.config.prefix

    def read(self, leases: Sequence[str]) -> list[StoredKey]:
        """Returns every key but the blobs, as they are in one moment; of `leases` the epochs alone."""
        names = [*(f"{keys.LEASE}:{name}" for name in leases), *_SINGLE]
        found = self._server.run(_READ, [self._server.key(keys.VERSIONS)], [self._prefix, *names])
        return [_without_holder(StoredKey(name.decode(), kind.decode(), tuple(values))) for name, kind, values in found]

    def verify(self, stored: Sequence[StoredKey], prefix: str) -> None:
        """Raises UnknownKey and BadSignature for the first record that no key of ours signed under `prefix`.

        Raises CannotSign where our keys cannot sign them for another prefix, as `write` does.
        """
        self._ring.require_signer()
        for key in stored:
            name = f"{prefix}{key.name}"
            if key.is_signed:
                self._ring.verify(key.fields[b"body"], key.fields.get(b"signature", b""), name)
            if key.name == keys.COMMANDS:
                for entry, score in zip(key.values[::2], key.values[1::2], strict=True):
                    verified(entry, score, self._ring, prefix)
            if key.name == SEALED:
                for entry in key.values:
                    signed.opened(entry, self._ring, name)

    def is_empty(self) -> bool:
        """Whether there is no key of ours, of any kind."""
        return next(self._names(), None) is None

    def clear(self, kept: Collection[str] = ()) -> None:
        """Removes every key of ours but those of the kinds in `kept`, the blobs among them."""
        batch: list[bytes] = []
        for name in self._names(kept):
            batch.append(name)
            if len(batch) == BATCH:
                self._server.ask("UNLINK", *batch)
                batch = []
        if batch:
            self._server.ask("UNLINK", *batch)

    def write(self, stored: Sequence[StoredKey], *, newest: int) -> int:
        """Writes the keys, whose blobs are put; returns the number from which versions go on: above `newest`, too.

        They are signed anew, by our first key and for our prefix. Erasures that the store has already are kept, behind
        the commands that are written: they are permanent. Returns when all is on the server's disk. Idempotent.
        """
        by_name = {key.name: self._signed_here(key) for key in stored if key.name not in LOG}
        entries = entries_of(stored)
        self._commands.rewrite(lambda own: merged(entries, [each for each in own if each.command.verb == Erase.VERB]))
        last = [by_name.pop(name) for name in FOLLOWED if name in by_name]
        highest = max(newest, *(int(key.values[0]) for key in last if key.name == keys.NEWEST), 0) + GAP
        last = [key for key in last if key.name != keys.NEWEST]
        for key in (*by_name.values(), StoredKey(keys.NEWEST, "string", (b"%d" % highest,)), *last):
            self._server.run(_WRITE, [self._server.key(key.name)], [key.type, *key.values])
        self._server.sync()
        return highest

    def _signed_here(self, key: StoredKey) -> StoredKey:
        """Returns a key with the signatures of its records for our prefix, by our first key."""
        name = self._server.key(key.name)
        values = key.values
        if key.is_signed:
            signature = self._ring.sign(key.fields[b"body"], name).encode()
            values = tuple(chain.from_iterable((key.fields | {b"signature": signature}).items()))
        if key.name == SEALED:
            values = tuple(signed.sealed(entry[signed.SEAL_CHARS :], self._ring, name) for entry in values)
        return StoredKey(key.name, key.type, values)

    def _names(self, kept: Collection[str] = ()) -> Iterator[bytes]:
        """Yields the names of all our keys. Another service may have a prefix that begins with ours."""
        cursor = 0
        while True:
            reply = self._server.ask("SCAN", cursor, "MATCH", f"{_escaped(self._prefix)}*", "COUNT", 1_000)
            cursor = int(reply[0])
            for name in reply[1]:
                if name.decode().removeprefix(self._prefix).partition(":")[0] in keys.ALL.difference(kept):
                    yield name
            if not cursor:
                return


def blobs_of(stored: Sequence[StoredKey]) -> dict[str, int]:
    """Returns the sizes of the blobs that the stored versions and the offer need, by digest. Raises UnknownFormat."""
    found: dict[str, int] = {}
    for version, body in manifests(stored):
        found |= {tensor.digest: tensor.num_bytes for tensor in signed.decode_manifest(body, version).tensors}
    offers = [each for each in entries_of(stored) if each.command.verb == EncoderOffer.VERB]
    if offers and (offers[-1].outcome is None or not offers[-1].outcome.is_final):
        offer = offers[-1].command.read(EncoderOffer)
        found |= {tensor.digest: tensor.num_bytes for tensor in offer.tensors}
    return found


def entries_of(stored: Sequence[StoredKey]) -> list[CommandEntry]:
    """Returns the log of commands. Raises UnknownFormat."""
    by_name = {key.name: key for key in stored if key.name in LOG}
    outcomes = by_name[keys.OUTCOMES].fields if keys.OUTCOMES in by_name else {}
    entries: list[CommandEntry] = []
    for entry in by_name[keys.COMMANDS].values[::2] if keys.COMMANDS in by_name else ():
        command = signed.decode(signed.parts_of(entry)[0], Command, keys.COMMANDS)
        body = outcomes.get(b"%d" % command.seq)
        entries.append(CommandEntry(command, signed.decode(body, CommandOutcome, keys.OUTCOMES) if body else None))
    return entries


def in_force_since(stored: Sequence[StoredKey], time_ms: int) -> list[StoredKey]:
    """Returns the keys with a plan that is in force since `time_ms`: replicas refuse one that was before theirs."""
    return [_plan_since(key, time_ms) if key.name == keys.PLAN else key for key in stored]


def _plan_since(key: StoredKey, time_ms: int) -> StoredKey:
    plan = signed.decode(key.fields[b"body"], RolloutPlan, keys.PLAN)
    body = signed.encode(msgspec.structs.replace(plan, time_ms=time_ms))
    return StoredKey(key.name, key.type, tuple(chain.from_iterable((key.fields | {b"body": body}).items())))


def manifests(stored: Sequence[StoredKey]) -> Iterator[tuple[int, bytes]]:
    """Yields the number and the body of every manifest."""
    for key in stored:
        kind, _, number = key.name.partition(":")
        if kind == keys.MANIFEST:
            if not number.isdigit():
                raise UnknownFormat(f"{key.name} names no version")
            yield int(number), key.fields[b"body"]


def _without_holder(key: StoredKey) -> StoredKey:
    if not key.name.startswith(f"{keys.LEASE}:"):
        return key
    return StoredKey(key.name, key.type, (b"epoch", key.fields.get(b"epoch", b"0")))


def _escaped(prefix: str) -> str:
    r"""Returns a pattern that matches the prefix alone.

    >>> _escaped("a*b:")
    'a\\*b:'
    """
    return "".join(f"\\{char}" if char in r"*?[]^\\" else char for char in prefix)
