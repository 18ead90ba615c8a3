"""Versions of the weights: the holder of the lease publishes them one after another, each atomically.

    blobs are stored -> one script: signature, manifest, pointer, history, notice -> publish returns -> sync: on disk

The script checks everything before it writes. A version reaches the disk within about a second, and replicas serve it
before that. Redis writes its append-only file in order: if the pointer to a version is on disk, the version's blobs are
on disk, too. So a server that loses its last second of writes has an earlier version again, which is complete.

`current` is the version from which the learner continues. A rollback sets it back. A new version gets its number from
`next_number` and not from `current`, so that the number of a withdrawn version is never used again.

Rejected: MULTI with WATCH (several round trips, and the outcome is unknown after a lost reply), and a pointer that
readers follow without a signature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wire.config import StoreConfig
from wire.errors import BadSignature, BlobCorrupt, NotFound, ParentMoved, StaleEpoch, UnknownFormat
from wire.keyring import KeyRing
from wire.records import VersionEntry, WeightManifest
from wire.store import keys, signed
from wire.store.lease import Lease
from wire.store.server import NOW, Server
from wire.store.watch import NOTIFY

GAP: Final = 10_000
"""How many version numbers are skipped after a restore, and by each new leader: more than a power failure can lose."""

_STORE = f"""{NOTIFY}{NOW}
local function is_stored(k, a) return redis.call('HGET', KEYS[k + 1], 'body') == ARGV[a + 2] end

local function refusal(k, a)
  local highest = redis.call('GET', KEYS[k + 2])
  if highest and tonumber(ARGV[a + 1]) <= tonumber(highest) then return {{'used', highest}} end
  for i = 1, #KEYS - k - 6 do
    if redis.call('HGET', KEYS[k + 6 + i], 'bytes') ~= ARGV[a + 5 + 2 * i] then
      return {{'blob', ARGV[a + 4 + 2 * i]}}
    end
  end
end

local function store(k, a)
  local manifest, newest, versions, history, notices, blobs = unpack(KEYS, k + 1, k + 6)
  local version, body, signature, entry, limit = unpack(ARGV, a + 1, a + 5)
  for i = 1, #KEYS - k - 6 do redis.call('ZADD', blobs, now, ARGV[a + 4 + 2 * i]) end
  redis.call('HSET', manifest, 'body', body, 'signature', signature)
  redis.call('ZADD', versions, version, version)
  redis.call('SET', newest, version)
  notify(history, notices, entry, limit)
end
"""
"""Lua functions of both scripts. The keys and arguments of the version (`_script_arguments`) begin after `k` other keys
and `a` other arguments."""

_PUBLISH = f"""{_STORE}
local lease, current, fence = unpack(KEYS, 1, 3)
local nonce, epoch, parent = unpack(ARGV, 1, 3)
if is_stored(3, 3) then return {{'ok'}} end

local held = redis.call('HMGET', lease, 'nonce', 'epoch')
local last = redis.call('GET', fence) or '0'
if held[1] ~= nonce or held[2] ~= epoch then return {{'stale', held[2] or '0'}} end
if tonumber(epoch) < tonumber(last) then return {{'stale', last}} end

local now_current = redis.call('GET', current) or '0'
if redis.call('GET', KEYS[5]) and now_current ~= parent then return {{'parent', now_current}} end
local refused = refusal(3, 3)
if refused then return refused end

store(3, 3)
redis.call('SET', fence, epoch)
redis.call('SET', current, ARGV[4])
return {{'ok'}}
"""

_ADD = f"""{_STORE}
if is_stored(0, 0) then return {{'ok'}} end
local refused = refusal(0, 0)
if refused then return refused end
store(0, 0)
return {{'ok'}}
"""
"""Stores a version from which no learner continues. It uses a number, but needs no lease."""


@dataclass(frozen=True, slots=True)
class VersionContents:
    """The part of a manifest that is cached.

    - `erased`: the number of erasures before the version was made.
    - `blobs`: digest -> size in bytes of its blobs.
    """

    erased: int
    blobs: Mapping[str, int]


class Versions:
    """The manifests, the pointer and the history on one server.

    Contents are cached by version and signature, because after a server was wiped a version number is used again.
    """

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._contents: dict[tuple[int, bytes | None], VersionContents] = {}

    def publish(self, manifest: WeightManifest, lease: Lease) -> None:
        """Makes `manifest` current; it is on disk after the next `sync`. Idempotent.

        Raises StaleEpoch if another holder has the lease, ParentMoved if `current` is not the parent or the number is
        used, NotFound if a blob is missing or was collected (put it again). A server without any version, such as one
        that was wiped, accepts any parent.
        """
        if manifest.epoch != lease.epoch:
            raise StaleEpoch(
                f"version {manifest.version} was made in epoch {manifest.epoch}, but the lease has epoch {lease.epoch}"
            )
        check_sizes(manifest, self._server.config)
        if manifest.version < 1:
            raise ValueError(f"version {manifest.version}: the first is 1, because 0 means no version")
        key = self._server.key
        script_keys, args = self._script_arguments(manifest)
        reply = self._server.run(
            _PUBLISH,
            [key(keys.LEASE, lease.name), key(keys.CURRENT), key(keys.EPOCH), *script_keys],
            [lease.nonce, lease.epoch, manifest.parent, *args],
        )
        self._check_outcome(manifest, *(part.decode() for part in reply))

    def add(self, manifest: WeightManifest, *, detail: str) -> None:
        """Stores an imported version outside the learner's lineage; returns when it is on disk. The plan may name it.

        Its epoch is 0. Raises ParentMoved if its number is used already, NotFound if a blob is missing.
        """
        assert manifest.epoch == 0, "an epoch is a lease's"
        check_sizes(manifest, self._server.config)
        reply = self._server.run(_ADD, *self._script_arguments(manifest, detail=detail))
        self._check_outcome(manifest, *(part.decode() for part in reply))
        self._server.sync()

    def sync(self) -> None:
        """Waits until all publications are on disk, if the server can report that (`why_not_durable`)."""
        self._server.sync()

    def manifest(self, version: int) -> WeightManifest:
        """Returns the verified manifest. Raises NotFound, BadSignature, UnknownFormat, BlobCorrupt (a huge blob)."""
        body = signed.fetch(self._server, self._server.key(keys.MANIFEST, version), self._ring)
        if body is None:
            raise NotFound(f"version {version} is not stored: it was never published, or was removed as unneeded")
        manifest = signed.decode_manifest(body, version)
        check_sizes(manifest, self._server.config)
        return manifest

    def is_imported(self, version: int) -> bool:
        """Whether a version was imported, not published by a learner. Raises the errors of `manifest`."""
        return self.manifest(version).epoch == 0

    def current(self) -> int:
        """Returns the version from which the learner continues; 0 if there is none. A rollback sets it back."""
        return int(self._server.ask("GET", self._server.key(keys.CURRENT)) or 0)

    def next_number(self) -> int:
        """Returns the number of the next version. It is above the numbers of all versions that ever existed."""
        return int(self._server.ask("GET", self._server.key(keys.NEWEST)) or 0) + 1

    def stored(self) -> list[int]:
        """Returns every version that has a manifest, lowest first."""
        return [int(version) for version in self._server.ask("ZRANGE", self._server.key(keys.VERSIONS), 0, -1)]

    def signatures(self, versions: Sequence[int]) -> dict[int, bytes | None]:
        """Returns version -> unverified signature of its manifest; None for a version that is not stored."""
        names = [self._server.key(keys.MANIFEST, version) for version in versions]
        signatures = self._server.ask_many([("HGET", name, "signature") for name in names])
        return dict(zip(versions, signatures, strict=True))

    def contents(self) -> dict[int, VersionContents]:
        """Returns version -> contents for the stored versions. A version that cannot be read is left out."""
        versions = self.stored()
        readable = {}
        for version, signature in self.signatures(versions).items():
            try:
                contents = self._contents.get((version, signature)) or self.read_contents(version)
            except (NotFound, BadSignature, UnknownFormat, BlobCorrupt):
                continue
            readable[version, signature] = contents
        self._contents = readable
        return {version: contents for (version, _), contents in readable.items()}

    def read_contents(self, version: int) -> VersionContents:
        """Returns the contents of one version without the cache. Raises the errors of `manifest`."""
        manifest = self.manifest(version)
        return VersionContents(manifest.erased, {tensor.digest: tensor.num_bytes for tensor in manifest.tensors})

    def history(self, limit: int) -> list[VersionEntry]:
        """Returns the last `limit` entries of the history, newest first."""
        key = self._server.key(keys.HISTORY)
        bodies = self._server.ask("LRANGE", key, 0, limit - 1) if limit > 0 else []
        return [signed.decode(body, VersionEntry, key) for body in bodies]

    def _script_arguments(
        self, manifest: WeightManifest, *, detail: str = ""
    ) -> tuple[list[str], list[str | bytes | int]]:
        """Returns the KEYS and ARGV that the scripts take for a version."""
        key = self._server.key
        body = signed.encode(manifest)
        entry = VersionEntry(version=manifest.version, action="published", time_ms=manifest.created_ms, detail=detail)
        blobs = {tensor.digest: tensor.num_bytes for tensor in manifest.tensors}
        script_keys = [key(keys.MANIFEST, manifest.version), key(keys.NEWEST), key(keys.VERSIONS)]
        script_keys += [key(keys.HISTORY), key(keys.NOTICES), key(keys.BLOBS)]
        script_keys += [key(keys.BLOB, digest) for digest in blobs]
        args: list[str | bytes | int] = [manifest.version, body, self._ring.sign(body, script_keys[0])]
        args += [signed.encode(entry), self._server.config.history]
        for digest, num_bytes in blobs.items():
            args += [digest, num_bytes]
        return script_keys, args

    def _check_outcome(self, manifest: WeightManifest, outcome: str, stored: str = "") -> None:
        """Raises the error for an outcome of a script that is not "ok". `stored` is the value that the store has."""
        version = f"version {manifest.version}"
        if outcome == "stale":
            raise StaleEpoch(f"{version}: the lease is in epoch {stored} now, this learner's is {manifest.epoch}")
        if outcome == "parent":
            raise ParentMoved(f"{version} was trained from {manifest.parent}, but {stored} is current")
        if outcome == "used":
            raise ParentMoved(
                f"{version} was published before, with other contents; {stored} is the highest number that is used"
            )
        if outcome == "blob":
            raise NotFound(f"{version}: blob {stored} is not stored with the size in the manifest; put it first")


def check_sizes(manifest: WeightManifest, config: StoreConfig) -> None:
    """Raises BlobCorrupt if the manifest names a blob that is too large to be read."""
    for tensor in manifest.tensors:
        if tensor.num_bytes < 0 or tensor.num_bytes > config.max_blob_bytes:
            size = f"{tensor.num_bytes} bytes, more than {config.max_blob_bytes}"
            raise BlobCorrupt(f"version {manifest.version}: {tensor.name} has {size}")
