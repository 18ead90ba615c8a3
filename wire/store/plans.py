"""The rollout plan: one signed record, replaced by compare and swap on its revision.

    read -> a plan with revision + 1 -> write: one script compares, writes, adds the decision, notifies

The script refuses a plan that names a version without a manifest: no replica could load it, and the rollout would
stand still. The collector compares the revision in its script, too, so that no version of a plan is removed.

A plan is followed before it is on disk: `sync` waits for that, where somebody has to know. A server that loses its last
second has the plan before, and the controller decides again, from evidence that is kept here as well.

Rejected: a lease for the writer as well (the revision already refuses the second of two writers), and checking the
manifests before the script (a collection may come between).
"""

from collections.abc import Sequence
from typing import TypeVar

from wire.errors import NotFound, PlanMoved
from wire.keyring import KeyRing
from wire.records import Decision, Record, RolloutPlan
from wire.store import keys, signed
from wire.store.decisions import DECIDE, Decisions
from wire.store.server import WHEN_FULL, Server
from wire.store.watch import NOTIFY

AnyRecord = TypeVar("AnyRecord", bound=Record)

_WRITE = f"""{NOTIFY}{DECIDE}
local plan, decisions, notices, current = unpack(KEYS, 1, 4)
local body, signature, revision, version = unpack(ARGV, 1, 4)
local slot, decision, is_shared, oldest, max = unpack(ARGV, 5, 9)
local stored, last = unpack(redis.call('HMGET', plan, 'body', 'revision'))
if stored == body then return {{'ok'}} end
if tonumber(last or 0) + 1 ~= tonumber(revision) then return {{'moved', last or '0'}} end
for i = 5, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return {{'missing', ARGV[i + 5]}} end
end
{WHEN_FULL}
redis.call('HSET', plan, 'body', body, 'signature', signature, 'revision', revision)
if version ~= '' then redis.call('SET', current, version) end
decide(decisions, slot, decision, is_shared, oldest, max)
notify('', notices, '', 0)
return {{'ok'}}
"""

_WRITE_EVIDENCE = """
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'signature', ARGV[2])
for i = 4, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[3]), -1)
"""
"""An event that is written twice, as after a lost reply, is the same event to who reads them."""


class Plans:
    """The rollout plan on one server."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self.decisions = Decisions(server)

    def read(self) -> RolloutPlan | None:
        """Returns the plan in force; None before the first. Raises BadSignature, UnknownFormat."""
        key = self._server.key(keys.PLAN)
        body = signed.fetch(self._server, key, self._ring)
        return None if body is None else signed.decode(body, RolloutPlan, key)

    def write(self, plan: RolloutPlan, decision: Decision | None = None, current: int | None = None) -> None:
        """Replaces the plan of revision `plan.revision - 1`; keeps `decision` and sets `current`, if given.

        Idempotent. Raises PlanMoved where another revision is in force, NotFound where the version of an arm, of a
        rollback, of the reference or of the pointer is not stored. Version 0 stands for none.
        """
        key = self._server.key
        body = signed.encode(plan)
        needed = sorted({*plan.needed, current or 0} - {0})
        script_keys = [key(keys.PLAN), key(keys.DECISIONS), key(keys.NOTICES), key(keys.CURRENT)]
        script_keys += [key(keys.MANIFEST, version) for version in needed]
        pointer = "" if current is None else current
        signature = self._ring.sign(body, script_keys[0])
        args = (body, signature, plan.revision, pointer, *self.decisions.arguments(decision), *needed)
        outcome, *details = (part.decode() for part in self._server.run(_WRITE, script_keys, args))
        if outcome == "moved":
            raise PlanMoved(f"revision {details[0]} is in force; revision {plan.revision} cannot follow it")
        if outcome == "missing":
            version = details[0]
            raise NotFound(f"version {version} is not stored, so the plan of revision {plan.revision} cannot name it")

    def sync(self) -> None:
        """Waits until the plan in force is on disk, where the server can tell."""
        self._server.sync()

    def write_evidence(self, evidence: Record, judged: Sequence[Record], *, max_judged: int) -> None:
        """Replaces what is known about the versions of the plan, and adds the events that were `judged` since.

        Both are signed, and written together. Of all such events the last `max_judged` are kept.
        """
        body = signed.encode(evidence)
        names = [self._server.key(keys.EVIDENCE), self._server.key(keys.JUDGED)]
        events = [signed.sealed(signed.encode(event), self._ring, names[1]) for event in judged]
        args = (body, self._ring.sign(body, names[0]), max_judged, *events)
        self._server.run(_WRITE_EVIDENCE, names, args)

    def read_evidence(self, record_type: type[AnyRecord]) -> AnyRecord | None:
        """Returns the evidence that was written last; None where none was. Raises BadSignature, UnknownFormat."""
        key = self._server.key(keys.EVIDENCE)
        body = signed.fetch(self._server, key, self._ring)
        return None if body is None else signed.decode(body, record_type, key)

    def read_judged(self, record_type: type[AnyRecord]) -> list[AnyRecord]:
        """Returns the events that were judged last, in their order. Raises BadSignature, UnknownFormat."""
        key = self._server.key(keys.JUDGED)
        items = self._server.ask("LRANGE", key, 0, -1)
        return [signed.decode(signed.opened(item, self._ring, key), record_type, key) for item in items]

    def forget_evidence(self) -> None:
        """Removes the evidence, and the events that were judged: they cannot be read."""
        self._server.ask("DEL", self._server.key(keys.EVIDENCE), self._server.key(keys.JUDGED))
