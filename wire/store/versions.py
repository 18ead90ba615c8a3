"""Versions of the weights: published by the holder of the lease, one after another, atomically.

    blobs are stored -> one script: signature, manifest, pointer, history, notice -> publish returns -> sync: on disk

The script checks everything before it writes. A version is served before it is on the disk, which takes up to a second.
The append-only file is one sequence, so where the pointer is on disk its blobs are, too: a server that loses its last
second goes back to an earlier version that is whole.

`current` is the version to continue learning from. A rollback sets it back, so a new version takes its number from
`next_number` and not from `current`: the withdrawn number stays used.

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
"""How much higher the numbers of versions go on after a restore, and with each leader: more than can be lost."""

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
"""What both scripts do with a version, whose keys and arguments (`_stored`) come behind `k` and `a` others."""

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
"""Stores a version that no learner goes on from: it takes a number, and needs no lease."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The erasures before a version, and the sizes of its blobs in bytes, by digest: from its manifest."""

    erased: int
    blobs: Mapping[str, int]


class Versions:
    """The manifests, the pointer and the history on one server.

    Contents are cached by version and signature, since a version number is used again after a server was wiped.
    """

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._contents: dict[tuple[int, bytes | None], Contents] = {}

    def publish(self, manifest: WeightManifest, lease: Lease) -> None:
        """Makes `manifest` current; it is on disk after the next `sync`. Idempotent.

        Raises StaleEpoch where another holds the lease, ParentMoved where `current` is not the parent or the number is
        used, NotFound where a blob is missing or was collected (put it again). A server that never had a version, such
        as one that was wiped, accepts any parent.
        """
        if manifest.epoch != lease.epoch:
            raise StaleEpoch(
                f"version {manifest.version} was made in epoch {manifest.epoch}, the lease is of {lease.epoch}"
            )
        check_sizes(manifest, self._server.config)
        if manifest.version < 1:
            raise ValueError(f"version {manifest.version}: the first is 1, for 0 means that there is none")
        key = self._server.key
        script_keys, args = self._stored(manifest)
        reply = self._server.run(
            _PUBLISH,
            [key(keys.LEASE, lease.name), key(keys.CURRENT), key(keys.EPOCH), *script_keys],
            [lease.nonce, lease.epoch, manifest.parent, *args],
        )
        self._check_outcome(manifest, *(part.decode() for part in reply))

    def add(self, manifest: WeightManifest, *, detail: str) -> None:
        """Stores a version that was imported, beside the line of the learner; the plan may name it. It is on disk then.

        Its epoch is 0. Raises ParentMoved where the number was used meanwhile, NotFound where a blob is missing.
        """
        assert manifest.epoch == 0, "an epoch is a lease's"
        check_sizes(manifest, self._server.config)
        reply = self._server.run(_ADD, *self._stored(manifest, detail=detail))
        self._check_outcome(manifest, *(part.decode() for part in reply))
        self._server.sync()

    def sync(self) -> None:
        """Waits until what was published is on disk, where the server can tell (`why_not_durable`)."""
        self._server.sync()

    def manifest(self, version: int) -> WeightManifest:
        """Returns the manifest. Raises NotFound, BadSignature, UnknownFormat, or BlobCorrupt for a giant blob."""
        body = signed.fetch(self._server, self._server.key(keys.MANIFEST, version), self._ring)
        if body is None:
            raise NotFound(f"version {version} is not stored: it was never published, or nobody needed it any more")
        manifest = signed.decode_manifest(body, version)
        check_sizes(manifest, self._server.config)
        return manifest

    def is_imported(self, version: int) -> bool:
        """Whether a version was added, and not published by a learner. Raises what `manifest` raises."""
        return self.manifest(version).epoch == 0

    def current(self) -> int:
        """Returns the version to continue learning from; 0 where there is none. A rollback sets it back."""
        return int(self._server.ask("GET", self._server.key(keys.CURRENT)) or 0)

    def next_number(self) -> int:
        """Returns the lowest number above that of every version that ever was: a withdrawn number stays used."""
        return int(self._server.ask("GET", self._server.key(keys.NEWEST)) or 0) + 1

    def stored(self) -> list[int]:
        """Returns every version that has a manifest, lowest first."""
        return [int(version) for version in self._server.ask("ZRANGE", self._server.key(keys.VERSIONS), 0, -1)]

    def signatures(self, versions: Sequence[int]) -> dict[int, bytes | None]:
        """Returns the signatures of the manifests of these versions, unverified; None for one that is not stored."""
        names = [self._server.key(keys.MANIFEST, version) for version in versions]
        found = self._server.ask_many([("HGET", name, "signature") for name in names])
        return dict(zip(versions, found, strict=True))

    def contents(self) -> dict[int, Contents]:
        """Returns the contents of the stored versions; a version that cannot be read is left out."""
        versions = self.stored()
        readable = {}
        for version, signature in self.signatures(versions).items():
            try:
                contents = self._contents.get((version, signature)) or self.contents_of(version)
            except (NotFound, BadSignature, UnknownFormat, BlobCorrupt):
                continue
            readable[version, signature] = contents
        self._contents = readable
        return {version: contents for (version, _), contents in readable.items()}

    def contents_of(self, version: int) -> Contents:
        """Returns the contents of one version, past the cache. Raises what `manifest` raises."""
        manifest = self.manifest(version)
        return Contents(manifest.erased, {tensor.digest: tensor.num_bytes for tensor in manifest.tensors})

    def history(self, limit: int) -> list[VersionEntry]:
        """Returns the last entries, newest first."""
        key = self._server.key(keys.HISTORY)
        bodies = self._server.ask("LRANGE", key, 0, limit - 1) if limit > 0 else []
        return [signed.decode(body, VersionEntry, key) for body in bodies]

    def _stored(self, manifest: WeightManifest, *, detail: str = "") -> tuple[list[str], list[str | bytes | int]]:
        """Returns the KEYS and ARGV of a version that is stored."""
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

    def _check_outcome(self, manifest: WeightManifest, outcome: str, found: str = "") -> None:
        """Raises the error of an outcome of the script that is not `ok`; `found` is what the script compared with."""
        version = f"version {manifest.version}"
        if outcome == "stale":
            raise StaleEpoch(f"{version}: the lease is in epoch {found} now, this learner's is {manifest.epoch}")
        if outcome == "parent":
            raise ParentMoved(f"{version} was trained from {manifest.parent}, but {found} is current")
        if outcome == "used":
            raise ParentMoved(f"{version} was published before, otherwise; {found} is the newest number that is used")
        if outcome == "blob":
            raise NotFound(f"{version}: blob {found} is not stored with the bytes that the manifest says; put it first")


def check_sizes(manifest: WeightManifest, config: StoreConfig) -> None:
    """Raises BlobCorrupt where the manifest names a blob that is too large to be read."""
    for tensor in manifest.tensors:
        if tensor.num_bytes < 0 or tensor.num_bytes > config.max_blob_bytes:
            size = f"{tensor.num_bytes} bytes, more than {config.max_blob_bytes}"
            raise BlobCorrupt(f"version {manifest.version}: {tensor.name} has {size}")
