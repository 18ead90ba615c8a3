"""`lifelong doctor|migrate`: can this machine run the service, and can this release read the stored state?

Both commands name a fix for each problem. `migrate` also rewrites data that is stored in older formats.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.exits import CONFIGURATION
from services.commands.output import echo

if TYPE_CHECKING:
    from services.state_formats import FormatFinding
    from wire.store import Store


@reads_settings
def doctor(context: CliContext, as_json: JsonOption = False) -> None:
    """Check this machine and its servers, and name a fix for each problem. Exits with 78 if something will not work."""
    from services.doctor import examine

    checks = []
    for check in examine(context.load().settings):
        checks.append(check)
        if not as_json:
            found = check.found.replace("\n", f"\n{'':<19}")
            echo(*f"{check.state:<5} {check.name:<12} {found}".split("\n"))
            if check.fix:
                echo(f"{'':<18} -> {check.fix}")
    if as_json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    if any(check.state == "fail" for check in checks):
        sys.stdout.flush()
        raise typer.Exit(CONFIGURATION)


@reads_settings
def migrate(
    context: CliContext,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rewrite the stored state in the formats of this release. Exits with 78 if the service cannot continue from it."""
    from services.open_store import opened_store
    from services.state_formats import examine_files, examine_store

    with opened_store(context.process()) as (settings, store):
        folder = Path(settings.learner.state_dir)
        findings = [*examine_files(folder), *examine_store(store)]
        if not dry_run:
            _rewrite(findings, store)
    _show(findings, is_dry=dry_run, as_json=as_json)
    if any(finding.is_fatal for finding in findings):
        raise typer.Exit(CONFIGURATION)


def _rewrite(findings: "list[FormatFinding]", store: "Store") -> None:
    """Rewrites older formats, unless the service cannot continue from the state anyway.

    Raises NotPossible if a running program could write at the same time.
    """
    from rollout.plans import NotPossible

    if any(finding.is_fatal for finding in findings):
        return
    due = [finding for finding in findings if finding.rewrite is not None]
    if due and (store.reports.learner() or store.reports.controller()):
        raise NotPossible("the learner or the rollout runs and would write in between: stop both, or use --dry-run")
    for finding in due:
        assert finding.rewrite is not None
        finding.rewrite()


def _show(findings: "list[FormatFinding]", *, is_dry: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"dry_run": is_dry, "findings": [_row(finding) for finding in findings]}, indent=2))
        return
    for finding in findings:
        verdict = f"would be {finding.verdict}" if is_dry and finding.rewrite else finding.verdict
        echo(f"{finding.name:<34} {finding.format:<18} {verdict}{f': {finding.why}' if finding.why else ''}")
    if not findings:
        echo("There is no state yet.")


def _row(finding: "FormatFinding") -> dict[str, Any]:
    return {
        "name": finding.name,
        "format": finding.format,
        "verdict": finding.verdict,
        "why": finding.why,
        "needed": finding.is_needed,
    }
