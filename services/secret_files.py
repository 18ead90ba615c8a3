"""Secrets from files: one rule for all of them, as containers and Kubernetes mount them.

    signing_key_file = "/run/secrets/key"  |  LIFELONG_SIGNING_KEY_FILE=/run/secrets/key  -->  signing_key

The name of a secret with `_file` behind it is the path of a file that holds the secret alone; a line end behind it is
none of it, and an empty path names none. It stands for the secret in its own layer (file, environment, flags), so that
a later layer wins as always.

Rejected: a setting `..._file` for each secret (a secret would then have two values, and each reader would have to
choose).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MAX_SECRET_BYTES = 64 << 10
"""Largest file that is read: one of a secret has a few hundred bytes."""

SUFFIX = "_file"


def resolved(layer: Mapping[str, Any], secrets: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the values of one layer with the secrets that its files hold, and what is wrong with them.

    `layer` has values by dotted name, `secrets` the names of the settings that are secret.
    """
    values = dict(layer)
    problems: list[str] = []
    for name in secrets:
        if not (path := values.pop(f"{name}{SUFFIX}", "")):
            continue
        if name in values:
            problems.append(f"{name} and {name}{SUFFIX}: only one of them can be the secret. Remove one")
            continue
        try:
            values[name] = _secret_in(Path(str(path)))
        except (OSError, ValueError) as error:
            problems.append(f"{name}{SUFFIX}: {path} cannot be read ({error}). Give a file that holds the secret alone")
    return values, problems


def _secret_in(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"it has more than {MAX_SECRET_BYTES} bytes")
    secret = content.decode().rstrip("\r\n")
    if not secret:
        raise ValueError("it is empty")
    return secret
