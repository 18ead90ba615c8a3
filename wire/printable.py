"""Shows strings of others, such as an id that a client has chosen, so that they can write nothing else on a terminal.

Rejected: repr, which also escapes quotes and backslashes (a name would not be shown as it is sent), and refusing such
strings when they are read (an id is whatever its sender says).
"""

import json


def printable(text: str, *, keep: str = "") -> str:
    r"""Returns the text with every character that a terminal obeys, or cannot show, as JSON escapes it, but for `keep`.

    These are control characters, line breaks, marks that turn the direction of writing, and halves of surrogates.

    >>> print(printable("e\x1b[2K\r\x07 é"))
    e\u001b[2K\r\u0007 é
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else json.dumps(each)[1:-1] for each in text)
