"""Prints the output of commands: lines with foreign text made safe, JSON, and progress.

Progress goes to standard error: in place on a terminal, otherwise as lines.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVERY_S = 10.0
"""Shortest time between two lines of progress that is not shown on a terminal."""


def echo(*lines: str, is_error: bool = False) -> None:
    """Prints each line at once. Control characters are escaped, line breaks too, so that a line stays one line."""
    # Imported late: the program checks for collisions first, and `wire` may be another distribution's package.
    from wire.logs import printable

    stream = sys.stderr if is_error else sys.stdout
    for line in lines:
        print(printable(line), file=stream, flush=True)


def json_lines(value: Any) -> list[str]:
    """Returns the lines of a JSON document. Non-ASCII characters are not escaped."""
    return json.dumps(value, indent=2, ensure_ascii=False).split("\n")


@contextmanager
def progress(clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the progress of a command: each text takes the place of the last one."""
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
