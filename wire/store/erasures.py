"""The requests to erase data subjects, and the state of each.

    request(digest) -> the list `erasures`, in order -> the learner -> note(Erasure) -> of(digest)

A request is permanent: a learner that starts from nothing reads the list before it learns. Each entry is sealed, so
whoever may write to the server and has no key of ours requests nothing. Beside the list are the records in which the
learner notes the state of each request. The learner has both in its checkpoint, and writes them again where the server
was wiped.

Rejected: a topic (it expires, and is not ordered relative to the topics of answers and labels), and only a flag on the
manifest (a learner without a checkpoint would learn the subject first).
"""

from wire.errors import BadSignature, ErasuresFull
from wire.keyring import KeyRing
from wire.records import Erasure
from wire.store import keys, signed
from wire.store.server import Server

MAX_ERASURES = 100_000
"""Most subjects that may be erased: every checkpoint of the learner holds all of them."""

FOREIGN = ""
"""Stands for an entry of the list that no key of ours has sealed."""

_REQUEST = """
if redis.call('LPOS', KEYS[1], ARGV[1]) then return 1 end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
"""


class Erasures:
    """The requests on one server."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._list = server.key(keys.ERASURES)

    def request(self, digest: str) -> None:
        """Requests an erasure; returns when the request is on disk. Idempotent. Raises ErasuresFull, CannotSign."""
        entry = signed.sealed(digest.encode(), self._ring, self._list)
        is_listed = self._server.run(_REQUEST, (self._list,), (entry, MAX_ERASURES))
        if not is_listed and self._remove_foreign():
            is_listed = self._server.run(_REQUEST, (self._list,), (entry, MAX_ERASURES))
        if not is_listed:
            raise ErasuresFull(f"{MAX_ERASURES} subjects were erased already, and a learner remembers no more")
        self._server.sync()

    def requested(self, first: int) -> list[str]:
        """Returns the digests from index `first` on, in the order of the requests; FOREIGN for what is no request."""
        return [self._digest_of(entry) for entry in self._server.ask("LRANGE", self._list, first, -1)]

    def note(self, erasure: Erasure) -> None:
        """Stores the state of a request."""
        self._server.ask("SET", self._server.key(keys.ERASURE, erasure.digest), signed.encode(erasure))

    def of(self, digest: str) -> Erasure | None:
        """Returns the state of a request; None where no learner has read it yet."""
        key = self._server.key(keys.ERASURE, digest)
        body = self._server.ask("GET", key)
        return None if body is None else signed.decode(body, Erasure, key)

    def _digest_of(self, entry: bytes) -> str:
        try:
            return signed.opened(entry, self._ring, self._list).decode()
        except (BadSignature, UnicodeDecodeError):
            return FOREIGN

    def _remove_foreign(self) -> int:
        """Removes the entries that are no requests of ours; returns how many there were."""
        entries = self._server.ask("LRANGE", self._list, 0, -1)
        foreign = [entry for entry in entries if self._digest_of(entry) == FOREIGN]
        self._server.ask_many([("LREM", self._list, 0, entry) for entry in foreign])
        return len(foreign)
