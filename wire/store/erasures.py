"""Who is to be erased, and what has become of it.

    request(digest) -> the list `erasures`, in order -> the learner -> note(Erasure) -> of(digest)

The list is a request for ever: a learner that starts from nothing reads it before it learns. What the learner notes is
its account, kept beside it. The learner has both in its checkpoint, and writes them again where the server was wiped.

Rejected: a topic (it expires, and has no order with the topics of answers and labels), and a flag on the manifest alone
(a learner without a checkpoint would learn the subject first).
"""

from wire.errors import ErasuresFull
from wire.records import Erasure
from wire.store import signed
from wire.store.server import Server

MAX_ERASURES = 100_000
"""Subjects that may be erased: every learner keeps them all in its checkpoint."""

_REQUEST = """
if redis.call('LPOS', KEYS[1], ARGV[1]) then return 1 end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
"""


class Erasures:
    """The list on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._list = server.key("erasures")

    def request(self, digest: str) -> None:
        """Asks for an erasure; returns when that is on disk. Repeating it is harmless. Raises ErasuresFull."""
        if not self._server.run(_REQUEST, (self._list,), (digest, MAX_ERASURES)):
            raise ErasuresFull(f"{MAX_ERASURES} subjects were erased already, and a learner remembers no more")
        self._server.sync()

    def requested(self, first: int) -> list[str]:
        """The digests from place `first` on, in the order of the requests."""
        return [digest.decode() for digest in self._server.ask("LRANGE", self._list, first, -1)]

    def num_requested(self) -> int:
        return int(self._server.ask("LLEN", self._list))

    def note(self, erasure: Erasure) -> None:
        """Says what has become of a request."""
        self._server.ask("SET", self._server.key("erasure", erasure.digest), signed.encode(erasure))

    def of(self, digest: str) -> Erasure | None:
        """What has become of it; None where no learner has seen the request."""
        key = self._server.key("erasure", digest)
        body = self._server.ask("GET", key)
        return None if body is None else signed.decode(body, Erasure, key)
