"""The rollout plan: one signed record, replaced by compare and swap on its revision.

    read -> a plan with revision + 1 -> write: one script compares, writes, appends to the history, notifies

The script refuses a plan that names a version without a manifest: no replica could load it, and the rollout would
stand still. The collector compares the revision in its script, too, so that no version of a plan is removed.

Rejected: a lease for the writer as well (the revision already refuses the second of two writers), and checking the
manifests before the script (a collection may come between).
"""

from wire.errors import NotFound, PlanMoved
from wire.records import RolloutPlan, VersionEntry
from wire.store import keys, signed
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

    def read(self) -> RolloutPlan | None:
        """Returns the plan in force; None before the first. Raises BadSignature, UnknownFormat."""
        key = self._server.key(keys.PLAN)
        body = signed.fetch(self._server, key, self._signing_key)
        return None if body is None else signed.decode(body, RolloutPlan, key)

    def write(self, plan: RolloutPlan, entry: VersionEntry | None = None, current: int | None = None) -> None:
        """Replaces the plan of revision `plan.revision - 1`; adds `entry` to the history and sets `current`, if given.

        Idempotent. Raises PlanMoved where another revision is in force, NotFound where the version of an arm, of a
        rollback or of the pointer is not stored. Version 0 stands for none.
        """
        key = self._server.key
        body = signed.encode(plan)
        needed = sorted({*plan.needed, current or 0} - {0})
        script_keys = [key(keys.PLAN), key(keys.HISTORY), key(keys.CHANGES), key(keys.CURRENT)]
        script_keys += [key(keys.MANIFEST, version) for version in needed]
        history_entry = b"" if entry is None else signed.encode(entry)
        pointer = "" if current is None else current
        signature = signed.sign(body, self._signing_key)
        args = (body, signature, plan.revision, history_entry, self._server.config.history, pointer, *needed)
        outcome, *details = (part.decode() for part in self._server.run(_WRITE, script_keys, args))
        if outcome == "moved":
            raise PlanMoved(f"revision {details[0]} is in force; revision {plan.revision} cannot follow it")
        if outcome == "missing":
            version = details[0]
            raise NotFound(f"version {version} is not stored, so the plan of revision {plan.revision} cannot name it")
        self._server.sync()
