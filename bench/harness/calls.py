"""Measures a case once, shows each row as it is measured, and keeps the rows of a seed of the ledger.

    Case --measure_once--> rows, added to those of the earlier calls (RowsByCall)
    a case of the ledger:  rows of a seed that ended --KeptCalls.write--> COMMIT/CASE-SEED.json --read--> the same rows

A run of the ledger that was stopped continues with the missing seeds. Kept rows are used only at the same commit,
without changes in the tree, and on the same machine. A call without a result is not kept, so it is tried again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import msgspec
from msgspec.structs import replace

from bench.harness.case import Case, Run
from bench.harness.machine import PACKAGES, external_servers, machine, versions
from evals.results.conditions import Conditions, ConditionsWatch
from evals.results.row import NoResult, Row, Skip
from evals.results.rows import RowsByCall, Surroundings, render_row
from services.versions import commit
from wire.files import atomic_write

INTERRUPTED = "an error or Control-C has ended the call"


class KeptCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rows of a call, and the load of other processes on the machine during the call."""

    machine: str
    rows: tuple[Row, ...]
    conditions: Conditions | None


class KeptCalls:
    """Stores the calls of the ledger's seeds at one commit.

    It stores nothing without a folder, or if the tree has changes.
    """

    def __init__(self, folder: Path | None, surroundings: Surroundings) -> None:
        has_changes = surroundings.commit.endswith("+")
        self._folder = folder / surroundings.commit if folder and not has_changes else None
        self._machine = surroundings.machine

    def read(self, case: Case, seed: int) -> KeptCall | None:
        """Returns the kept call of a seed; None if the seed was not measured at this commit on this machine."""
        if self._folder is None or case.technique is None:
            return None
        try:
            kept = msgspec.json.decode((self._folder / _file_name(case, seed)).read_bytes(), type=KeptCall)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return kept if kept.machine == self._machine else None

    def write(self, case: Case, seed: int, rows: Sequence[Row], conditions: Conditions | None) -> None:
        """Keeps the rows of a seed of the ledger after its call has ended with a result."""
        if self._folder is None or case.technique is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._folder / _file_name(case, seed)) as file:
            file.write(msgspec.json.encode(KeptCall(self._machine, tuple(rows), conditions)))


def _file_name(case: Case, seed: int) -> str:
    return f"{case.name}-{seed}.json"


def surroundings_by_case(cases: Sequence[Case], command: str) -> dict[str, Surroundings]:
    """Returns the machine, commit, command and versions that each case runs with, by the case's name."""
    installed = versions(set(chain.from_iterable(case.uses for case in cases)))
    external = external_servers()
    common = Surroundings(machine=machine(), versions=installed, command=command, commit=commit())
    surroundings: dict[str, Surroundings] = {}
    for case in cases:
        known = installed if case.has_own_servers else installed | external
        used = {name: known[name] for name in ("python", *PACKAGES, *case.uses)}
        surroundings[case.name] = replace(common, versions=used)
    return surroundings


@contextmanager
def recording(surroundings: dict[str, Surroundings], path: Path | None) -> Iterator[dict[str, RowsByCall]]:
    """Yields an empty collection of rows for each case, by the case's name.

    On exit the collections that are still in the dictionary are recorded in `path`. Without a path nothing is recorded.
    """
    rows = {name: RowsByCall(name, described) for name, described in surroundings.items()}
    try:
        yield rows
    finally:
        for unrecorded in rows.values():
            if path is not None:
                unrecorded.record(path)


def measure_once(run: Run, rows: RowsByCall, kept: KeptCalls) -> None:
    """Measures a case once and shows each row as it is measured.

    If the rows of this seed were kept, they are shown instead.
    """
    case = run.case
    earlier = kept.read(case, run.seed)
    if earlier is not None:
        for row in earlier.rows:
            run.say(render_row(rows.add(row)))
        rows.end_call(conditions=earlier.conditions)
        return
    start_s = time.monotonic()
    if not case.is_on_service:
        run.stop_service()
    measured: list[Row] = []
    # Control-C and unexpected errors leave this value; every other way out replaces it.
    failure = INTERRUPTED
    watch = ConditionsWatch()
    try:
        with watch:
            for row in case.measure(run):
                measured.append(row)
                run.say(render_row(rows.add(row)))
        failure = ""
        kept.write(case, run.seed, measured, watch.conditions)
    except Skip as reason:
        failure = ""
        run.say(f"{case.name}: skipped: {reason}")
    except NoResult as reason:
        failure = str(reason)
    finally:
        rows_without_value = rows.end_call(failure, conditions=watch.conditions)
    for row in rows_without_value:
        run.say(render_row(row))
    run.say(f"{case.name} took {time.monotonic() - start_s:.0f} s")
