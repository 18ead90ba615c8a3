"""`lifelong deadletters ...`: lists the messages that were refused, and sends events and labels among them again."""

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo

if TYPE_CHECKING:
    from wire.records import DeadLetter

app = typer.Typer(no_args_is_help=True, help="Messages that could not be read or answered.")

NOT_SENT = 1
"""Exit code where a letter could not be sent again."""


@app.command("list")
@reads_settings
def list_(
    context: CliContext,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Newest letters")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the newest letters: the reason, where the message lies, and how it begins."""
    from services.dead_letters import newest_letters
    from wire.bus import Bus

    with closing(Bus(context.attached().bus, client_id="deadletters")) as bus:
        letters = newest_letters(bus, limit)
    if as_json:
        print(json.dumps([as_builtins(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.time_ms / 1000))
        echo(f"{moment}  {letter.message_id}  {letter.reason}: {letter.detail}  {letter.payload[:60]!r}")
    if not letters:
        echo("There are no dead letters.")


@app.command("replay")
@reads_settings
def replay_(
    context: CliContext,
    letters: Annotated[list[str], typer.Argument(metavar="LETTER...", help="As `list` names them: topic/0/17")],
    as_json: JsonOption = False,
) -> None:
    """Send the events and labels in these letters again. An event gets an id that names its letter."""
    from services.dead_letters import replay
    from wire.bus import Bus

    settings = context.attached()
    with closing(Bus(settings.bus, client_id="deadletters")) as bus:
        replayed = replay(bus, settings.bus, letters)
    if as_json:
        print(json.dumps({"sent": replayed.sent, "refused": replayed.refused}, indent=2))
    else:
        echo(f"{len(replayed.sent)} sent again")
        for letter_id, reason in replayed.refused.items():
            echo(f"{letter_id} cannot be sent: {reason}")
    if replayed.refused:
        raise typer.Exit(NOT_SENT)


def as_builtins(letter: "DeadLetter") -> dict[str, Any]:
    """Returns a letter for JSON; bytes of its payload that are no text are shown as such."""
    return {
        "id": letter.message_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "source": letter.source,
        "time_ms": letter.time_ms,
        "payload": letter.payload.decode(errors="backslashreplace"),
    }
