"""The program `lifelong`: its commands by name. Each command imports heavy modules itself.

Exit codes: 0 success, 2 usage error, 75 something did not answer (try again), 78 wrong settings or set-up.
"""

import sys

import typer

from services.commands import ask, bench, config, doctor, forget, quarantine, rebuild, rollout, run, tune
from services.commands.exits import code_of, codes

app = typer.Typer(
    name="lifelong",
    help="Answers events with a quantized model and keeps learning from the labels that come back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    run.up,
    run.demo,
    run.serve,
    run.learn,
    ask.predict,
    ask.feedback,
    forget.forget,
    rollout.versions,
    rebuild.rebuild,
    doctor.doctor,
    tune.tune,
):
    app.command()(command)
app.add_typer(rollout.app, name="rollout")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(config.app, name="config")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Runs the command that was typed."""
    try:
        app()
    except SystemExit:
        raise  # the normal end; the next clause imports the error classes, and only errors need them
    except tuple(codes()) as error:
        print(f"lifelong: {error}", file=sys.stderr)
        sys.exit(code_of(error))


if __name__ == "__main__":
    main()
