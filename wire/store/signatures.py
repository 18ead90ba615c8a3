"""Finds the keys that signed the stored records, and re-signs records with our first key after a key rotation.

    signers() -> {id of a key: the records that it signed}        renew() -> number of records that were re-signed

The bytes of a re-signed record stay the same. A script writes the new signature only if the bytes have not changed
meanwhile, so a concurrent publication is not lost. Records that none of our keys signed are not changed; `signers`
lists them.
"""

import hmac
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

from wire.errors import BadSignature
from wire.keyring import SIGNING, KeyRing
from wire.store import keys, signed
from wire.store.server import WHEN_FULL, Server
from wire.store.versions import Versions

BATCH: Final = 500
"""Number of entries of a list that one script replaces."""

SEALED_LIST: Final = keys.JUDGED
"""The list whose entries are sealed."""

FOREIGN: Final = ""
"""Replaces the id of any key that is not ours."""

_RENEW = f"""{WHEN_FULL}
if redis.call('HGET', KEYS[1], 'body') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'signature', ARGV[2])
return 1
"""

_RENEW_ENTRIES = """
local new = {}
for i = 1, #ARGV, 2 do new[ARGV[i]] = ARGV[i + 1] end
for i, event in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if new[event] then redis.call('LSET', KEYS[1], i - 1, new[event]) end
end
"""

_RENEW_MEMBERS = """
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score then
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('ZADD', KEYS[1], score, ARGV[i + 1])
  end
end
"""


class Signatures:
    """The signatures of all records on one server."""

    def __init__(self, server: Server, ring: KeyRing, versions: Versions) -> None:
        self._server = server
        self._ring = ring
        self._versions = versions

    def signers(self) -> dict[str, list[str]]:
        """Returns id of a key -> names of the records that it signed. All keys that are not ours have the id
        FOREIGN."""
        names_by_signer = dict[str, dict[str, None]]()
        for name, body, signature in self._records():
            names_by_signer.setdefault(self._signer(name, body, signature), {})[name] = None
        for place, name, entry in self._commands():
            names_by_signer.setdefault(self._signer(name, *signed.split_entry(entry)), {})[place] = None
        for entry in self._entries(SEALED_LIST):
            names_by_signer.setdefault(self._sealer(SEALED_LIST, entry), {})[SEALED_LIST] = None
        return {signer: list(names) for signer, names in names_by_signer.items()}

    def renew(self) -> int:
        """Re-signs records of our other keys with our first key; returns their number. Raises CannotSign."""
        first = self._ring.require_signer().id
        renewed = 0
        for name, body, signature in self._records():
            if self._signer(name, body, signature) not in (first, FOREIGN):
                key = self._server.key(name)
                renewed += self._server.run(_RENEW, [key], [body, self._ring.sign(body, key)])
        renewed += self._renew_seals(SEALED_LIST, first)
        entries: dict[str, dict[bytes, bytes]] = {keys.COMMANDS: {}, keys.LABELS: {}}
        for place, name, entry in self._commands():
            body, signature = signed.split_entry(entry)
            if self._signer(name, body, signature) not in (first, FOREIGN):
                entries[place][entry] = signed.sign_entry(body, self._ring, self._server.key(name))
        self._replace(keys.COMMANDS, entries[keys.COMMANDS], script=_RENEW_MEMBERS)
        self._replace(keys.LABELS, entries[keys.LABELS])
        return renewed + len(entries[keys.COMMANDS]) + len(entries[keys.LABELS])

    def _renew_seals(self, name: str, first: str) -> int:
        """Seals entries of a list that our other keys sealed with our first key; returns their number."""
        key = self._server.key(name)
        entries = {
            entry: signed.seal_entry(entry[signed.SEAL_CHARS :], self._ring, key)
            for entry in self._entries(name)
            if self._sealer(name, entry) not in (first, FOREIGN)
        }
        self._replace(name, entries)
        return len(entries)

    def _replace(self, name: str, entries: Mapping[bytes, bytes], *, script: str = _RENEW_ENTRIES) -> None:
        """Replaces entries of a list or a sorted set. `entries` maps each old entry to the new one."""
        pairs = list(entries.items())
        for start in range(0, len(pairs), BATCH):
            batch = [*chain.from_iterable(pairs[start : start + BATCH])]
            self._server.run(script, [self._server.key(name)], batch)

    def _records(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Yields the name, the body and the signature of every signed hash."""
        names = [keys.PLAN, keys.EVIDENCE, keys.OFFER]
        for name in [*names, *(f"{keys.MANIFEST}:{version}" for version in self._versions.stored())]:
            body, signature = self._server.ask("HMGET", self._server.key(name), "body", "signature")
            if body is not None:
                yield name, body, signature or b""

    def _entries(self, name: str) -> list[bytes]:
        entries: list[bytes] = self._server.ask("LRANGE", self._server.key(name), 0, -1)
        return entries

    def _commands(self) -> Iterator[tuple[str, str, bytes]]:
        """Yields (Redis key, signed name, entry) of every command in the log and in the list of label commands."""
        values = self._server.ask("ZRANGEBYSCORE", self._server.key(keys.COMMANDS), "-inf", "+inf", "WITHSCORES")
        for entry, score in zip(values[::2], values[1::2], strict=True):
            yield keys.COMMANDS, f"{keys.COMMAND}:{score.decode()}", entry
        for number, entry in enumerate(self._entries(keys.LABELS), 1):
            yield keys.LABELS, f"{keys.LABEL}:{number}", entry

    def _signer(self, name: str, body: bytes, signature: bytes) -> str:
        try:
            return self._ring.verify(body, signature, self._server.key(name))
        except BadSignature:
            return FOREIGN

    def _sealer(self, name: str, entry: bytes) -> str:
        code, body = entry[: signed.SEAL_CHARS], entry[signed.SEAL_CHARS :]
        place = self._server.key(name)
        for key in self._ring.of(*SIGNING):
            if hmac.compare_digest(key.seal(body, place).encode(), code):
                return key.id
        return FOREIGN
