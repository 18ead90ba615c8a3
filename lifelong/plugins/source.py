"""The digest of the source file of a user's class. Versions carry it, so a process with other source refuses them."""

import hashlib
import inspect
from pathlib import Path
from typing import Any

from model.errors import WrongConfig


def source_digest(found: Any, subject: str) -> str:
    """Returns the hex SHA-256 of the file that defines a class or function.

    Raises WrongConfig if the file cannot be read. `subject` is the name of the class in the message.
    """
    try:
        file = inspect.getsourcefile(found)
        source = Path(file).read_bytes() if file else b""
    except (TypeError, OSError) as error:
        raise WrongConfig(
            f"{subject}: its source cannot be read ({error}); versions are identified by a digest of the source"
        ) from error
    if not source:
        raise WrongConfig(
            f"{subject} has no source, and versions are identified by a digest of it; install it with its .py file"
        )
    return hashlib.sha256(source).hexdigest()
