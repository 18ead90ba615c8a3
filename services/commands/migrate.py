"""`lifelong migrate`: what of a state the installed release reads, rewrites and cannot read; and the rewriting."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.exits import CONFIGURATION
from services.commands.output import echo

if TYPE_CHECKING:
    from services.migration.format_finding import FormatFinding
    from wire.store import Store


@reads_settings
def migrate(
    context: CliContext,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a state to the formats of the installed release; exit with 78 where it cannot go on with it."""
    from services.migration import learner_files, store_records
    from services.open_store import opened_store

    with opened_store(context.process()) as (settings, store):
        folder = Path(settings.learner.state_dir)
        findings = [*learner_files.examined(folder), *store_records.examined(store)]
        if not dry_run:
            _rewrite(findings, store)
    _show(findings, is_dry=dry_run, as_json=as_json)
    if any(finding.is_fatal for finding in findings):
        raise typer.Exit(CONFIGURATION)


def _rewrite(findings: "list[FormatFinding]", store: "Store") -> None:
    """Rewrites what has to be, unless the service cannot go on anyway, or a program would write in between.

    Raises NotPossible.
    """
    from rollout.plans import NotPossible

    if any(finding.is_fatal for finding in findings):
        return
    due = [finding for finding in findings if finding.rewrite is not None]
    if due and (store.reports.learner() or store.reports.controller()):
        raise NotPossible("the learner or the rollout runs and would write in between: end both, or use --dry-run")
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
