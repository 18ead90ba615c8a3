"""Calls a case, shows each of its rows when it is measured, and keeps what a seed of the ledger has measured.

    Case --call--> rows, added to those of the earlier calls (RowsByCall)
    a case of the ledger:  rows of a seed that ended --KeptCalls.write--> COMMIT/CASE-SEED.json --read--> the same rows

A run of the ledger that was stopped goes on with the seeds that are missing. What was measured belongs to a commit
without changes and to a machine. What ended without a result is not kept: it is tried again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import msgspec
from msgspec.structs import replace

from bench.harness.case import Case, Run
from bench.harness.machine import PACKAGES, machine, servers_given, versions
from evals.results.conditions import Conditions, ConditionsWatch
from evals.results.row import NoResult, Row, Skip
from evals.results.rows import RowsByCall, Surroundings, line
from services.versions import commit
from wire.files import atomic_write

INTERRUPTED = "an error or Control-C has ended the call"


class KeptCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a call measured, and what else ran on the machine."""

    machine: str
    rows: tuple[Row, ...]
    conditions: Conditions | None


class KeptCalls:
    """What was measured at one commit. Without a folder, or with changes in the tree, nothing is kept."""

    def __init__(self, folder: Path | None, surroundings: Surroundings) -> None:
        has_changes = surroundings.commit.endswith("+")
        self._folder = folder / surroundings.commit if folder and not has_changes else None
        self._machine = surroundings.machine

    def read(self, case: Case, seed: int) -> KeptCall | None:
        """Returns what a seed measured; None if it was not measured here."""
        if self._folder is None or case.technique is None:
            return None
        try:
            kept = msgspec.json.decode((self._folder / _file_of(case, seed)).read_bytes(), type=KeptCall)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return kept if kept.machine == self._machine else None

    def write(self, case: Case, seed: int, rows: Sequence[Row], conditions: Conditions | None) -> None:
        """Keeps what a seed of the ledger has measured that has ended."""
        if self._folder is None or case.technique is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._folder / _file_of(case, seed)) as file:
            file.write(msgspec.json.encode(KeptCall(self._machine, tuple(rows), conditions)))


def _file_of(case: Case, seed: int) -> str:
    return f"{case.name}-{seed}.json"


def surroundings_of(cases: Sequence[Case], command: str) -> dict[str, Surroundings]:
    """Returns where and with what each case runs, by its name."""
    found = versions(set(chain.from_iterable(case.uses for case in cases)))
    given = servers_given()
    here = Surroundings(machine=machine(), versions=found, command=command, commit=commit())
    surroundings: dict[str, Surroundings] = {}
    for case in cases:
        known = found if case.has_own_servers else found | given
        used = {name: known[name] for name in ("python", *PACKAGES, *case.uses)}
        surroundings[case.name] = replace(here, versions=used)
    return surroundings


@contextmanager
def recorded(surroundings: dict[str, Surroundings], path: Path | None) -> Iterator[dict[str, RowsByCall]]:
    """Yields the rows of each case, by its name. What is still in there when it is left is recorded then.

    Nothing is recorded without a path.
    """
    rows = {name: RowsByCall(name, here) for name, here in surroundings.items()}
    try:
        yield rows
    finally:
        for left in rows.values():
            if path is not None:
                left.record(path)


def call(run: Run, rows: RowsByCall, kept: KeptCalls) -> None:
    """Measures a case once, unless it was measured with this seed before, and shows each row when it is there."""
    case = run.case
    known = kept.read(case, run.seed)
    if known is not None:
        for row in known.rows:
            run.say(line(rows.add(row)))
        rows.end_call(conditions=known.conditions)
        return
    start_s = time.monotonic()
    if not case.is_on_service:
        run.stop_service()
    measured: list[Row] = []
    failure = INTERRUPTED
    watch = ConditionsWatch()
    try:
        with watch:
            for row in case.measure(run):
                measured.append(row)
                run.say(line(rows.add(row)))
        failure = ""
        kept.write(case, run.seed, measured, watch.conditions)
    except Skip as why:
        failure = ""
        run.say(f"{case.name}: skipped: {why}")
    except NoResult as why:
        failure = str(why)
    finally:
        without = rows.end_call(failure, conditions=watch.conditions)
    for row in without:
        run.say(line(row))
    run.say(f"{case.name} took {time.monotonic() - start_s:.0f} s")
