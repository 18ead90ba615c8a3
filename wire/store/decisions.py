"""The decisions that changed the rollout plan, kept by time: 90 days, whatever else is published meanwhile.

    Plans.write(plan, decision) -> one script: plan and decision -> since(time) -> the decisions, newest first

They are a sorted set by time. A learner that publishes five versions a second may have each promoted at once, so
promotions by one of the rules A, B and C in the same hour share a slot: the last of them stands for all, and counts
them. There are then at most 72 of these a day. All others are kept one by one, `MAX_DECISIONS` in total at most, and
the oldest go first.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from wire.records import ADDITIVE, NOT_WORSE, SUPERIOR, Decision
from wire.store import keys, signed
from wire.store.server import Server

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
