"""Loads the settings of a service that a benchmark starts, and internal constants, which users cannot set.

{"serving.replicas": 2, "learner.slow_batch": 8} --load_settings--> Loaded      by --set and by LIFELONG_INTERNAL
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.settings import Loaded, known_constants, load
from wire.sections import INTERNAL_VARIABLE


def load_settings(overrides: Mapping[str, Any], *, file: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Returns the settings of `file` and `environ`, overridden by `overrides`, which are given by dotted name.

    Raises BadSettings.
    """
    internal = {name: value for name, value in overrides.items() if name in known_constants()}
    flags = {name: value for name, value in overrides.items() if name not in internal}
    before = json.loads(environ.get(INTERNAL_VARIABLE) or "{}")
    return load(file=file, environ={**environ, INTERNAL_VARIABLE: json.dumps(before | internal)}, flags=flags)
