"""Every module has a test that imports it, or what it is a part of.

imports of the tests --> those of the modules beside them --> what is left has no test
"""

from services.versions import ROOT
from tests.sources import ROOMS, files, imports

STARTED = {
    "bench.chaos.apart": "tests/chaos plays it as a program",
    "bench.chaos.programs": "a part of bench.chaos.apart",
    "bench.chaos.up": "tests/chaos plays it as a program",
    "bench.kernels": "python -m bench.kernels",
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


def folder_of(module: str) -> str:
    return module.rpartition(".")[0]


def test_every_module_has_a_test() -> None:
    """A test imports it, or what it is a part of: a module of ten lines needs no file of tests."""
    imports_of: dict[str, set[str]] = {}
    for path in files(*ROOMS):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        imports_of[module.removesuffix(".__init__")] = set(imports(path))
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
