"""The source of a class of the user, by which the versions that it has made are told from others."""

import hashlib
import inspect
from pathlib import Path
from typing import Any

from model.errors import WrongConfig


def source_digest(found: Any, shown: str) -> str:
    """Returns the digest of the file in which a class stands. Raises WrongConfig, which names it as it is `shown`."""
    try:
        file = inspect.getsourcefile(found)
        source = Path(file).read_bytes() if file else b""
    except (TypeError, OSError) as error:
        raise WrongConfig(f"{shown}: its source cannot be read ({error}), which names its versions") from error
    if not source:
        raise WrongConfig(f"{shown} has no source, which names its versions; install it with its .py file")
    return hashlib.sha256(source).hexdigest()
