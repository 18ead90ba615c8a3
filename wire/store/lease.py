"""The lease: who may publish, and the epoch that tells an old holder from the new one.

    acquire -> Lease(epoch) -> renew ... -> release, or run out -> the next holder's epoch is higher

A lease can run out while its holder sleeps, so time alone protects nothing: every publication carries the epoch, and
the server compares it. All times are the server's. A lease that would last longer than it was taken for was renewed by
a clock that was ahead, and is over: a wrong clock costs one takeover at most. The record of a lease never expires, or
its epoch would start again. Whoever asks under the nonce that holds the lease gets the same lease again: a lost reply
costs nothing. A full server grants and renews leases like any other, or nobody could lead who makes room.

Rejected: `redis.lock.Lock` (its token does not grow), and the holder's name as proof (two processes may share it).
"""

from dataclasses import dataclass

from wire.store.server import NOW, WHEN_FULL, Server

_ACQUIRE = f"""{NOW}
local nonce, epoch, ends, ttl = unpack(redis.call('HMGET', KEYS[1], 'nonce', 'epoch', 'ends_ms', 'ttl_ms'))
epoch = tonumber(epoch or 0)
if nonce ~= ARGV[1] then
  local left = nonce and tonumber(ends) - now or 0
  if left > 0 and left <= tonumber(ttl or ARGV[3]) then return 0 end
  epoch = math.max(epoch, tonumber(ARGV[4])) + 1
end
{WHEN_FULL}
redis.call('HSET', KEYS[1], 'nonce', ARGV[1], 'holder', ARGV[2], 'epoch', epoch)
redis.call('HSET', KEYS[1], 'ends_ms', now + ARGV[3], 'ttl_ms', ARGV[3])
return epoch
"""

_RENEW = f"""{NOW}
local nonce, epoch = unpack(redis.call('HMGET', KEYS[1], 'nonce', 'epoch'))
if nonce ~= ARGV[1] or epoch ~= ARGV[2] then return 0 end
{WHEN_FULL}
redis.call('HSET', KEYS[1], 'ends_ms', now + ARGV[3], 'ttl_ms', ARGV[3])
return 1
"""

_RELEASE = """
local nonce, epoch = unpack(redis.call('HMGET', KEYS[1], 'nonce', 'epoch'))
if nonce ~= ARGV[1] or epoch ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'nonce', 'holder', 'ends_ms', 'ttl_ms')
return 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to publish, until somebody with a higher epoch has it. Times in milliseconds."""

    name: str
    holder: str
    nonce: str
    epoch: int
    ttl_ms: int


class Leases:
    """Leases by name. `identity` makes this process's nonces: it must be unlike any other's."""

    def __init__(self, server: Server, identity: str) -> None:
        self._server = server
        self._identity = identity

    def acquire(self, name: str, holder: str, ttl_ms: int, above: int) -> Lease | None:
        """The lease, or None while another holds it. Asking again for what one holds prolongs it.

        The epoch of a new holder is above `above`: a server that was wiped knows of no epoch before.
        """
        nonce = f"{self._identity}/{holder}"
        epoch = self._server.run(_ACQUIRE, (self._server.key("lease", name),), (nonce, holder, ttl_ms, above))
        return Lease(name=name, holder=holder, nonce=nonce, epoch=epoch, ttl_ms=ttl_ms) if epoch else None

    def renew(self, lease: Lease) -> bool:
        """Prolongs the lease by its `ttl_ms` from now. False: another has it, or had it; stop."""
        keys = (self._server.key("lease", lease.name),)
        return bool(self._server.run(_RENEW, keys, (lease.nonce, lease.epoch, lease.ttl_ms)))

    def release(self, lease: Lease) -> None:
        """Lets the next one have it at once. Does nothing when another has it already."""
        self._server.run(_RELEASE, (self._server.key("lease", lease.name),), (lease.nonce, lease.epoch))
