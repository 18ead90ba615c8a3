"""Exports and imports the contents of a service's store, for backups.

    read() -> the keys without blobs, at one point in time -> list_blobs(them) -> digests; `Blobs.get` fetches each blob
    write(keys) -> one script for each key; plan and pointers last           is_empty, clear: before a restore

State that expires is left out: reports, and the holders of leases. The epoch of a lease is exported, because otherwise
the store would refuse the epoch of the next holder. After a restore, version numbers continue GAP higher, because
numbers that were used after the backup are in receipts, and a number must never belong to two versions.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Final, Literal, TypeAlias

import msgspec

from wire.errors import UnknownFormat
from wire.keyring import KeyRing
from wire.records import Command, CommandEntry, CommandOutcome, EncoderOffer, Erase, RolloutPlan
from wire.store import keys, signed
from wire.store.commands import CommandLog, append_entries, verify_command
from wire.store.server import Server
from wire.store.signatures import SEALED_LIST
from wire.store.versions import GAP

BATCH: Final = 500
"""Number of keys that one command removes."""

WRITTEN_LAST: Final = (keys.NEWEST, keys.CURRENT, keys.PLAN)
"""The keys that are written last, so that a program that finds them finds all other keys, too."""

LOG_KEYS: Final = (keys.COMMANDS, keys.OUTCOMES)
"""The keys of the log of commands. Its projections are derived from them and not exported."""

_SINGLE_KEYS: Final = (
    *(keys.VERSIONS, keys.HISTORY, keys.EVIDENCE, keys.JUDGED, keys.DECISIONS, *LOG_KEYS),
    *(keys.EPOCH, keys.NOTICES, *WRITTEN_LAST),
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
    """One Redis key, with its name without the prefix.

    `values` has the value of a string, the items of a list, fields and values of a hash alternately, or members and
    scores of a sorted set alternately.
    """

    name: str
    type: KeyType
    values: tuple[bytes, ...]

    @property
    def is_signed(self) -> bool:
        """Whether the key has one signed record."""
        return self.type == "hash" and b"body" in self.fields

    @property
    def fields(self) -> dict[bytes, bytes]:
        """Field -> value of a hash."""
        return dict(zip(self.values[::2], self.values[1::2], strict=True))


class Dump:
    """The keys of one service on one server."""

    def __init__(self, server: Server, ring: KeyRing, commands: CommandLog) -> None:
        self._server = server
        self._ring = ring
        self._commands = commands
        self._prefix = server.config.prefix

    def read(self, leases: Sequence[str]) -> list[StoredKey]:
        """Returns every key except blobs, at one point in time. Of the leases named `leases` it has only the epochs."""
        names = [*(f"{keys.LEASE}:{name}" for name in leases), *_SINGLE_KEYS]
        reply = self._server.run(_READ, [self._server.key(keys.VERSIONS)], [self._prefix, *names])
        stored: list[StoredKey] = []
        for name, kind, values in reply:
            key = StoredKey(name.decode(), kind.decode(), tuple(values))
            stored.append(_without_holder(key))
        return stored

    def verify(self, stored: Sequence[StoredKey], prefix: str) -> None:
        """Raises UnknownKey or BadSignature for the first record that none of our keys signed under `prefix`.

        Raises CannotSign if our keys cannot sign: `write` has to re-sign the records.
        """
        self._ring.require_signer()
        for key in stored:
            name = f"{prefix}{key.name}"
            if key.is_signed:
                self._ring.verify(key.fields[b"body"], key.fields.get(b"signature", b""), name)
            if key.name == keys.COMMANDS:
                for entry, score in zip(key.values[::2], key.values[1::2], strict=True):
                    verify_command(entry, score, self._ring, prefix)
            if key.name == SEALED_LIST:
                for entry in key.values:
                    signed.open_entry(entry, self._ring, name)

    def is_empty(self) -> bool:
        """Whether the server has no key of this service."""
        return next(self._names(), None) is None

    def clear(self, kept: Collection[str] = ()) -> None:
        """Removes every key of this service, blobs included, except keys of the kinds in `kept`."""
        batch: list[bytes] = []
        for name in self._names(kept):
            batch.append(name)
            if len(batch) == BATCH:
                self._server.ask("UNLINK", *batch)
                batch = []
        if batch:
            self._server.ask("UNLINK", *batch)

    def write(self, stored: Sequence[StoredKey], *, newest: int) -> int:
        """Writes the keys; returns the number after which version numbers continue, which is above `newest`.

        The blobs must be in the store already. Records are re-signed with our first key for our prefix. Erasures that
        the store has already are appended to the commands, because erasures are permanent. Returns when everything is
        on the server's disk. Idempotent.
        """
        by_name = {key.name: self._sign_again(key) for key in stored if key.name not in LOG_KEYS}
        entries = list_entries(stored)

        def append_erasures(present: list[CommandEntry]) -> Sequence[CommandEntry]:
            return append_entries(entries, [entry for entry in present if entry.command.verb == Erase.VERB])

        self._commands.rewrite(append_erasures)
        last = [by_name.pop(name) for name in WRITTEN_LAST if name in by_name]
        highest = max(newest, *(int(key.values[0]) for key in last if key.name == keys.NEWEST), 0) + GAP
        last = [key for key in last if key.name != keys.NEWEST]
        for key in (*by_name.values(), StoredKey(keys.NEWEST, "string", (b"%d" % highest,)), *last):
            self._server.run(_WRITE, [self._server.key(key.name)], [key.type, *key.values])
        self._server.sync()
        return highest

    def _sign_again(self, key: StoredKey) -> StoredKey:
        """Returns the key with its records re-signed by our first key, for our prefix."""
        name = self._server.key(key.name)
        values = key.values
        if key.is_signed:
            signature = self._ring.sign(key.fields[b"body"], name).encode()
            values = tuple(chain.from_iterable((key.fields | {b"signature": signature}).items()))
        if key.name == SEALED_LIST:
            values = tuple(signed.seal_entry(entry[signed.SEAL_CHARS :], self._ring, name) for entry in values)
        return StoredKey(key.name, key.type, values)

    def _names(self, kept: Collection[str] = ()) -> Iterator[bytes]:
        """Yields the names of all keys of this service, except keys of the kinds in `kept`.

        Keys of another service whose prefix begins with ours are recognized by the rest of their names.
        """
        cursor = 0
        while True:
            reply = self._server.ask("SCAN", cursor, "MATCH", f"{_escape(self._prefix)}*", "COUNT", 1_000)
            cursor = int(reply[0])
            for name in reply[1]:
                if name.decode().removeprefix(self._prefix).partition(":")[0] in keys.ALL.difference(kept):
                    yield name
            if not cursor:
                return


def list_blobs(stored: Sequence[StoredKey]) -> dict[str, int]:
    """Returns digest -> size in bytes of the blobs that the versions and the open offer need. Raises UnknownFormat."""
    sizes: dict[str, int] = {}
    for version, body in manifests(stored):
        sizes |= {tensor.digest: tensor.num_bytes for tensor in signed.decode_manifest(body, version).tensors}
    offers = [entry for entry in list_entries(stored) if entry.command.verb == EncoderOffer.VERB]
    if offers and (offers[-1].outcome is None or not offers[-1].outcome.is_final):
        offer = offers[-1].command.read(EncoderOffer)
        sizes |= {tensor.digest: tensor.num_bytes for tensor in offer.tensors}
    return sizes


def list_entries(stored: Sequence[StoredKey]) -> list[CommandEntry]:
    """Returns the log of commands, unverified. Raises UnknownFormat."""
    by_name = {key.name: key for key in stored if key.name in LOG_KEYS}
    if keys.COMMANDS not in by_name:
        return []
    outcomes = by_name[keys.OUTCOMES].fields if keys.OUTCOMES in by_name else {}
    entries: list[CommandEntry] = []
    for entry in by_name[keys.COMMANDS].values[::2]:
        command = signed.decode(signed.split_entry(entry)[0], Command, keys.COMMANDS)
        outcome = None
        if body := outcomes.get(b"%d" % command.seq):
            outcome = signed.decode(body, CommandOutcome, keys.OUTCOMES)
        entries.append(CommandEntry(command, outcome))
    return entries


def with_plan_time(stored: Sequence[StoredKey], time_ms: int) -> list[StoredKey]:
    """Returns the keys with the time of the plan set to `time_ms`, because replicas refuse a plan that is older than
    their own."""
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
                raise UnknownFormat(f"{key.name}: expected the number of a version after the colon")
            yield int(number), key.fields[b"body"]


def _without_holder(key: StoredKey) -> StoredKey:
    if not key.name.startswith(f"{keys.LEASE}:"):
        return key
    return StoredKey(key.name, key.type, (b"epoch", key.fields.get(b"epoch", b"0")))


def _escape(prefix: str) -> str:
    r"""Returns a glob pattern that matches only `prefix` itself.

    >>> _escape("a*b:")
    'a\\*b:'
    """
    return "".join(f"\\{char}" if char in r"*?[]^\\" else char for char in prefix)
