"""`lifelong deadletters ...` and `lifelong quarantine ...`: lists what was refused, and sends it again.

Dead letters are messages, and events and labels among them are sent again. In quarantine are labels that the learner
did not believe; an operator releases them.
"""

import json
import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines

if TYPE_CHECKING:
    from wire.records import DeadLetter, Quarantined


deadletters = typer.Typer(no_args_is_help=True, help="Messages that could not be read or answered.")

NOT_SENT = 1
"""Exit code where a letter could not be sent again."""

quarantine = typer.Typer(no_args_is_help=True, help="Labels that the learner did not believe.")

ReasonOption = Annotated[str, typer.Option("--reason", help="Only those, such as forged, over_rate or flip")]

SourceOption = Annotated[str, typer.Option("--source", help="Only what this source said")]

EventSourceOption = Annotated[
    str | None,
    typer.Option("--event-source", help="Only of events of this source; a label that names none is then of it"),
]


@deadletters.command("list")
@reads_settings
def list_letters(
    context: CliContext,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Newest letters")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the newest letters: the reason, where the message lies, and how it begins."""
    from services.refused import newest_letters
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


@deadletters.command("replay")
@reads_settings
def replay_(
    context: CliContext,
    letters: Annotated[list[str], typer.Argument(metavar="LETTER...", help="As `list` names them: topic/0/17")],
    as_json: JsonOption = False,
) -> None:
    """Send the events and labels in these letters again. An event gets an id that names its letter."""
    from services.refused import replay
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


@quarantine.command("list")
@reads_settings
def list_labels(
    context: CliContext,
    events: Annotated[list[str] | None, typer.Option("--event", help="Only of these events")] = None,
    reason: ReasonOption = "",
    source: SourceOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest labels")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the newest labels, by their time, with what they were said of. Also those that were released since."""
    from services.programs import open_bus
    from services.refused import LabelFilter, quarantined_labels

    with closing(open_bus(context.attached(), "quarantine")) as bus:
        chosen = LabelFilter(event_ids=tuple(events or ()), reason=reason, source=source)
        labels = sorted(quarantined_labels(bus, chosen), key=lambda label: label.time_ms)
    labels = labels[-limit:]
    if as_json:
        echo(*json_lines(_rows(labels)))
        return
    for label in labels:
        echo(_label_line(label))
    if not labels:
        echo("Nothing lies in quarantine.")


@quarantine.command()
@reads_settings
def release(
    context: CliContext,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Those with these ids, see list")] = None,
    reason: ReasonOption = "",
    source: SourceOption = "",
    event_source: EventSourceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All that lies in quarantine")] = False,
    as_json: JsonOption = False,
) -> None:
    """Vouch for labels and send them to the learner again. It still needs the answer in its window, see the manual.

    What is missing or forged is sent only if --reason says so: anybody may have sent it."""
    from services.keys import ring_of
    from services.programs import open_bus
    from services.refused import LabelFilter
    from services.refused import release as send
    from wire.receipts import Receipts

    chosen = LabelFilter(ids=tuple(ids or ()), reason=reason, source=source, event_source=event_source)
    if chosen.is_all and not everything:
        raise typer.BadParameter("name labels, or give --reason or --source, or --all")
    settings = context.attached()
    with closing(open_bus(settings, "quarantine")) as bus:
        released = send(bus, Receipts(*ring_of(settings).receipts), chosen)
    if as_json:
        echo(*json_lines({"sent": _rows(released.sent), "unproven": dict(released.unproven)}))
    else:
        echo(*released.lines())


def _rows(labels: "Sequence[Quarantined]") -> list[dict[str, Any]]:
    from msgspec import to_builtins

    from services.refused import id_of

    return [{"id": id_of(label), **to_builtins(label)} for label in labels]


def _label_line(label: "Quarantined") -> str:
    from services.refused import id_of
    from wire.inputs import render as render_event
    from wire.kinds import render
    from wire.logs import printable

    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(label.time_ms / 1000))
    about = render_event(label)[:60]
    of = f"  of {about!r}, answered {label.answered!r}" if about else ""
    event = label.event_id if label.event_source is None else f"{label.event_id} of {label.event_source!r}"
    said = render(label.feedback.said)
    return printable(f"{moment}  {id_of(label)}  {label.reason:<10}  {event}  {label.source!r} said {said!r}{of}")
