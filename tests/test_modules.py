"""Every module has a test that imports it, or what it is a part of; and some program of ours runs it.

imports of the tests --> those of the modules beside them --> what is left has no test
programs --> what they import, and what they start by its name --> what is left runs nowhere
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from services.versions import ROOT
from tests.sources import ROOMS, files, imports, parsed

STARTED = {
    "bench.chaos.apart": "tests/bench/chaos/test_play.py plays it as a program",
    "bench.chaos.programs": "a part of bench.chaos.apart",
    "bench.chaos.up": "tests/bench/chaos/test_play.py plays it as a program",
    "bench.peers.engine": "a program of bench.encoder",
    "bench.peers.head_speed": "a program of bench.head_update",
    "bench.peers.kafka_loop": "a program of bench.kafka_throughput",
    "bench.peers.ours_pack": "a program of bench.encoder",
    "bench.peers.learner_speed": "a program of bench.learner_pace",
    "bench.peers.precisions": "a program of bench.precision",
    "bench.service": "make bench, for every row that needs a service",
    "services.cli": "tests/services/test_cli.py starts it as a program",
    "services.tune.worker": "a program of services.tune.measure",
}
"""Modules that no test imports, as they are programs, and what starts them."""

COMMANDS = "services.commands."
"""Imported by `services.cli`, which tests/services/test_cli.py starts as a program."""


PROGRAMS = ("lifelong", "serving.app", "services.cli")
"""What a user runs or imports, and what Ray does."""

BENCHMARKS = ("bench.__main__", "bench.chaos.__main__")
"""What `make bench` runs, besides the programs."""

RUN_NOWHERE = {
    "kernels.attention.reference": "the definition, with which the tests compare",
    "learner.fast.row_delta": "only the rows of a head that have changed, which a publication does not send yet",
}
"""Modules that no program reaches, and why they are there."""


def folder_of(module: str) -> str:
    return module.rpartition(".")[0]


@cache
def modules() -> Mapping[str, Path]:
    """The file of each module of ours."""
    dotted = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files(*ROOMS)}
    return {name.removesuffix(".__init__"): path for path, name in dotted.items()}


def started(path: Path) -> Iterator[str]:
    """Yields the modules that a file names in a string: it starts them as programs."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in modules():
            yield node.value


def reached_from(programs: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    waiting = [*programs]
    while waiting:
        module = waiting.pop()
        if module in modules() and module not in reached:
            reached.add(module)
            path = modules()[module]
            waiting += [folder_of(module), *imports(path), *started(path)]
    return reached


def test_every_module_is_run_by_a_program() -> None:
    """A benchmark keeps nothing alive but what measures."""
    measuring = {name for name in reached_from(BENCHMARKS) if name.startswith(("bench.", "evals."))}
    alive = reached_from(PROGRAMS) | measuring
    assert sorted(modules().keys() - alive - RUN_NOWHERE.keys() - {"bench"}) == []


def test_every_module_has_a_test() -> None:
    """A test imports it, or what it is a part of: a module of ten lines needs no file of tests."""
    imports_of = {module: set(imports(path)) for module, path in modules().items()}
    reached: set[str] = set()
    by_tests = {name for path in files("tests") for name in imports(path)}
    waiting = [*by_tests]
    for name in by_tests & imports_of.keys():
        waiting += imports_of[name]
    while waiting:
        module = waiting.pop()
        if module in imports_of and module not in reached:
            reached.add(module)
            neighbours = {folder_of(module), module}
            waiting += [name for name in imports_of[module] if folder_of(name) in neighbours]
    packages = {folder_of(module) for module in imports_of}
    missing = imports_of.keys() - reached - packages - STARTED.keys()
    wrong = sorted(name for name in missing if not name.endswith("__main__") and not name.startswith(COMMANDS))
    assert not wrong, wrong
