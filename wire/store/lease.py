"""The lease: the right to publish, with an epoch (a fencing token) that distinguishes an old holder from a new one.

    acquire -> Lease(epoch) -> renew ... -> release, or expiry -> the next holder's epoch is higher

A lease can expire while its holder is paused, so a time limit alone does not protect a publication. So every
publication has the epoch of the lease, and the server compares it. All times are by the server's clock. If the
remaining time of a lease is longer than its TTL, the lease was renewed while the server's clock was ahead. It then
counts as expired, so a wrong clock causes at most one takeover. The record of a lease never expires, because otherwise
its epoch would start at 1 again. `acquire` is idempotent: if the caller's nonce holds the lease, it returns the same
lease, so a lost reply has no effect. A full server also grants and renews leases, because otherwise no leader could
free memory.

Rejected: `redis.lock.Lock` (its token does not increase), and the holder's name as proof (two processes may share it).
"""

import secrets
from dataclasses import dataclass

from wire.store import keys
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
    """The right to publish, until another holder has a higher epoch. Times are in milliseconds."""

    name: str
    holder: str
    nonce: str
    epoch: int
    ttl_ms: int


class Leases:
    """Leases by name. Each object has a random identity, so that the nonces of two objects differ."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._identity = secrets.token_hex(8)

    def acquire(self, name: str, holder: str, ttl_ms: int, *, above: int = 0) -> Lease | None:
        """Returns the lease, or None while another holder has it. If the caller has the lease, this renews it.

        The epoch of a new holder is higher than `above`. Pass the highest epoch that is known from elsewhere: a server
        that was wiped has lost it.
        """
        nonce = f"{self._identity}/{holder}"
        epoch = self._server.run(_ACQUIRE, (self._server.key(keys.LEASE, name),), (nonce, holder, ttl_ms, above))
        if not epoch:
            return None
        return Lease(name=name, holder=holder, nonce=nonce, epoch=epoch, ttl_ms=ttl_ms)

    def renew(self, lease: Lease) -> bool:
        """Extends the lease to `ttl_ms` from now. Returns False if another holder has or had it: stop publishing."""
        script_keys = (self._server.key(keys.LEASE, lease.name),)
        return bool(self._server.run(_RENEW, script_keys, (lease.nonce, lease.epoch, lease.ttl_ms)))

    def release(self, lease: Lease) -> None:
        """Frees the lease for the next holder. Has no effect if another holder has it already."""
        self._server.run(_RELEASE, (self._server.key(keys.LEASE, lease.name),), (lease.nonce, lease.epoch))
