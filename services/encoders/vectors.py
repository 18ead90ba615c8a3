"""Published vectors: what sentence-transformers or transformers computed of some texts, in a file.

The file has a line of JSON for each text, and at most MAX_VECTORS are read:

    {"text": "where is my card", "vector": [0.0371, -0.0214, ...]}
"""

from pathlib import Path

import msgspec

MAX_VECTORS = 1_024


class BadVectors(ValueError):
    """The file of published vectors cannot be read, or has vectors of another width."""


class PublishedVector(msgspec.Struct, frozen=True):
    """A line of the file."""

    text: str
    vector: list[float]


def read_vectors(path: Path, *, width: int) -> list[PublishedVector]:
    """Returns the published vectors of a file, in its order. Raises BadVectors, naming the line."""
    published: list[PublishedVector] = []
    try:
        with path.open("rb") as file:
            for line in file:
                each = msgspec.json.decode(line, type=PublishedVector)
                if len(each.vector) != width:
                    raise BadVectors(
                        f"{path}, line {len(published) + 1}: {len(each.vector)} numbers; a vector has {width}"
                    )
                published.append(each)
                if len(published) == MAX_VECTORS:
                    break
    except (OSError, msgspec.DecodeError) as error:
        raise BadVectors(f"{path}, line {len(published) + 1}: {error}") from error
    if not published:
        raise BadVectors(f"{path} has no vectors")
    return published
