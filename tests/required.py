"""What a test needs of the machine: where it is missing, the test is skipped, or fails.

A user without Apache Kafka can run the tests. Where everything is installed (`.ci/run`), no test may be skipped
silently: `LIFELONG_REQUIRE=kafka,toxiproxy` makes the lack of these two a failure, `all` the lack of anything.
"""

import os
from typing import Literal, NoReturn, TypeAlias, get_args

import pytest

REQUIRE = "LIFELONG_REQUIRE"

Need: TypeAlias = Literal[
    "kafka", "tansu", "redis", "toxiproxy", "compiler", "clinc150", "namespaces", "chromium", "history"
]
"""`history`: the commits of the release before, which a shallow clone lacks."""


def missing(need: Need, why: str) -> NoReturn:
    """Skips the test, or fails it where the need is required."""
    if need in required(os.environ.get(REQUIRE, "")):
        pytest.fail(f"{why} ({REQUIRE} names {need})", pytrace=False)
    pytest.skip(why)


def required(value: str) -> frozenset[str]:
    """Parses a value of the variable. Raises ValueError for a name that no test needs.

    >>> sorted(required("kafka,redis"))
    ['kafka', 'redis']
    """
    known = get_args(Need)
    named = frozenset(value.split(",")) - {""}
    unknown = named - {*known, "all"}
    if unknown:
        raise ValueError(f"{REQUIRE}: {', '.join(sorted(unknown))}; there are all, {', '.join(known)}")
    return frozenset(known) if "all" in named else named
