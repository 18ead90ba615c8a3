"""Two ways side by side, such as services of which one has other settings, measured in turns: what the second costs.

    service, service under other settings --full speed, by turns--> medians, the second beside the first

Two services run all the time, so whatever the machine does, and the one that waits, slows down both alike. Who begins
changes from round to round.

Rejected: one service after the other (what else the machine does in these minutes is more than a few per cent), and one
service whose settings change (they are read when a process starts).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median

from bench.service import Service, running_service
from evals.results.row import Goal, Peer, Row
from services.local.children import free_port


@contextmanager
def pair(settings: Mapping[str, object]) -> Iterator[tuple[Service, Service]]:
    """Runs a service as the settings have it, and one with `settings` besides. Raises Skip and NoResult."""
    with running_service() as plain, running_service({"serving.http_port": free_port(), **settings}) as other:
        yield plain, other


def by_turns(plain: Callable[[], float], other: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """Returns the events a second of each round of either. Raises what they raise."""
    of_plain = list[float]()
    of_other = list[float]()
    turns = [(plain, of_plain), (other, of_other)]
    for _ in range(rounds):
        for full_speed, found in turns:
            found.append(full_speed())
        turns.reverse()
    return of_plain, of_other


def row(name: str, plain: list[float], other: list[float], *, goal: float, beside: str, note: str = "") -> Row:
    """Returns the row of the other service, held against the plain one; its note has the rounds."""
    rounds = "; ".join(f"{ours:.0f} beside {theirs:.0f}" for ours, theirs in zip(other, plain, strict=True))
    return Row.of(
        name=name,
        value=median(other),
        unit="events/s",
        goal=Goal(">=", goal, of_peer=True),
        peers=(Peer(beside, median(plain)),),
        note="; ".join(filter(None, [note, rounds])),
    )
