"""Loads the settings of a service that a benchmark starts, among them constants, which no user sets.

{"serving.replicas": 2, "learner.slow_batch": 8} --loaded--> Loaded      by --set and by LIFELONG_INTERNAL
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.settings import Loaded, known_constants, load
from wire.sections import INTERNAL_VARIABLE


def loaded(named: Mapping[str, Any], *, file: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Returns the settings of `file` and `environ`, in whose place are those of `named`, by dotted name.

    Raises BadSettings.
    """
    internal = {name: value for name, value in named.items() if name in known_constants()}
    flags = {name: value for name, value in named.items() if name not in internal}
    before = json.loads(environ.get(INTERNAL_VARIABLE) or "{}")
    return load(file=file, environ={**environ, INTERNAL_VARIABLE: json.dumps(before | internal)}, flags=flags)
