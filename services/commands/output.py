"""What commands print: lines, in which a string of others writes nothing but itself, and what a command is doing now.

Progress is shown on standard error: in place on a terminal, as lines elsewhere.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVERY_S = 10.0
"""Least time between two lines of a log, which would be long otherwise."""


def echo(*lines: str, is_error: bool = False) -> None:
    """Prints each line, at once, with what a terminal would obey escaped: line breaks, too, so that one stays one."""
    # Not at the top: the program looks for collisions first, and `wire` may be another distribution's package.
    from wire.logs import printable

    stream = sys.stderr if is_error else sys.stdout
    for line in lines:
        print(printable(line), file=stream, flush=True)


def json_lines(value: Any) -> list[str]:
    """Returns the lines of a JSON document, in which names are readable."""
    return json.dumps(value, indent=2, ensure_ascii=False).split("\n")


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
            echo(text, is_error=True)
            due_s = clock() + EVERY_S

    return show
