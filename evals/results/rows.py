"""Collects the rows of several calls, prints each as a line for people, and appends them to a file of JSON lines.

    Row of one call --RowsByCall.add--> Row of all calls so far --line--> terminal
    all calls, Surroundings, Conditions --RowsByCall.record--> a file of JSON lines: ResultLine, encode, decode

A JSON line also has the machine, the command, the commit and the load of other processes. A call is one repetition of a
benchmark, or of an experiment of the ledger, which gives each call its own seed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from evals.results.conditions import Conditions
from evals.results.row import Call, Row, Spread


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """The environment of a benchmark."""

    machine: str
    versions: dict[str, str]
    command: str
    commit: str


class ResultCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `Call` as it is recorded, with its goal as text and its ratio to the best peer."""

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
    """A JSON line: a `Row` with the spread of its values, its `Surroundings`, and the `Conditions` of each call."""

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
    """Returns a result line as JSON, with a newline at the end."""
    return msgspec.json.encode(line) + b"\n"


def decode(text: str) -> ResultLine:
    """Returns the result line that a JSON line holds. Raises msgspec.ValidationError for a line of another format."""
    return msgspec.json.decode(text, type=ResultLine)


ABSENT = "not measured in every call"


class RowsByCall:
    """Collects the rows of one benchmark or experiment over its calls."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self._name = name
        self._surroundings = surroundings
        self._rows: dict[str, Row] = {}
        self._num_ended = 0
        self._conditions: list[Conditions] = []

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def add(self, row: Row) -> Row:
        """Adds a row of the current call, and returns the row with all calls so far."""
        before = self._rows.get(row.name)
        # Every row has all calls: a row that is new in a later call had no value in the earlier ones.
        earlier = before.calls if before else (Call(value=None, note=ABSENT),) * self._num_ended
        self._rows[row.name] = replace(row, calls=(*earlier, *row.calls))
        return self._rows[row.name]

    def end_call(self, failure: str = "", *, conditions: Conditions | None = None) -> list[Row]:
        """Ends the current call, and returns the rows for which it has no value.

        `failure` is the reason if the call ended early.
        """
        if conditions:
            self._conditions.append(conditions)
        without = []
        if failure:
            without.append(self.add(Row.of(f"{self._name}.failed", None, "", note=failure)))
        self._num_ended += 1
        for row in list(self):
            if len(row.calls) < self._num_ended:
                without.append(self.add(replace(row, calls=(Call(value=None, note=failure or ABSENT),))))
        return without

    def lines(self) -> Iterator[ResultLine]:
        """Yields a line for each row."""
        return (ResultLine.of(row, self._surroundings, self._conditions) for row in self)

    def record(self, path: Path) -> None:
        """Appends a JSON line for each row to the file `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.writelines(map(encode, self.lines()))


HEADER = f"{'row':<36} {'value':>24} {'unit':<26} {'goal':>8} met"


def render_row(row: Row) -> str:
    """Returns the row as one line of text with the columns of HEADER, and remarks on peers and calls."""
    met = {True: "yes", False: "NOT MET", None: ""}[row.met]
    remarks = "; ".join(_remarks(row))
    value = _render_spread(row.values)
    return f"{row.name:<36} {value:>24} {row.unit:<26} {row.goal or '':>8} {met:<7} {remarks}".rstrip()


def _remarks(row: Row) -> Iterator[str]:
    if row.ratios:
        best = [call.peers[0] for call in row.calls if call.peers]
        yield f"{_render_spread(row.ratios, 'x')} of {_join_distinct(f'{peer.name}: {peer.value:g}' for peer in best)}"
    if missing := _join_distinct(chain.from_iterable(call.gaps.missing for call in row.calls)):
        yield f"incomplete: {missing} missing"
    if unfinished := _join_distinct(chain.from_iterable(call.gaps.unfinished for call in row.calls)):
        yield f"not all settings tried: {unfinished}"
    if notes := _join_distinct(call.note for call in row.calls if call.note):
        yield notes


def _render_spread(spread: Spread | None, suffix: str = "") -> str:
    """Returns the median, and the range if the values differ: `2.3x (2.2x to 2.4x)`."""
    if spread is None:
        return "none"
    middle = f"{spread.median:g}{suffix}"
    return middle if spread.min == spread.max else f"{middle} ({spread.min:g}{suffix} to {spread.max:g}{suffix})"


def _join_distinct(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
