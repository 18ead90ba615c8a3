"""The program `lifelong`: its commands by name. Each command imports heavy modules itself.

Exit codes: 0 success, 2 usage error, 75 something did not answer (try again), 78 wrong settings or set-up.
"""

import sys
from typing import TYPE_CHECKING

from services.collisions import collisions_at_start
from services.commands.exits import CONFIGURATION, code_of, codes

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Runs the command that was typed, unless Python would import packages of other distributions in place of ours."""
    found = collisions_at_start()
    for collision in found:
        print(f"lifelong: {collision}. {collision.fix}.", file=sys.stderr)
    if not all(collision.is_ours for collision in found):
        sys.exit(CONFIGURATION)
    try:
        program()()
    except SystemExit:
        raise  # the normal end; the next clause imports the error classes, and only errors need them
    except tuple(codes()) as error:
        print(f"lifelong: {error}", file=sys.stderr)
        sys.exit(code_of(error))


def program() -> "typer.Typer":
    """Returns the program with its commands. Their modules are imported here, after the check for collisions."""
    import typer

    from services.commands import (
        ask,
        bench,
        config,
        doctor,
        encoder,
        forget,
        keys,
        ledger,
        model,
        profile,
        quarantine,
        rollout,
        run,
        status,
        topics,
        tune,
        version,
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
    app.callback()(version.options)
    running = (run.up, run.demo, run.serve, run.learn)
    using = (ask.predict, ask.feedback, forget.forget, status.status)
    measuring = (doctor.doctor, tune.tune, profile.profile, ledger.ledger)
    for command in (*running, *using, *measuring):
        app.command()(command)
    app.command("import")(ask.import_)
    app.add_typer(versions.app, name="versions")
    app.add_typer(topics.app, name="topics")
    app.add_typer(encoder.app, name="encoder")
    app.add_typer(model.app, name="model")
    app.add_typer(rollout.app, name="rollout")
    app.add_typer(quarantine.app, name="quarantine")
    app.add_typer(keys.app, name="keys")
    app.add_typer(config.app, name="config")
    app.add_typer(bench.app, name="bench")
    return app


if __name__ == "__main__":
    main()
