"""The rollout plan: a signed record that is replaced by compare-and-swap on its revision, and the decisions about it.

    read -> a plan with revision + 1 -> write: one script compares, writes, adds the decision, notifies
                                              for an operator's step, it also adds the entry in the log of commands
    decisions.since(time) -> the decisions, newest first

The script refuses a plan that names a version without a manifest, because no replica could load that version. The
collector's script compares the revision, too, so that it removes no version of the plan.

Replicas follow a plan before it is on disk; `sync` waits until it is. If a server loses its last second of writes, it
has the previous plan again, and the controller decides again from the evidence, which is stored here, too.

Decisions are kept for 90 days in a sorted set by time. A learner that publishes five versions a second may have each of
them promoted at once. So promotions by the same rule (A, B or C) in the same hour share a slot: only the last of them
is kept, with their count, which makes at most 72 a day. Every other decision has its own slot. There are at most
`MAX_DECISIONS` decisions, and the oldest are removed first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from wire.errors import NotFound, PlanMoved
from wire.keyring import KeyRing
from wire.records import ADDITIVE, NOT_WORSE, SUPERIOR, Decision, Record, RolloutPlan
from wire.store import keys, signed
from wire.store.commands import APPEND, CommandLog, OperatorStep
from wire.store.server import WHEN_FULL, Server
from wire.store.watch import NOTIFY

RETENTION_MS: Final = 90 * 86_400_000
"""How long a decision is kept."""

MAX_DECISIONS: Final = 20_000
"""Largest number of decisions that are kept: about 10 MB."""

HOUR_MS: Final = 3_600_000

SHARED_SLOTS: Final = {ADDITIVE: 0.25, SUPERIOR: 0.5, NOT_WORSE: 0.75}
"""Rules whose promotions share a slot, and the fraction of a millisecond that makes the slot's score unique."""

DECIDE = """
local function decide(decisions, slot, body, is_shared, oldest, max)
  if body == '' then return end
  if is_shared == '1' then redis.call('ZREMRANGEBYSCORE', decisions, slot, slot) end
  redis.call('ZADD', decisions, slot, body)
  redis.call('ZREMRANGEBYSCORE', decisions, '-inf', '(' .. oldest)
  redis.call('ZREMRANGEBYRANK', decisions, 0, -max - 1)
end
"""
"""Lua that defines `decide`: it adds a decision and removes decisions that are too old or too many."""

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
"""After a lost reply an event may be written twice; readers count it once."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the sorted set of decisions. Its score is a time in milliseconds; a shared slot has one decision."""

    score: float
    is_shared: bool

    @classmethod
    def for_decision(cls, decision: Decision) -> "Slot":
        if decision.action == "promoted" and decision.rule in SHARED_SLOTS:
            return cls(decision.time_ms // HOUR_MS * HOUR_MS + SHARED_SLOTS[decision.rule], True)
        return cls(float(decision.time_ms), False)


class Decisions:
    """The decisions about the plan on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def since(self, time_ms: int, limit: int) -> list[Decision]:
        """Returns the last `limit` decisions that are not older than `time_ms`, newest first."""
        key = self._server.key(keys.DECISIONS)
        # The score of a shared slot is the beginning of its hour.
        oldest = time_ms // HOUR_MS * HOUR_MS
        bodies = self._server.ask("ZRANGEBYSCORE", key, oldest, "+inf")
        decisions = [signed.decode(body, Decision, key) for body in bodies]
        kept = [decision for decision in decisions if decision.time_ms >= time_ms]
        return sorted(kept, key=lambda decision: (decision.time_ms, decision.revision), reverse=True)[:limit]

    def script_arguments(self, decision: Decision | None) -> tuple[str | bytes | float, ...]:
        """Returns the arguments of `decide` after its key. In a shared slot the decision adds the count so far."""
        if decision is None:
            return 0, "", 0, 0, MAX_DECISIONS
        slot = Slot.for_decision(decision)
        if slot.is_shared:
            key = self._server.key(keys.DECISIONS)
            for body in self._server.ask("ZRANGEBYSCORE", key, slot.score, slot.score):
                before = signed.decode(body, Decision, key)
                is_repeated = before.revision == decision.revision
                decision = msgspec.structs.replace(decision, count=before.count + (not is_repeated))
        oldest = decision.time_ms - RETENTION_MS
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
        step: OperatorStep | None = None,
    ) -> None:
        """Replaces the plan of revision `plan.revision - 1`. Idempotent.

        If given, it also stores `decision`, sets the pointer `current`, and adds an operator's `step` to the log of
        commands. Raises PlanMoved if another revision is in force. Raises NotFound if the version of an arm, of a
        rollback, of the reference or of the pointer is not stored; version 0 means no version.
        """
        key = self._server.key
        body = signed.encode(plan)
        needed = sorted({*plan.needed, current or 0} - {0})
        script_keys = [key(keys.PLAN), key(keys.DECISIONS), key(keys.NOTICES), key(keys.CURRENT)]
        script_keys += self._commands.names
        script_keys += [key(keys.MANIFEST, version) for version in needed]
        pointer = "" if current is None else current
        signature = self._ring.sign(body, script_keys[0])
        plan_args = (body, signature, plan.revision, pointer, *self.decisions.script_arguments(decision))
        outcome = "taken"
        while outcome == "taken":
            args = (*plan_args, *self._commands.step_arguments(step), *needed)
            outcome, *details = (part.decode() for part in self._server.run(_WRITE, script_keys, args))
        if outcome == "moved":
            raise PlanMoved(f"revision {details[0]} is in force; revision {plan.revision} cannot follow it")
        if outcome == "missing":
            version = details[0]
            raise NotFound(f"version {version} is not stored, so the plan of revision {plan.revision} cannot name it")

    def sync(self) -> None:
        """Waits until the plan in force is on disk, if the server can report that (`why_not_durable`)."""
        self._server.sync()

    def write_evidence(self, evidence: Record, judged: Sequence[Record], *, max_judged: int) -> None:
        """Replaces the evidence about the versions of the plan, and adds the events that were `judged` since then.

        Both are signed and written together. The last `max_judged` events are kept.
        """
        body = signed.encode(evidence)
        names = [self._server.key(keys.EVIDENCE), self._server.key(keys.JUDGED)]
        events = [signed.seal_entry(signed.encode(event), self._ring, names[1]) for event in judged]
        args = (body, self._ring.sign(body, names[0]), max_judged, *events)
        self._server.run(_WRITE_EVIDENCE, names, args)

    def read_evidence(self, record_type: type[AnyRecord]) -> AnyRecord | None:
        """Returns the last evidence, or None if there is none. Raises BadSignature, UnknownFormat."""
        key = self._server.key(keys.EVIDENCE)
        body = signed.fetch(self._server, key, self._ring)
        return None if body is None else signed.decode(body, record_type, key)

    def read_judged(self, record_type: type[AnyRecord]) -> list[AnyRecord]:
        """Returns the last judged events, in order. Raises BadSignature, UnknownFormat."""
        key = self._server.key(keys.JUDGED)
        items = self._server.ask("LRANGE", key, 0, -1)
        return [signed.decode(signed.open_entry(item, self._ring, key), record_type, key) for item in items]

    def forget_evidence(self) -> None:
        """Removes the evidence and the judged events, because the caller could not read them."""
        self._server.ask("DEL", self._server.key(keys.EVIDENCE), self._server.key(keys.JUDGED))
