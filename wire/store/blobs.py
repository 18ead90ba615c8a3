"""A content-addressed store: blobs under their SHA-256 digest, in chunks, written once.

    put: begin -> chunk 0, 1, ... -> finish; a blob of one chunk: in one step
    get: layout -> chunk 0, 1, ... into one buffer -> compare the digest
    repair: get -> if damaged: put under a temporary name -> rename, in one step

A blob is a Redis hash. Field `i` is chunk i, field `chunk` is the size of all chunks but the last, and field `bytes` is
the size of the blob. `bytes` is written last, so a blob that has it is complete. The first writer fixes the chunk size;
writers that continue the blob use the same size. The sorted set `blobs` has the time at which each blob was last put,
so that a blob is not collected between `put` and its publication.

If a blob is complete already, `put` does not check its bytes; only `repair` reads them back. While a blob is repaired,
a reader gets the old bytes or the new bytes. If it would get a mixture, it gets BlobCorrupt.

Rejected:

- one string per blob: it has at most 512 MiB, and its command blocks all clients;
- appending: it is not idempotent, so it cannot be repeated after a lost reply;
- reference counts: a wrong count stays wrong;
- reading back in `put`: an encoder that never changes would be fetched for every version.
"""

import re
import secrets
from collections.abc import Callable, Iterable
from hashlib import sha256

from wire.errors import BlobCorrupt, NotFound, StoreUnavailable
from wire.store import keys
from wire.store.server import NOW, Server

MAX_CHUNKS = 1 << 16
"""Largest number of chunks of a blob."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

_WHOLE = f"""{NOW}
redis.call('ZADD', KEYS[2], now, ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'chunk', ARGV[2], 0, ARGV[3], 'bytes', #ARGV[3])
end
return redis.call('HEXISTS', KEYS[1], 'bytes')
"""
"""Writes a blob of one chunk. If another writer has begun the blob, it writes nothing: continue with `_BEGIN`."""

_BEGIN = f"""{NOW}
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('HSETNX', KEYS[1], 'chunk', ARGV[2])
return {{redis.call('HEXISTS', KEYS[1], 'bytes'), redis.call('HGET', KEYS[1], 'chunk')}}
"""

_FINISH = f"""{NOW}
redis.call('ZADD', KEYS[2], now, ARGV[1])
if redis.call('HEXISTS', KEYS[1], 'bytes') == 0 then
  if redis.call('HLEN', KEYS[1]) ~= tonumber(ARGV[2]) + 1 then return 0 end
  redis.call('HSET', KEYS[1], 'bytes', ARGV[3])
end
return 1
"""

_REPLACE = f"""{NOW}
if redis.call('HEXISTS', KEYS[1], 'bytes') == 0 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[2])
return 1
"""


class Blobs:
    """The blobs on one server. It calls `make_room(num_bytes)`, which may raise StoreFull, before it puts a blob."""

    def __init__(self, server: Server, make_room: Callable[[int], None]) -> None:
        self._server = server
        self._make_room = make_room

    def put(self, data: bytes | bytearray | memoryview) -> str:
        """Stores `data` unless it is stored already, and returns its digest. Idempotent.

        The blob is not collected within the grace period. If memory is short, garbage is collected first. Raises
        StoreFull if that does not free enough (then nothing is written), and BlobCorrupt if an incomplete blob has an
        invalid chunk size (call `repair`).
        """
        view = self._check_size(data)
        self._make_room(len(view))
        digest = sha256(view).hexdigest()
        self._write(digest, view)
        return digest

    def repair(self, data: bytes | bytearray | memoryview) -> bool:
        """Makes the blob under the digest of `data` equal to `data`; returns whether it had to write."""
        view = self._check_size(data)
        digest = sha256(view).hexdigest()
        try:
            self.get(digest, len(view))
        except NotFound:
            try:
                self._write(digest, view)
            except BlobCorrupt:
                # An incomplete blob has an invalid chunk size.
                self._replace(digest, view)
            return True
        except BlobCorrupt:
            self._replace(digest, view)
            return True
        return False

    def has(self, digests: Iterable[str]) -> set[str]:
        """Returns the digests whose blobs are complete. Unlike `put`, it does not protect them from collection."""
        wanted = list(digests)
        replies = self._server.ask_many([("HEXISTS", self._blob_key(digest), "bytes") for digest in wanted])
        return {digest for digest, is_complete in zip(wanted, replies, strict=True) if is_complete}

    def get(self, digest: str, num_bytes: int) -> bytearray:
        """Returns the verified blob. Raises NotFound if there is none, BlobCorrupt if its size or digest differs."""
        if not _DIGEST.fullmatch(digest):
            raise BlobCorrupt(f"{digest[:80]!r} is not a SHA-256 digest")
        if num_bytes > self._server.config.max_blob_bytes:
            raise BlobCorrupt(
                f"blob {digest} of {num_bytes} bytes: more than {self._server.config.max_blob_bytes} (max_blob_bytes)"
            )
        sizes = self._layout(digest, num_bytes)
        buffer = bytearray(num_bytes)
        hasher = sha256()
        start = 0
        with memoryview(buffer) as view:
            for index, size in enumerate(sizes):
                chunk = self._server.ask("HGET", self._blob_key(digest), index)
                if chunk is None or len(chunk) != size:
                    raise BlobCorrupt(f"blob {digest}: chunk {index} changed while it was read")
                view[start : start + size] = chunk
                hasher.update(chunk)
                start += size
        if hasher.hexdigest() != digest:
            raise BlobCorrupt(f"blob {digest}: its bytes have the digest {hasher.hexdigest()}")
        return buffer

    def _blob_key(self, name: str) -> str:
        return self._server.key(keys.BLOB, name)

    def _check_size(self, data: bytes | bytearray | memoryview) -> memoryview:
        view = memoryview(data).cast("B")
        if len(view) > self._server.config.max_blob_bytes:
            raise ValueError(f"blob of {len(view)} bytes: the largest allowed is {self._server.config.max_blob_bytes}")
        return view

    def _write(self, name: str, view: memoryview) -> None:
        """Stores `view` under `name` in chunks, unless a complete blob is there."""
        blob = self._blob_key(name)
        script_keys = (blob, self._server.key(keys.BLOBS))
        chunk_bytes = self._server.config.chunk_bytes
        if len(view) <= chunk_bytes and self._server.run(_WHOLE, script_keys, (name, chunk_bytes, view)):
            return
        is_complete, chunk = self._server.run(_BEGIN, script_keys, (name, chunk_bytes))
        if is_complete:
            return
        sizes = chunk_sizes(len(view), _chunk_bytes(chunk, name, len(view)))
        start = 0
        for index, size in enumerate(sizes):
            self._server.ask("HSET", blob, index, view[start : start + size])
            start += size
        if not self._server.run(_FINISH, script_keys, (name, len(sizes), len(view))):
            raise StoreUnavailable(f"blob {name} was removed while it was written: put it again")

    def _replace(self, digest: str, view: memoryview) -> None:
        """Writes a blob under a temporary name, and then renames it. If the process is killed in between, the temporary
        blob is garbage."""
        name = f"{digest}.{secrets.token_hex(8)}"
        self._write(name, view)
        script_keys = (self._blob_key(name), self._blob_key(digest), self._server.key(keys.BLOBS))
        if not self._server.run(_REPLACE, script_keys, (name, digest)):
            # The script ran twice, and the first run renamed the blob.
            self.get(digest, len(view))

    def _layout(self, digest: str, num_bytes: int) -> list[int]:
        """Returns the sizes of the chunks. Raises BlobCorrupt if the stored sizes differ. It fetches no chunk."""
        key = self._blob_key(digest)
        stored, chunk = self._server.ask("HMGET", key, "bytes", "chunk")
        if stored is None:
            raise NotFound(f"blob {digest}")
        if stored != b"%d" % num_bytes:
            raise BlobCorrupt(f"blob {digest}: {stored[:20]!r} bytes instead of {num_bytes}")
        sizes = chunk_sizes(num_bytes, _chunk_bytes(chunk, digest, num_bytes))
        stored_sizes = self._server.ask_many([("HSTRLEN", key, index) for index in range(len(sizes))])
        for index, size in enumerate(sizes):
            if stored_sizes[index] != size:
                raise BlobCorrupt(f"blob {digest}: chunk {index} has {stored_sizes[index]} of {size} bytes")
        return sizes


def chunk_sizes(num_bytes: int, chunk_bytes: int) -> list[int]:
    """Returns the size of each chunk in bytes.

    >>> chunk_sizes(10, 4)
    [4, 4, 2]
    """
    return [min(chunk_bytes, num_bytes - start) for start in range(0, num_bytes, chunk_bytes)]


def _chunk_bytes(stored: bytes | None, digest: str, num_bytes: int) -> int:
    if stored is None or not stored.isdigit() or len(stored) > 10 or int(stored) * MAX_CHUNKS < max(num_bytes, 1):
        raise BlobCorrupt(f"blob {digest}: chunk size {stored!r:.40}")
    return int(stored)
