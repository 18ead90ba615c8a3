"""What a test needs of the machine: where it is missing, the test is skipped, or fails; and the sum of it at the end.

    missing("kafka", why) -> skipped: "needs kafka: ..." -> after the last test: how many tests lacked what

A user without Apache Kafka can run the tests. Where everything is installed (`.ci/run`), no test may be skipped
silently: `LIFELONG_REQUIRE=kafka,toxiproxy` makes the lack of these two a failure, `all` the lack of anything, and
`installed` the lack of anything but a data set; `-kafka` leaves one out again.

No test skips itself in another way. What nothing that can be installed would change (the processor's instruction sets,
the user's rights, the system) is `impossible`: it is never required, and is summed up as well.
"""

import os
import re
from collections import Counter, defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, get_args

import pytest

REQUIRE = "LIFELONG_REQUIRE"

Package: TypeAlias = Literal["onnx", "onnxruntime", "sentence_transformers", "torchao", "transformers"]
DataSet: TypeAlias = Literal["clinc150", "elec2", "ledger", "mnist"]
"""`ledger`: the tasks of the ledger, as docs/benchmarks.md names them."""
Program: TypeAlias = Literal[
    "kafka",
    "tansu",
    "redis",
    "redis8",
    "toxiproxy",
    "compiler",
    "namespaces",
    "chromium",
    "history",
    "kustomize",
    "promtool",
    "valgrind",
]
"""`history`: the commits of the release before, which a shallow clone lacks. `redis8`: what Redis has since 7 or 8."""

Need: TypeAlias = Package | DataSet | Program

DATA = "LIFELONG_DATA"
FILES: dict[DataSet, str] = {
    "clinc150": "clinc150/data_full.json.gz",
    "elec2": "elec2",
    "ledger": "sst2",
    "mnist": "mnist",
}

_REASON = re.compile(r"needs (\w+): (.*)", re.DOTALL)


def missing(need: Need, why: str) -> NoReturn:
    """Skips the test, or fails it where the need is required."""
    if need in required(os.environ.get(REQUIRE, "")):
        pytest.fail(f"{why} ({REQUIRE} names {need})", pytrace=False)
    pytest.skip(f"needs {need}: {why}")


def impossible(why: str) -> NoReturn:
    """Skips a test that no installation would make possible on this machine, or with what it is parametrized with."""
    pytest.skip(why)


def imported(package: Package) -> Any:
    """Returns the module of a package that only some installations have."""
    try:
        return import_module(package)
    except ImportError as error:
        missing(package, f"{error}: pip install '.[dev]'")


def data_folder(name: DataSet) -> Path:
    """Returns the folder of the data sets, if this one is in it."""
    folder = Path(os.environ.get(DATA, ""))
    if not os.environ.get(DATA) or not (folder / FILES[name]).exists():
        missing(name, f"{DATA} names no folder with {FILES[name]}")
    return folder


def required(value: str) -> frozenset[str]:
    """Parses a value of the variable. Raises ValueError for a name that no test needs.

    >>> sorted(required("kafka,redis"))
    ['kafka', 'redis']
    """
    installed = frozenset(get_args(Package)) | frozenset(get_args(Program))
    groups = {"all": installed | FILES.keys(), "installed": installed}
    names = [name for name in value.split(",") if name]
    unknown = {name.removeprefix("-") for name in names} - groups["all"] - groups.keys()
    if unknown:
        known = ", ".join([*groups, *sorted(groups["all"])])
        raise ValueError(f"{REQUIRE}: {', '.join(sorted(unknown))}; there are {known}")
    left_out = {name.removeprefix("-") for name in names if name.startswith("-")}
    wanted = frozenset[str]().union(*(groups.get(name, {name}) for name in names if not name.startswith("-")))
    return wanted - left_out


def summed_up(reasons: list[str]) -> list[str]:
    """Returns a line for each need, with how many tests lacked it and why, and one for each other reason."""
    needs = defaultdict[str, Counter[str]](Counter)
    for reason in reasons:
        found = _REASON.fullmatch(reason)
        need, why = found.groups() if found else ("what cannot be installed", reason)
        needs[need][why] += 1
    lines: list[str] = []
    for need, whys in sorted(needs.items(), key=lambda each: -each[1].total()):
        lines.append(f"{whys.total()} tests need {need}:" if whys.total() > 1 else f"1 test needs {need}:")
        lines += [f"    {num} x {why}" for why, num in whys.most_common()]
    return lines


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says what was skipped for the lack of what."""
    reports = terminalreporter.stats.get("skipped", [])
    if reports:
        reasons = [str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports]
        terminalreporter.section("skipped")
        for line in summed_up(reasons):
            terminalreporter.write_line(line)
