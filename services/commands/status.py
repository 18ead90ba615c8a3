"""`lifelong status`: what runs, what it promises, and whether that is kept."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo
from services.commands.rollout import open_operator
from services.commands.rollout_text import status_lines

if TYPE_CHECKING:
    from wire.records import Promise, ReplicaReport


@reads_settings
def status(context: CliContext, as_json: JsonOption = False) -> None:
    """Show the replicas with their profile and its promises, and what `lifelong rollout status` shows."""
    with open_operator(context) as operator:
        found = operator.status()
    if as_json:
        print(json.dumps([_as_json(report) for report in found.replicas], indent=2))
        return
    for report in found.replicas:
        for line in promise_lines(report):
            echo(line)
    for line in status_lines(found):
        echo(line)


def promise_lines(report: "ReplicaReport") -> Iterator[str]:
    """Yields the profile of a replica, and each of its promises with what was measured over the last minute."""
    yield f"replica {report.replica}: {f'profile {report.profile}' if report.profile else 'no profile'}"
    for promise in report.promises:
        verdict = {True: "kept", False: "NOT KEPT", None: ""}[promise.is_met]
        measured = "nothing measured" if promise.value is None else f"{promise.value:.4g}"
        side = "<=" if promise.is_ceiling else ">="
        yield f"  {promise.name:<14} {measured:>16}  {side} {promise.limit:g}  {verdict}".rstrip()


def _as_json(report: "ReplicaReport") -> dict[str, object]:
    return {
        "replica": report.replica,
        "profile": report.profile,
        "promises": [_promise_json(promise) for promise in report.promises],
    }


def _promise_json(promise: "Promise") -> dict[str, object]:
    return {"name": promise.name, "limit": promise.limit, "value": promise.value, "is_met": promise.is_met}
