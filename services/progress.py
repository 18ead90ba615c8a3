"""Shows what a command is doing now, on standard error: in place on a terminal, as lines elsewhere.

Rejected: rich's status alone, which shows nothing where standard error is a file or a pipe.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wire.logs import printable

EVERY_S = 10.0
"""Least time between two lines of a log, which would be long otherwise."""


@contextmanager
def progress(clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[str], None]]:
    """Yields the function that shows a text in the place of the last one."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
    else:
        yield _lines(clock)


def _lines(clock: Callable[[], float]) -> Callable[[str], None]:
    due_s = clock()

    def show(text: str) -> None:
        nonlocal due_s
        if clock() >= due_s:
            print(printable(text), file=sys.stderr, flush=True)
            due_s = clock() + EVERY_S

    return show
