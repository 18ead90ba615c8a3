"""The variables from which a child process loads the settings of its parent.

Settings --as_environment--> LIFELONG_..., for `services.settings.load` in the child
"""

import json
from typing import Any

from pydantic import SecretStr

from services.secret_files import SUFFIX
from services.settings import Settings, secrets, values_of, variable_of
from services.settings_docs import tables


def as_environment(settings: Settings) -> dict[str, str]:
    """Returns the variables from which a child process loads the same settings, the keys included.

    A table, whose names are the user's, is one variable of JSON. Variables of ours that name the file of a secret are
    empty: the child has the secret itself, and may have our environment as well. The keys that sign have the name of
    their file, where they have one, so that the child follows it.
    """
    values = values_of(settings)
    for table in tables(Settings):
        rows = [name for name in values if name.startswith(f"{table}.")]
        if rows:
            values[table] = json.dumps({name.removeprefix(f"{table}."): values.pop(name) for name in rows})
    files = {f"{variable_of(name)}{SUFFIX.upper()}": "" for name in secrets() if values.get(name) is not None}
    if settings.key_file is not None:
        del values["signing_key"]
        files[f"{variable_of('signing_key')}{SUFFIX.upper()}"] = str(settings.key_file)
    return files | {variable_of(name): _as_text(value) for name, value in values.items() if value not in (None, {})}


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps([*map(_as_text, value)]) if isinstance(value, tuple) else str(value)
