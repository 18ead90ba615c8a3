"""Garbage collection (mark and sweep): removes versions that are not retained, and blobs that no version references.

    roots: keep, current, plan -> drop the manifests of other versions -> sweep unreferenced blobs past the grace period
           the open offer -------------------------------------------------^

A collection is safe while other processes publish:

- Manifests are removed only if the pointer and the plan have not changed since they were read.
- A blob is removed only if it was last put or published before the grace period. `put` and `publish` renew the time of
  a blob in their own scripts, so a blob that was put is safe for the grace period. If it is published later than that,
  `publish` may report that the blob is missing; it then changes nothing.
- A reader of a version that is being removed gets NotFound or BlobCorrupt.
- A full server accepts the commands of a collection, because they only remove data.

    put -> make_room: above MAX_USED_SHARE of the memory -> drop all but the plan's and the newest versions
                      still above it -> StoreFull

So a publisher collects garbage itself if no other process has done it, or if the retained versions take too much
memory.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from wire.errors import NotFound, StoreFull
from wire.store import keys
from wire.store.commands import CommandLog
from wire.store.plans import Plans
from wire.store.server import Server
from wire.store.versions import Versions

AnyItem = TypeVar("AnyItem")

GRACE_MS = 60_000
"""Grace period of a blob after it was last put or published.

It is short, because a learner publishes heads of half a megabyte several times a second.
"""

LOW_MEMORY_GRACE_MS = 10_000
LOW_MEMORY_VERSIONS = 16
"""Grace period if memory is short, and the number of newest versions that then stay in addition to the plan's."""

BATCH = 64
"""Largest number of keys that one script removes."""

_DROP = """
local current, plan, versions = unpack(KEYS, 1, 3)
if (redis.call('GET', current) or '0') ~= ARGV[1] then return -1 end
if (redis.call('HGET', plan, 'revision') or '0') ~= ARGV[2] then return -1 end
for i = 4, #KEYS do
  redis.call('UNLINK', KEYS[i])
  redis.call('ZREM', versions, ARGV[i - 1])
end
return #KEYS - 3
"""

_SWEEP = """
local removed = 0
for i = 2, #KEYS do
  local used = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if used and tonumber(used) < tonumber(ARGV[1]) then
    redis.call('UNLINK', KEYS[i])
    redis.call('ZREM', KEYS[1], ARGV[i])
    removed = removed + 1
  end
end
return removed
"""


class Collector:
    """The garbage collector of one server. It needs no lease: any number of collections may run concurrently."""

    def __init__(self, server: Server, versions: Versions, plans: Plans, commands: CommandLog) -> None:
        self._server = server
        self._versions = versions
        self._plans = plans
        self._commands = commands

    def collect(self, keep: Iterable[int], *, grace_ms: int = GRACE_MS) -> int:
        """Removes versions that are not in `keep`, not current and not in the plan, and blobs that are then unused.

        Returns the number of removed versions and blobs together. Raises BadSignature or UnknownFormat if a version
        that stays cannot be read: its blobs would be at risk.
        """
        cutoff = self._server.now_ms() - grace_ms
        num_dropped = self._drop(frozenset(keep))
        referenced = set(self._referenced())
        old = self._server.ask("ZRANGEBYSCORE", self._server.key(keys.BLOBS), "-inf", f"({cutoff}")
        garbage = [digest for digest in map(bytes.decode, old) if digest not in referenced]
        return num_dropped + self._sweep(garbage, cutoff)

    def make_room(self, num_bytes: int = 0) -> None:
        """Collects garbage if `num_bytes` cannot be written. Raises StoreFull if they still cannot be written."""
        try:
            self._server.check_room(num_bytes)
        except StoreFull:
            self.collect(self._versions.stored()[-LOW_MEMORY_VERSIONS:], grace_ms=LOW_MEMORY_GRACE_MS)
            self._server.check_room(num_bytes)

    def _drop(self, keep: frozenset[int]) -> int:
        """Removes the manifests of unneeded versions in batches; returns their number.

        Stops when the pointer or the plan has changed. The next collection then removes the rest.
        """
        key = self._server.key
        current = self._versions.current()
        plan = self._plans.read()
        retained = keep | {current}
        revision = 0
        if plan:
            retained |= set(plan.needed)
            revision = plan.revision
        unneeded = [version for version in self._versions.stored() if version not in retained]
        removed = 0
        for batch in _batches(unneeded):
            script_keys = [key(keys.CURRENT), key(keys.PLAN), key(keys.VERSIONS)]
            script_keys += [key(keys.MANIFEST, version) for version in batch]
            count = self._server.run(_DROP, script_keys, (current, revision, *batch))
            if count < 0:
                break
            removed += count
        return removed

    def _referenced(self) -> Iterator[str]:
        """Yields the digests of the blobs of every stored version, and of the open offer."""
        offer = self._commands.open_offer()
        if offer:
            yield from (tensor.digest for tensor in offer.tensors)
        readable = self._versions.contents()
        for version in self._versions.stored():
            try:
                contents = readable.get(version) or self._versions.read_contents(version)
            except NotFound:
                # Another collection has just removed the version.
                continue
            yield from contents.blobs

    def _sweep(self, digests: list[str], cutoff: int) -> int:
        key = self._server.key
        removed = 0
        for batch in _batches(digests):
            script_keys = [key(keys.BLOBS)]
            script_keys += [key(keys.BLOB, digest) for digest in batch]
            removed += self._server.run(_SWEEP, script_keys, (cutoff, *batch))
        return removed


def _batches(items: list[AnyItem]) -> Iterator[list[AnyItem]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
