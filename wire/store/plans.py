"""The rollout plan: one signed record, replaced only by who has read the last one.

    plan() -> a plan with revision + 1 -> write_plan: one script compares, writes, notes in the history, says so

The script refuses a plan that names a version without a manifest: replicas could not take it, and nothing that they
could take would follow. The collector compares the plan in the same way, so a version cannot go between the two.

Rejected: a lease for the writer as well (the revision already refuses the second of two writers), and looking for the
manifests before the script (a collection may come in between).
"""

from wire.errors import NotFound, PlanMoved
from wire.records import RolloutPlan, VersionEntry
from wire.store import signed
from wire.store.server import WHEN_FULL, Server
from wire.store.watch import CHANGE

_WRITE = f"""{CHANGE}
local plan, history, changes, current = unpack(KEYS, 1, 4)
local body, signature, revision, entry, limit, version = unpack(ARGV, 1, 6)
local stored, last = unpack(redis.call('HMGET', plan, 'body', 'revision'))
if stored == body then return {{'ok'}} end
if tonumber(last or 0) + 1 ~= tonumber(revision) then return {{'moved', last or '0'}} end
for i = 5, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return {{'missing', ARGV[i + 2]}} end
end
{WHEN_FULL}
redis.call('HSET', plan, 'body', body, 'signature', signature, 'revision', revision)
if version ~= '' then redis.call('SET', current, version) end
change(history, changes, entry, limit)
return {{'ok'}}
"""


class Plans:
    """The rollout plan on one server."""

    def __init__(self, server: Server, signing_key: bytes) -> None:
        self._server = server
        self._signing_key = signing_key

    def plan(self) -> RolloutPlan | None:
        """The plan in force; None before the first. Raises BadSignature, UnknownFormat."""
        key = self._server.key("plan")
        body = signed.fetch(self._server, key, self._signing_key)
        return None if body is None else signed.decode(body, RolloutPlan, key)

    def write(self, plan: RolloutPlan, entry: VersionEntry | None, current: int | None) -> None:
        """Replaces the plan of revision `plan.revision - 1`, and sets `current`, if given. Repeating it is harmless.

        Raises PlanMoved when another revision is in force, NotFound when a version that an arm, a rollback or the
        pointer would go to is not stored. Version 0 stands for none.
        """
        key = self._server.key
        body = signed.encode(plan)
        named = sorted({*plan.needed, current or 0} - {0})
        keys = [*map(key, ("plan", "history", "changes", "current")), *(key("manifest", version) for version in named)]
        note = b"" if entry is None else signed.encode(entry)
        pointer = "" if current is None else current
        signature = signed.sign(body, self._signing_key)
        args = (body, signature, plan.revision, note, self._server.config.history, pointer, *named)
        reason, *found = (part.decode() for part in self._server.run(_WRITE, keys, args))
        if reason == "moved":
            raise PlanMoved(f"revision {found[0]} is in force; revision {plan.revision} cannot follow it")
        if reason == "missing":
            raise NotFound(f"version {found[0]} is not stored, so the plan of revision {plan.revision} cannot name it")
        self._server.sync()
