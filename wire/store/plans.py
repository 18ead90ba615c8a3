"""The rollout plan, one signed record that is replaced by compare and swap on its revision, and the decisions about it.

    read -> a plan with revision + 1 -> write: one script compares, writes, adds the decision, notifies
                                              an operator's step: it adds the entry in the log of commands, too
    decisions.since(time) -> the decisions, newest first

The script refuses a plan that names a version without a manifest: no replica could load it, and the rollout would
stand still. The collector compares the revision in its script, too, so that no version of a plan is removed.

A plan is followed before it is on disk: `sync` waits for that, if somebody has to know. A server that loses its last
second has the plan before, and the controller decides again, from evidence that is kept here as well.

Decisions are kept for 90 days, whatever else is published meanwhile, in a sorted set by time. A learner that publishes
five versions a second may have each promoted at once, so promotions by one of the rules A, B and C in the same hour
share a slot: the last of them stands for all, and counts them. There are then at most 72 of these a day. All others are
kept one by one, `MAX_DECISIONS` in total at most, and the oldest go first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from wire.errors import NotFound, PlanMoved
from wire.keyring import KeyRing
from wire.records import ADDITIVE, NOT_WORSE, SUPERIOR, Decision, Record, RolloutPlan
from wire.store import keys, signed
from wire.store.commands import APPEND, CommandLog, Step
from wire.store.server import WHEN_FULL, Server
from wire.store.watch import NOTIFY

KEPT_MS: Final = 90 * 86_400_000
"""How long a decision is kept."""

MAX_DECISIONS: Final = 20_000
"""Most decisions that are kept: about 10 MB."""

HOUR_MS: Final = 3_600_000

SHARED: Final = {ADDITIVE: 0.25, SUPERIOR: 0.5, NOT_WORSE: 0.75}
"""Rules whose promotions share a slot, and what tells their slots from each other and from those of whole
milliseconds."""

DECIDE = """
local function decide(decisions, slot, body, is_shared, oldest, max)
  if body == '' then return end
  if is_shared == '1' then redis.call('ZREMRANGEBYSCORE', decisions, slot, slot) end
  redis.call('ZADD', decisions, slot, body)
  redis.call('ZREMRANGEBYSCORE', decisions, '-inf', '(' .. oldest)
  redis.call('ZREMRANGEBYRANK', decisions, 0, -max - 1)
end
"""
"""Lua that defines `decide`: it adds a decision, and removes those that are too old or too many."""

AnyRecord = TypeVar("AnyRecord", bound=Record)

_WRITE = f"""{NOTIFY}{DECIDE}{APPEND}
local plan, decisions, notices, current, commands, outcomes, passing = unpack(KEYS, 1, 7)
local body, signature, revision, version = unpack(ARGV, 1, 4)
local slot, decision, is_shared, oldest, max = unpack(ARGV, 5, 9)
local seq, entry, outcome, max_passing = unpack(ARGV, 10, 13)
local stored, last = unpack(redis.call('HMGET', plan, 'body', 'revision'))
if stored == body then return {{'ok'}} end
if tonumber(last or 0) + 1 ~= tonumber(revision) then return {{'moved', last or '0'}} end
for i = 8, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return {{'missing', ARGV[i + 6]}} end
end
if seq ~= '' and is_taken(commands, seq) then return {{'taken'}} end
{WHEN_FULL}
redis.call('HSET', plan, 'body', body, 'signature', signature, 'revision', revision)
if version ~= '' then redis.call('SET', current, version) end
decide(decisions, slot, decision, is_shared, oldest, max)
if seq ~= '' then append(commands, outcomes, passing, seq, entry, outcome, '0', max_passing) end
notify('', notices, '', 0)
return {{'ok'}}
"""

_WRITE_EVIDENCE = """
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'signature', ARGV[2])
for i = 4, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[3]), -1)
"""
"""An event that is written twice, as after a lost reply, is the same event to who reads them."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the sorted set, by time in milliseconds; a shared one holds one decision."""

    score: float
    is_shared: bool

    @classmethod
    def of(cls, decision: Decision) -> "Slot":
        if decision.action == "promoted" and decision.rule in SHARED:
            return cls(decision.time_ms // HOUR_MS * HOUR_MS + SHARED[decision.rule], True)
        return cls(float(decision.time_ms), False)


class Decisions:
    """The decisions on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def since(self, time_ms: int, limit: int) -> list[Decision]:
        """Returns the last `limit` decisions that are not older than `time_ms`, newest first."""
        key = self._server.key(keys.DECISIONS)
        oldest = time_ms // HOUR_MS * HOUR_MS  # a shared slot is under the beginning of its hour
        bodies = self._server.ask("ZRANGEBYSCORE", key, oldest, "+inf")
        decisions = [signed.decode(body, Decision, key) for body in bodies]
        kept = [decision for decision in decisions if decision.time_ms >= time_ms]
        return sorted(kept, key=lambda decision: (decision.time_ms, decision.revision), reverse=True)[:limit]

    def arguments(self, decision: Decision | None) -> tuple[str | bytes | float, ...]:
        """Returns the arguments of `decide` after its key. A decision in a shared slot counts those before it."""
        if decision is None:
            return 0, "", 0, 0, MAX_DECISIONS
        slot = Slot.of(decision)
        if slot.is_shared:
            key = self._server.key(keys.DECISIONS)
            for body in self._server.ask("ZRANGEBYSCORE", key, slot.score, slot.score):
                before = signed.decode(body, Decision, key)
                is_repeated = before.revision == decision.revision
                decision = msgspec.structs.replace(decision, count=before.count + (not is_repeated))
        oldest = decision.time_ms - KEPT_MS
        return repr(slot.score), signed.encode(decision), int(slot.is_shared), oldest, MAX_DECISIONS


class Plans:
    """The rollout plan on one server."""

    def __init__(self, server: Server, ring: KeyRing, commands: CommandLog) -> None:
        self._server = server
        self._ring = ring
        self._commands = commands
        self.decisions = Decisions(server)

    def read(self) -> RolloutPlan | None:
        """Returns the plan in force; None before the first. Raises BadSignature, UnknownFormat."""
        key = self._server.key(keys.PLAN)
        body = signed.fetch(self._server, key, self._ring)
        return None if body is None else signed.decode(body, RolloutPlan, key)

    def write(
        self,
        plan: RolloutPlan,
        decision: Decision | None = None,
        current: int | None = None,
        *,
        step: Step | None = None,
    ) -> None:
        """Replaces the plan of revision `plan.revision - 1`; keeps `decision` and sets `current`, if given.

        An operator's `step` gets an entry in the log of commands.

        Idempotent. Raises PlanMoved where another revision is in force, NotFound where the version of an arm, of a
        rollback, of the reference or of the pointer is not stored. Version 0 stands for none.
        """
        key = self._server.key
        body = signed.encode(plan)
        needed = sorted({*plan.needed, current or 0} - {0})
        script_keys = [key(keys.PLAN), key(keys.DECISIONS), key(keys.NOTICES), key(keys.CURRENT)]
        script_keys += self._commands.names
        script_keys += [key(keys.MANIFEST, version) for version in needed]
        pointer = "" if current is None else current
        signature = self._ring.sign(body, script_keys[0])
        about = (body, signature, plan.revision, pointer, *self.decisions.arguments(decision))
        outcome = "taken"
        while outcome == "taken":
            args = (*about, *self._commands.written_step(step), *needed)
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
