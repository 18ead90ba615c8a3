"""Blobs under their SHA-256, in chunks, written once.

    put: begin -> chunk 0, 1, ... -> finish        get: layout -> chunk 0, 1, ... into one buffer -> digest compared
    repair: get -> damaged: put under a name of its own -> renamed, in one step

A blob is a hash: field `i` is chunk i, `chunk` the size of all but the last, `bytes` the size of all. `bytes` is
written last, so a blob that has it is whole. The first writer's chunk size holds for everybody who continues it.
The sorted set `blobs` knows when each was last asked for, so that what is about to be published is not collected.

`put` believes a blob that is whole, whatever its bytes are by now; only `repair` reads it back. A reader that is in the
middle of a repaired blob finds the old bytes, the new ones or, with some of both, BlobCorrupt.

Rejected: one string per blob (512 MiB at most, and one command that holds up everybody), appending (cannot be repeated
after a lost reply), counting references (a count that is once wrong stays wrong), and reading back in `put` (an encoder
that never changes would be fetched for every version).
"""

import re
import secrets
from hashlib import sha256

from wire.errors import BlobCorrupt, NotFound, StoreUnavailable
from wire.store.server import NOW, Server

MAX_CHUNKS = 1 << 16
"""More chunks than this are no blob of ours."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

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
    """Bytes by digest on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def put(self, data: bytes | bytearray | memoryview) -> str:
        """Stores `data` unless it is there, and keeps it from collection for the grace period. Returns its digest.

        Raises BlobCorrupt where half of it is there and says nonsense of itself: repair it.
        """
        view = self._checked(data)
        digest = sha256(view).hexdigest()
        self._write(digest, view)
        return digest

    def repair(self, data: bytes | bytearray | memoryview) -> bool:
        """Stores `data` in place of what lies under its digest, where that is something else. Whether it was."""
        view = self._checked(data)
        digest = sha256(view).hexdigest()
        try:
            self.get(digest, len(view))
        except NotFound:
            try:
                self._write(digest, view)
            except BlobCorrupt:  # half of it is there and says nonsense of itself
                self._replace(digest, view)
            return True
        except BlobCorrupt:
            self._replace(digest, view)
            return True
        return False

    def has(self, digests: list[str]) -> set[str]:
        """Those of `digests` that are stored whole. Only looks: `put` is what keeps a blob from collection."""
        found = self._server.ask_many([("HEXISTS", self._server.key("blob", digest), "bytes") for digest in digests])
        return {digest for digest, is_whole in zip(digests, found, strict=True) if is_whole}

    def get(self, digest: str, num_bytes: int) -> bytearray:
        """The blob, verified. Raises NotFound where there is none, BlobCorrupt where it is not what was asked for."""
        if not _DIGEST.fullmatch(digest):
            raise BlobCorrupt(f"{digest[:80]!r} is no SHA-256")
        if num_bytes > self._server.config.max_blob_bytes:
            raise BlobCorrupt(f"blob {digest} of {num_bytes} bytes: more than {self._server.config.max_blob_bytes}")
        sizes = self._layout(digest, num_bytes)
        buffer = bytearray(num_bytes)
        seen = sha256()
        start = 0
        with memoryview(buffer) as view:
            for index, size in enumerate(sizes):
                part = self._server.ask("HGET", self._server.key("blob", digest), index)
                if part is None or len(part) != size:
                    raise BlobCorrupt(f"blob {digest}: chunk {index} changed while it was read")
                view[start : start + size] = part
                seen.update(part)
                start += size
        if seen.hexdigest() != digest:
            raise BlobCorrupt(f"blob {digest}: its bytes have the digest {seen.hexdigest()}")
        return buffer

    def _checked(self, data: bytes | bytearray | memoryview) -> memoryview:
        view = memoryview(data).cast("B")
        if len(view) > self._server.config.max_blob_bytes:
            raise ValueError(f"blob of {len(view)} bytes: the largest allowed is {self._server.config.max_blob_bytes}")
        return view

    def _write(self, name: str, view: memoryview) -> None:
        """Stores `view` under `name`, in chunks, unless it is there."""
        keys = (self._server.key("blob", name), self._server.key("blobs"))
        is_whole, chunk = self._server.run(_BEGIN, keys, (name, self._server.config.chunk_bytes))
        if is_whole:
            return
        sizes = chunk_sizes(len(view), _chunk_bytes(chunk, name, len(view)))
        start = 0
        for index, size in enumerate(sizes):
            self._server.ask("HSET", keys[0], index, view[start : start + size])
            start += size
        if not self._server.run(_FINISH, keys, (name, len(sizes), len(view))):
            raise StoreUnavailable(f"blob {name} was removed while it was written: put it again")

    def _replace(self, digest: str, view: memoryview) -> None:
        """Writes under a name of its own, which is collected like a blob where we end too soon, and renames."""
        name = f"{digest}.{secrets.token_hex(8)}"
        self._write(name, view)
        key = self._server.key
        if not self._server.run(_REPLACE, (key("blob", name), key("blob", digest), key("blobs")), (name, digest)):
            self.get(digest, len(view))  # a repetition finds it done

    def _layout(self, digest: str, num_bytes: int) -> list[int]:
        """The sizes of the chunks, compared with what is stored before any of it is fetched."""
        key = self._server.key("blob", digest)
        stored, chunk = self._server.ask("HMGET", key, "bytes", "chunk")
        if stored is None:
            raise NotFound(f"blob {digest}")
        if stored != b"%d" % num_bytes:
            raise BlobCorrupt(f"blob {digest}: {stored[:20]!r} bytes instead of {num_bytes}")
        sizes = chunk_sizes(num_bytes, _chunk_bytes(chunk, digest, num_bytes))
        found = self._server.ask_many([("HSTRLEN", key, index) for index in range(len(sizes))])
        wrong = [index for index, size in enumerate(sizes) if found[index] != size]
        if wrong:
            raise BlobCorrupt(f"blob {digest}: chunk {wrong[0]} has {found[wrong[0]]} of {sizes[wrong[0]]} bytes")
        return sizes


def chunk_sizes(num_bytes: int, chunk_bytes: int) -> list[int]:
    """How many bytes each chunk has.

    >>> chunk_sizes(10, 4)
    [4, 4, 2]
    """
    return [min(chunk_bytes, num_bytes - start) for start in range(0, num_bytes, chunk_bytes)]


def _chunk_bytes(stored: bytes | None, digest: str, num_bytes: int) -> int:
    if stored is None or not stored.isdigit() or len(stored) > 10 or int(stored) * MAX_CHUNKS < max(num_bytes, 1):
        raise BlobCorrupt(f"blob {digest}: chunk size {stored!r:.40}")
    return int(stored)
