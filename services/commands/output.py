"""What commands print: lines, in which a string of others writes nothing but itself."""

import json
import sys
from typing import Any


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
