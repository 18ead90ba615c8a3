"""Every module has a test, in a file of its name where it has logic; and some program of ours runs it.

imports of the tests --> those of the modules beside them --> what is left has no test
modules whose functions decide or repeat something --> files of their names below tests/ --> what is left has a reason
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
    "bench.peers.http_apps": "the programs of bench.http",
    "bench.peers.kafka_loop": "a program of bench.over_kafka",
    "bench.learner_pace": "a program of itself, which `make bench` starts",
    "bench.precision": "a program of itself, which `make bench` starts",
    "bench.harness.service": "make bench, for every row that needs a service",
    "services.cli": "tests/services/test_cli.py starts it as a program",
    "services.tune.worker": "a program of services.tune.measure",
}
"""Modules that no test imports, as they are programs, and what starts them."""

COMMANDS = "services.commands."
"""Imported by `services.cli`, which tests/services/test_cli.py starts as a program."""


PROGRAMS = ("lifelong", "serving.app", "services.cli")
"""What a user runs or imports, and what Ray does."""

BENCHMARKS = ("bench.__main__", "bench.chaos.__main__")
"""What measures, besides the programs."""

RUN_NOWHERE = {
    "bench.chaos.attacker": "a client that attacks, which a scene of the chaos plays",
    "bench.peers.http_apps": "bench.peers.http_servers starts it by its path",
    "bench.techniques.plain_server": "bench.techniques.batching starts it by its path",
    "bench.harness.ledger": "a part of scripts/figures.py, which `make figures` runs",
    "evals.results.tables": "a part of scripts/figures.py, which `make figures` runs",
    "kernels.conv2d": "row E8 measures it: no encoder has a stem of it yet",
    "kernels.conv2d.native": "a part of kernels.conv2d",
    "kernels.conv2d.reference": "a part of kernels.conv2d",
    "kernels.conv2d.training": "a part of kernels.conv2d",
    "kernels.attention.reference": "the definition, with which the tests compare",
    "services.templates.encoder": "`lifelong new encoder` copies it",
}
"""Modules that no program reaches, and why they are there."""


TESTED_ELSEWHERE = {
    "bench.chaos.__main__": "tests/bench/chaos/test_play.py plays it as a program",
    "bench.digits": "`make bench ONLY=digits` alone: it trains an encoder for minutes",
    "kernels.sparse_i8.native": "tests/kernels/sparse_i8/test_sparse_i8.py forces each implementation",
    "bench.peers.onnx_peers": "ONNX Runtime is installed for `make bench` alone",
    "bench.peers.openvino_peers": "OpenVINO is installed for `make bench` alone",
    "serving.http.app": "tests/serving/http/test_api.py asks it, and test_openapi.py reads its operations",
}
"""Modules with logic that have no file of tests of their name, besides those that are STARTED, and what tests them."""

MIN_MIRRORED = 0.95
"""Smallest share of the modules with logic that have a file of tests of their own name."""

DECIDES = (
    ast.If,
    ast.IfExp,
    ast.BoolOp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.Try,
    ast.Match,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
"""What makes a function logic: it decides something, or repeats it."""

OF_THE_WHOLE = ("docker", "docs", "doors", "flow", "scripts", "simulation", "lifelong")
"""Folders of tests that are about no single module."""


def has_logic(path: Path) -> bool:
    nodes: list[ast.AST] = []
    for function in ast.walk(parsed(path)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes += ast.walk(function)
    return any(isinstance(node, DECIDES) for node in nodes)


def find_tests(path: Path) -> Path:
    """Returns the file of tests that is named after a module."""
    return ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.stem.strip('_')}.py"


def find_folder(module: str) -> str:
    return module.rpartition(".")[0]


@cache
def modules() -> Mapping[str, Path]:
    """The file of each module of ours."""
    dotted = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files(*ROOMS)}
    return {name.removesuffix(".__init__"): path for path, name in dotted.items()}


def started(path: Path) -> Iterator[str]:
    """Yields the modules that a file names in a string: it starts them as programs, or imports a plug-in by its path,
    `module:attribute`."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if name in modules():
                yield name


def reached_from(programs: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    waiting = [*programs]
    while waiting:
        module = waiting.pop()
        if module in modules() and module not in reached:
            reached.add(module)
            path = modules()[module]
            waiting += [find_folder(module), *imports(path), *started(path)]
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
            neighbours = {find_folder(module), module}
            waiting += [name for name in imports_of[module] if find_folder(name) in neighbours]
    packages = {find_folder(module) for module in imports_of}
    missing = imports_of.keys() - reached - packages - STARTED.keys()
    wrong = sorted(name for name in missing if not name.endswith("__main__") and not name.startswith(COMMANDS))
    assert not wrong, wrong


def test_modules_with_logic_have_a_file_of_tests_of_their_name() -> None:
    """A package whose own file has logic may have the tests in a file of the package's name."""
    with_logic = {name: path for name, path in modules().items() if path.stem != "__init__" and has_logic(path)}
    missing = {name for name, path in with_logic.items() if not find_tests(path).exists()}
    assert missing - STARTED.keys() == TESTED_ELSEWHERE.keys()
    assert 1 - len(missing) / len(with_logic) >= MIN_MIRRORED


def test_files_of_tests_are_named_after_modules() -> None:
    """`test_join_texts.py` is about `join.py`; in a folder whose package has the tests, their names are its own."""
    wrong: list[str] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folder = path.relative_to(ROOT / "tests").parent
        if not folder.parts or folder.parts[0] in OF_THE_WHOLE:
            continue
        names = [each.stem.strip("_") for each in (ROOT / folder).glob("*.py")] + [folder.name]
        if not any(f"{path.stem}_".startswith(f"test_{name}_") for name in names):
            wrong.append(path.relative_to(ROOT).as_posix())
    assert not wrong, wrong
