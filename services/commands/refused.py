"""`lifelong deadletters ...` and `lifelong quarantine ...`: list refused messages and labels, and send them again.

Dead letters are messages that could not be read or answered; the events and labels among them can be sent again. In
quarantine are labels that the learner did not believe; an operator releases them.
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
"""Exit code if a dead letter could not be sent again."""

quarantine = typer.Typer(no_args_is_help=True, help="Labels that the learner did not believe.")

ReasonOption = Annotated[str, typer.Option("--reason", help="Only with this reason, such as forged, over_rate or flip")]

SourceOption = Annotated[str, typer.Option("--source", help="Only labels from this source")]

EventSourceOption = Annotated[
    str | None,
    typer.Option("--event-source", help="Only for events of this source; labels that name no source get this one"),
]


@deadletters.command("list")
@reads_settings
def list_letters(
    context: CliContext,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Number of dead letters to show")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the newest dead letters: the reason, the position of the message, and its beginning."""
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
    letters: Annotated[list[str], typer.Argument(metavar="LETTER...", help="Ids as `list` shows them: topic/0/17")],
    as_json: JsonOption = False,
) -> None:
    """Send the events and labels in these dead letters again. An event gets an id that names its dead letter."""
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
    """Returns a dead letter for JSON. Bytes of its payload that are not UTF-8 are escaped."""
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
    events: Annotated[list[str] | None, typer.Option("--event", help="Only for these events")] = None,
    reason: ReasonOption = "",
    source: SourceOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of labels to show")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the newest quarantined labels in order of time, with their events, including labels released since."""
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
        echo("No labels are in quarantine.")


@quarantine.command()
@reads_settings
def release(
    context: CliContext,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of labels, as `list` shows")] = None,
    reason: ReasonOption = "",
    source: SourceOption = "",
    event_source: EventSourceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All labels in quarantine")] = False,
    as_json: JsonOption = False,
) -> None:
    """Vouch for labels, and send them to the learner again. The answer must still be in the learner's window.

    Labels with the reason missing or forged are sent only if --reason names it, since anyone may have sent them."""
    from services.keys import key_ring
    from services.programs import open_bus
    from services.refused import LabelFilter
    from services.refused import release as send
    from wire.receipts import Receipts

    chosen = LabelFilter(ids=tuple(ids or ()), reason=reason, source=source, event_source=event_source)
    if chosen.is_all and not everything:
        raise typer.BadParameter("name labels, or give --reason or --source, or --all")
    settings = context.attached()
    with closing(open_bus(settings, "quarantine")) as bus:
        released = send(bus, Receipts(*key_ring(settings).receipts), chosen)
    if as_json:
        echo(*json_lines({"sent": _rows(released.sent), "unproven": dict(released.unproven)}))
    else:
        echo(*released.lines())


def _rows(labels: "Sequence[Quarantined]") -> list[dict[str, Any]]:
    from msgspec import to_builtins

    from services.refused import quarantine_id

    return [{"id": quarantine_id(label), **to_builtins(label)} for label in labels]


def _label_line(label: "Quarantined") -> str:
    from services.refused import quarantine_id
    from wire.inputs import render as render_event
    from wire.kinds import render
    from wire.logs import printable

    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(label.time_ms / 1000))
    about = render_event(label)[:60]
    of = f"  of {about!r}, answered {label.answered!r}" if about else ""
    event = label.event_id if label.event_source is None else f"{label.event_id} of {label.event_source!r}"
    label_text = render(label.feedback.label_string)
    return printable(
        f"{moment}  {quarantine_id(label)}  {label.reason:<10}  {event}  {label.source!r} said {label_text!r}{of}"
    )
