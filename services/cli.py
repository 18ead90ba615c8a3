"""The program `lifelong`: its commands by name. Each command imports heavy modules itself.

Exit codes: 0 success, 2 usage error, 75 something did not answer (try again), 78 wrong settings or set-up.
"""

import sys
from typing import TYPE_CHECKING

from services.collisions import collisions_at_start
from services.commands.exits import CONFIGURATION, code_of, codes
from services.commands.output import echo

if TYPE_CHECKING:
    import typer


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


def program() -> "typer.Typer":
    """Returns the program with its commands. Their modules are imported here, after the check for collisions."""
    from services.commands import (
        ask,
        audit,
        backup,
        bench,
        config,
        deadletters,
        doctor,
        encoder,
        exported,
        forget,
        history,
        keys,
        labels,
        migrate,
        model,
        new,
        page,
        profile,
        quarantine,
        rollout,
        run,
        secrets,
        signing_keys,
        status,
        top,
        topics,
        try_message,
        tune,
        version,
        versions,
    )

    app = _without_commands()
    app.callback()(version.options)
    running = (run.up, run.demo, run.serve, run.learn, page.page)
    using = (ask.predict, ask.feedback, try_message.try_message, forget.forget, status.status, top.top, audit.audit)
    keeping = (backup.backup, backup.restore, migrate.migrate)
    measuring = (doctor.doctor, tune.tune, profile.profile)
    for command in (*running, *using, *keeping, *measuring):
        app.command()(command)
    app.command("import")(history.import_)
    app.command("export")(exported.export_)
    learning = (versions, encoder, new, model, rollout, labels, quarantine)
    for group in (*learning, topics, deadletters, keys, signing_keys, secrets, config, bench):
        app.add_typer(group.app, name=group.__name__.rpartition(".")[2].replace("_", "-"))
    return app


def _without_commands() -> "typer.Typer":
    import typer

    return typer.Typer(
        name="lifelong",
        help="Answers events with a quantized model and keeps learning from the labels that come back.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


if __name__ == "__main__":
    main()
