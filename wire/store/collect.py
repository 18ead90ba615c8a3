"""Removes versions that nobody keeps, and blobs that no remaining version names.

    keep + current + plan -> manifests of other versions go -> blobs that none of the rest names, past grace, go

Safe while others publish: manifests go only if pointer and plan are still what we read, and a blob only if it was not
put or published since we looked at the clock. `put` and `publish` renew a blob's time in the same script that relies on
it, so what is between `put` and `publish` is safe for the grace period; after that, `publish` says which blob is
gone and changes nothing. A reader of a version that is being removed gets NotFound or BlobCorrupt. A full server lets
collecting pass, since it only removes.

    put_blob -> make_room: above MOST_USED of the memory -> all but the plan's and the newest versions go -> StoreFull

So whoever publishes makes room by himself where nobody collects, or where what is kept for comfort is too much.

Rejected: expiry on blobs (an unchanged encoder would vanish while it serves), and one script for everything (holds up
the server for as long as there is garbage).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from wire.errors import BadSignature, BlobCorrupt, NotFound, StoreFull, UnknownFormat
from wire.store.plans import Plans
from wire.store.server import Server
from wire.store.versions import Versions

AnyItem = TypeVar("AnyItem")

GRACE_MS = 120_000
"""How long a blob is safe after it was put or published last: versions of two minutes, whatever else is kept."""

PRESSED_GRACE_MS = 10_000
PRESSED_VERSIONS = 16
"""The same, and the newest versions that stay besides the plan's, where there is no room for more."""

BATCH = 64
"""Keys removed by one script."""

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


@dataclass(frozen=True, slots=True)
class Contents:
    """What a version's manifest says that matters here: the erasures before it, and its blobs by digest, in bytes."""

    erased: int
    blobs: Mapping[str, int]


class Collector:
    """Removes what nobody keeps from one server. Any number may run at once.

    Manifests are read once each, and remembered by version and signature: a number is used again after a wipe.
    """

    def __init__(self, server: Server, versions: Versions, plans: Plans) -> None:
        self._server = server
        self._versions = versions
        self._plans = plans
        self._read: dict[tuple[int, bytes | None], Contents] = {}

    def contents(self) -> dict[int, Contents]:
        """What the stored versions name; one that cannot be read is left out."""
        versions = self._versions.stored()
        signatures = self._server.ask_many(
            [("HGET", self._server.key("manifest", version), "signature") for version in versions]
        )
        before = self._read
        self._read = {}
        for name in zip(versions, signatures, strict=True):
            try:
                self._read[name] = before.get(name) or self._contents_of(name[0])
            except (NotFound, BadSignature, UnknownFormat, BlobCorrupt):
                continue
        return {version: contents for (version, _), contents in self._read.items()}

    def collect(self, keep: Iterable[int], grace_ms: int) -> int:
        """Removes versions that are not in `keep`, current or in the plan, and their blobs. Returns how many things.

        Raises BadSignature or UnknownFormat when a version that stays cannot be read: its blobs would be at risk.
        """
        cutoff = self._server.now_ms() - grace_ms
        dropped = self._drop(frozenset(keep))
        named = set(self._named())
        old = self._server.ask("ZRANGEBYSCORE", self._server.key("blobs"), "-inf", f"({cutoff}")
        return dropped + self._sweep([digest for digest in map(bytes.decode, old) if digest not in named], cutoff)

    def make_room(self, num_bytes: int) -> None:
        """Sees to it that `num_bytes` may be written. Raises StoreFull where what must stay takes too much."""
        try:
            self._server.check_room(num_bytes)
        except StoreFull:
            self.collect(self._versions.stored()[-PRESSED_VERSIONS:], PRESSED_GRACE_MS)
            self._server.check_room(num_bytes)

    def _drop(self, keep: frozenset[int]) -> int:
        """Removes manifests, in batches, until a batch finds that pointer or plan have moved: the next call goes on."""
        key = self._server.key
        current = self._versions.current()
        plan = self._plans.plan()
        kept = keep | {current} | set(plan.needed if plan else ())
        removed = 0
        for batch in _batches([version for version in self._versions.stored() if version not in kept]):
            keys = [key("current"), key("plan"), key("versions"), *(key("manifest", version) for version in batch)]
            count = self._server.run(_DROP, keys, (current, plan.revision if plan else 0, *batch))
            if count < 0:
                break
            removed += count
        return removed

    def _named(self) -> Iterator[str]:
        readable = self.contents()
        for version in self._versions.stored():
            try:
                yield from (readable.get(version) or self._contents_of(version)).blobs
            except NotFound:
                continue  # removed meanwhile by another collection

    def _contents_of(self, version: int) -> Contents:
        manifest = self._versions.manifest(version)
        return Contents(manifest.erased, {tensor.digest: tensor.num_bytes for tensor in manifest.tensors})

    def _sweep(self, digests: list[str], cutoff: int) -> int:
        key = self._server.key
        return sum(
            self._server.run(_SWEEP, [key("blobs"), *(key("blob", digest) for digest in batch)], (cutoff, *batch))
            for batch in _batches(digests)
        )


def _batches(items: list[AnyItem]) -> Iterator[list[AnyItem]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
