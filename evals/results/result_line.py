"""Defines a line of results.jsonl: a row with all its calls, where and with what these ran, and what ran beside them.

Row, Surroundings, Conditions --ResultLine.of--> ResultLine --encode--> a line --decode--> ResultLine
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from evals.results.conditions import Conditions
from evals.results.row import Call, Row, Spread


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what a benchmark runs."""

    machine: str
    versions: dict[str, str]
    command: str
    commit: str


class ResultCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `Call`, with its goal in words and its ratio to the best peer."""

    value: float | None
    goal: str | None
    ratio: float | None
    peers: dict[str, float]
    missing: tuple[str, ...]
    unfinished: tuple[str, ...]
    note: str

    @classmethod
    def of(cls, call: Call) -> "ResultCall":
        return cls(
            value=call.value,
            goal=None if call.goal is None else str(call.goal),
            ratio=call.ratio,
            peers={peer.name: peer.value for peer in call.peers},
            missing=call.gaps.missing,
            unfinished=call.gaps.unfinished,
            note=call.note,
        )


class ResultLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line: a `Row` with the spread of its values, its `Surroundings`, and the `Conditions` of each call."""

    name: str
    unit: str
    goal: str | None
    met: bool | None
    min: float | None
    median: float | None
    max: float | None
    calls: tuple[ResultCall, ...]
    machine: str
    versions: dict[str, str]
    command: str
    commit: str
    conditions: tuple[Conditions, ...]

    @classmethod
    def of(cls, row: Row, surroundings: Surroundings, conditions: Iterable[Conditions] = ()) -> "ResultLine":
        spread: dict[str, Any] = row.values._asdict() if row.values else dict.fromkeys(Spread._fields)
        return cls(
            name=row.name,
            unit=row.unit,
            goal=row.goal,
            met=row.met,
            **spread,
            calls=tuple(map(ResultCall.of, row.calls)),
            **msgspec.structs.asdict(surroundings),
            conditions=tuple(conditions),
        )


def encode(line: ResultLine) -> bytes:
    """Returns the line as it is written."""
    return msgspec.json.encode(line) + b"\n"


def decode(text: str) -> ResultLine:
    """Reads a line back. Raises msgspec.ValidationError for a line of another format."""
    return msgspec.json.decode(text, type=ResultLine)
