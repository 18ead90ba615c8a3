"""Versions of the weights: published by the holder of the lease, one after another, all or nothing.

    blobs are stored -> one script: signature, manifest, pointer, history, notice -> on disk -> publish returns

The script refuses before it writes anything. We wait for the disk after it and not before: the append-only file is
one sequence, so a pointer that is on disk has its blobs there too, and a new version is served up to a second sooner.

`current` is the version to learn on from; a rollback sets it back, so a new version takes its number from
`next_version` and not from `current`: the withdrawn number stays used.

Rejected: MULTI with WATCH (several round trips, and a lost reply says nothing), and a pointer that readers follow
without a signature.
"""

from wire.config import StoreConfig
from wire.errors import BlobCorrupt, NotFound, ParentMoved, StaleEpoch
from wire.records import VersionEntry, WeightManifest
from wire.store import signed
from wire.store.lease import Lease
from wire.store.server import NOW, Server
from wire.store.watch import CHANGE

_PUBLISH = f"""{CHANGE}{NOW}
local lease, manifest, current, newest, fence, versions, history, changes, blobs = unpack(KEYS, 1, 9)
local nonce, epoch, version, parent, body, signature, entry, limit = unpack(ARGV, 1, 8)
if redis.call('HGET', manifest, 'body') == body then return {{'ok'}} end

local held = redis.call('HMGET', lease, 'nonce', 'epoch')
local last = redis.call('GET', fence) or '0'
if held[1] ~= nonce or held[2] ~= epoch then return {{'stale', held[2] or '0'}} end
if tonumber(epoch) < tonumber(last) then return {{'stale', last}} end

local highest, now_current = redis.call('GET', newest), redis.call('GET', current) or '0'
if highest and now_current ~= parent then return {{'parent', now_current}} end
if highest and tonumber(version) <= tonumber(highest) then return {{'used', highest}} end
for i = 10, #KEYS do
  if redis.call('HGET', KEYS[i], 'bytes') ~= ARGV[2 * i - 10] then return {{'blob', ARGV[2 * i - 11]}} end
end

for i = 10, #KEYS do redis.call('ZADD', blobs, now, ARGV[2 * i - 11]) end
redis.call('HSET', manifest, 'body', body, 'signature', signature)
redis.call('ZADD', versions, version, version)
redis.call('SET', newest, version)
redis.call('SET', fence, epoch)
redis.call('SET', current, version)
change(history, changes, entry, limit)
return {{'ok'}}
"""


class Versions:
    """The manifests, the pointer and the history on one server."""

    def __init__(self, server: Server, signing_key: bytes) -> None:
        self._server = server
        self._signing_key = signing_key

    def publish(self, manifest: WeightManifest, lease: Lease) -> None:
        """Makes `manifest` current; returns when it is on disk, where the server can tell. Repeating it is harmless.

        Raises StaleEpoch when the lease is another's, ParentMoved when `current` is not the parent or the number is
        used, NotFound when a blob is missing or was collected (put it again). On a server that never had a version,
        such as one that was wiped, any parent will do.
        """
        if manifest.epoch != lease.epoch:
            raise StaleEpoch(
                f"version {manifest.version} was made in epoch {manifest.epoch}, the lease is of {lease.epoch}"
            )
        check_sizes(manifest, self._server.config)
        if manifest.version < 1:
            raise ValueError(f"version {manifest.version}: the first is 1, for 0 means that there is none")
        reply = self._server.run(_PUBLISH, *self._publication(manifest, lease))
        self._raise_refusal(manifest, *(part.decode() for part in reply))
        self._server.sync()

    def manifest(self, version: int) -> WeightManifest:
        """The manifest of `version`. Raises NotFound, BadSignature, UnknownFormat, or BlobCorrupt for a giant blob."""
        body = signed.fetch(self._server, self._server.key("manifest", version), self._signing_key)
        if body is None:
            raise NotFound(f"version {version}")
        manifest = signed.decode_manifest(body, version)
        check_sizes(manifest, self._server.config)
        return manifest

    def current(self) -> int:
        """The version to learn on from; 0 when there is none."""
        return int(self._server.ask("GET", self._server.key("current")) or 0)

    def next_version(self) -> int:
        """The lowest number that no version ever had."""
        return int(self._server.ask("GET", self._server.key("newest")) or 0) + 1

    def stored(self) -> list[int]:
        """Every version that has a manifest, lowest first."""
        return [int(version) for version in self._server.ask("ZRANGE", self._server.key("versions"), 0, -1)]

    def history(self, limit: int) -> list[VersionEntry]:
        """The last entries, newest first."""
        key = self._server.key("history")
        bodies = self._server.ask("LRANGE", key, 0, limit - 1) if limit > 0 else []
        return [signed.decode(body, VersionEntry, key) for body in bodies]

    def _publication(self, manifest: WeightManifest, lease: Lease) -> tuple[list[str], list[str | bytes | int]]:
        """KEYS and ARGV of the script."""
        key = self._server.key
        body = signed.encode(manifest)
        entry = VersionEntry(version=manifest.version, action="published", time_ms=manifest.created_ms)
        blobs = {tensor.digest: tensor.num_bytes for tensor in manifest.tensors}
        keys = [key("lease", lease.name), key("manifest", manifest.version)]
        keys += [key(name) for name in ("current", "newest", "epoch", "versions", "history", "changes", "blobs")]
        keys += [key("blob", digest) for digest in blobs]
        args: list[str | bytes | int] = [lease.nonce, lease.epoch, manifest.version, manifest.parent]
        args += [body, signed.sign(body, self._signing_key), signed.encode(entry), self._server.config.history]
        args += [part for blob in blobs.items() for part in blob]
        return keys, args

    def _raise_refusal(self, manifest: WeightManifest, reason: str, found: str = "") -> None:
        version = f"version {manifest.version}"
        if reason == "stale":
            raise StaleEpoch(f"{version}: the lease is in epoch {found} now, this learner's is {manifest.epoch}")
        if reason == "parent":
            raise ParentMoved(f"{version} was trained from {manifest.parent}, but {found} is current")
        if reason == "used":
            raise ParentMoved(f"{version} was published before, otherwise; {found} is the newest number that is used")
        if reason == "blob":
            raise NotFound(f"{version}: blob {found} is not stored with the bytes that the manifest says; put it first")


def check_sizes(manifest: WeightManifest, config: StoreConfig) -> None:
    """Raises BlobCorrupt when the manifest names a blob that nobody would read."""
    for tensor in manifest.tensors:
        if not 0 <= tensor.num_bytes <= config.max_blob_bytes:
            size = f"{tensor.num_bytes} bytes, more than {config.max_blob_bytes}"
            raise BlobCorrupt(f"version {manifest.version}: {tensor.name} has {size}")
