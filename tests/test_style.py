"""Rules of the code that ruff does not know: which exceptions are caught, and what the loop of a thread says."""

import ast
import re
from functools import cache
from pathlib import Path

from services.versions import ROOT
from tests.sources import ROOMS, files, parsed

ALL = (*ROOMS, "tests")


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


@cache
def named_tuples_of_classes() -> dict[str, set[str]]:
    """The names in each tuple that has a name of its own, such as `ENCODING_ERRORS`."""
    found: dict[str, set[str]] = {}
    for path in files(*ROOMS):
        for node in parsed(path).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                found[ast.unparse(target)] = names_in(node.value)
    return found


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches every exception, or most that a mistake of ours raises: by name, or by a tuple's."""
    names = names_in(handler.type) if handler.type else {"BaseException"}
    for name in tuple(names):
        names |= named_tuples_of_classes().get(name, set())
    return bool(names & {"Exception", "BaseException"}) or len(names & MISTAKES) > MAX_MISTAKES


MISTAKES = {
    "AssertionError",
    "AttributeError",
    "IndexError",
    "KeyError",
    "LookupError",
    "NameError",
    "RuntimeError",
    "TypeError",
    "ValueError",
}
MAX_MISTAKES = 3
"""How many of these a handler may catch, where it reads what others have written."""

BROAD_EXCEPTS = {
    "learner/state/shared.py": "the libraries behind fsspec have no common class of errors; it is mapped at this door",
    "learner/rounds/avalanche.py": "a strategy of somebody else may raise anything, and the learner goes on",
    "serving/engine.py": "whatever a forward raises is the outcome of its events, and the next batch goes on",
    "serving/observers.py": "what watches a batch must not end the loop that answers it: it is logged",
    "serving/cluster.py": "the thread that waits raises what another thread has caught",
    "wire/plugins.py": "a plug-in of somebody else, or its module, may raise anything: the error names it",
    "wire/kinds.py": "a kind of somebody else may raise anything, about one label",
    "wire/inputs.py": "an input of somebody else may raise anything, about one event",
    "model/inputs.py": "the tensors of somebody else may raise anything: the error names them, or the event",
    "serving/pipeline.py": "an enricher of somebody else may raise anything: events stay as they are",
    "model/encoders.py": "a family of encoders of somebody else may raise anything: the error names the encoder",
    "lifelong/plugins/heads/own.py": "a head of somebody else may raise anything, and its version is refused",
    "tests/simulation/scheduler.py": "whatever a simulated task raises is what the simulation has found",
    "tests/simulation/threads.py": "a pool's task may raise anything, which its future raises",
}
"""The files that catch every exception, and why."""


def test_exceptions_are_caught_by_name() -> None:
    found: set[str] = set()
    for path in files(*ALL):
        if any(isinstance(node, ast.ExceptHandler) and is_broad(node) for node in ast.walk(parsed(path))):
            found.add(path.relative_to(ROOT).as_posix())
    assert found == BROAD_EXCEPTS.keys()


def test_every_thread_says_what_it_waits_for() -> None:
    """Its loop says what it consumes and produces, what it waits for, and what unblocks it."""
    silent: list[str] = []
    for path in files(*ROOMS):
        methods = {node.name: node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)}
        for name in re.findall(r"BackgroundThread\(self\.(\w+)", path.read_text()):
            docstring = ast.get_docstring(methods[name]) or ""
            if "waits for:" not in docstring or "unblocked by:" not in docstring:
                silent.append(f"{where(path, methods[name].lineno)}: {name}")
    assert not silent, "\n".join(silent)
