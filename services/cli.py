"""The program `lifelong`: its commands by name. Each command imports heavy modules itself.

Exit codes: 0 success, 2 usage error, 75 something did not answer (try again), 78 wrong settings or set-up.
"""

import importlib.metadata
import sys
from typing import Annotated

import typer

from services.collisions import collisions_at_start
from services.commands.exits import CONFIGURATION, code_of, codes
from services.commands.output import echo


def main() -> None:
    """Runs the command that was typed, unless Python would import packages of other distributions in place of ours."""
    found = collisions_at_start()
    for collision in found:
        # Without `echo`: the package that it imports may be the one of the other distribution.
        sys.stderr.write(ascii(f"lifelong: {collision}. {collision.fix}.")[1:-1] + "\n")
    if not all(collision.is_ours for collision in found):
        sys.exit(CONFIGURATION)
    try:
        program()()
    except SystemExit:
        raise  # the normal end; the next clause imports the error classes, and only errors need them
    except tuple(codes()) as error:
        echo(*f"lifelong: {error}".split("\n"), is_error=True)
        sys.exit(code_of(error))


def program() -> typer.Typer:
    """Returns the program with its commands. Their modules are imported here, after the check for collisions."""
    from services.commands import (
        ask,
        backup,
        bench,
        config,
        doctor,
        encoder,
        exported,
        history,
        keys,
        labels,
        model,
        refused,
        rollout,
        run,
        signing_keys,
        status,
        topics,
        try_message,
        tune,
        versions,
    )

    app = typer.Typer(
        name="lifelong",
        help="Answers events with a quantized model and keeps learning from the labels that come back.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    running = (run.up, run.demo, run.serve, run.learn, run.page)
    using = (ask.predict, ask.feedback, try_message.try_message, labels.forget, status.status, status.top, status.audit)
    keeping = (backup.backup, backup.restore, doctor.migrate)
    measuring = (doctor.doctor, tune.tune, tune.profile)
    for command in (*running, *using, *keeping, *measuring):
        app.command()(command)
    app.command("import")(history.import_)
    app.command("export")(exported.export_)
    groups = {
        "versions": versions.app,
        "encoder": encoder.app,
        "new": encoder.new_app,
        "model": model.app,
        "rollout": rollout.app,
        "labels": labels.app,
        "quarantine": refused.quarantine,
        "topics": topics.app,
        "deadletters": refused.deadletters,
        "keys": keys.keys,
        "signing-keys": signing_keys.app,
        "secrets": keys.secrets,
        "config": config.app,
        "bench": bench.app,
    }
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        echo(f"lifelong {importlib.metadata.version('lifelong')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and end.")
    ] = False,
) -> None:
    """Accept the options of `lifelong` itself."""


if __name__ == "__main__":
    main()
