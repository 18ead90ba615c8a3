"""The house style, as far as a program can tell: sentences, density, sizes, names.

every source file --ast--> notes (docstrings, and strings below a field), statements, classes --> what breaks a rule
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from services.versions import ROOT
from tests.sources import ROOMS, files, parsed

ALL = (*ROOMS, "tests")

MAX_FILE_LINES = 257
MAX_FUNCTION_LINES = 51
MAX_ARGUMENTS = 7
MAX_PACKED = 5.0
"""Assignments of several values to several names, in 1,000 lines of code."""
MAX_NESTED = 0.5
"""Comprehensions in comprehensions, or with two loops, in 1,000 lines of code."""

PREPOSITION = re.compile(
    r"(Of|In|For|By|With|Without|Under|As|To|At|Between|From|On|Behind|Beside|Below|Above|Among|Against) "
)
SENTENCE_END = re.compile(r"[.!?:)`|]$")

PRIVATE_WORDS = {
    "asking": "bridge",
    "dice": "rng",
    "silence": "idle_timer",
    "standing": "parent",
    "thinned": "token_dropout",
    "thinning": "token_dropout",
}
"""Names (of files, functions, classes, fields, variables, settings, counts) that the field has another word for."""

PRIVATE_PARTS = {
    "guess": "pseudo_label",
    "guessed": "pseudo_labelled",
    "guesses": "pseudo_labels",
    "guessing": "pseudo_labelling",
    "held_back": "holdout",
}
"""Words that may not be a part of such a name, either."""

STORED_NAMES = {
    "learner/state/snapshot.py": "the names in checkpoints of older programs",
    "services/settings_docs.py": "the settings that were renamed, each with its new name",
    "tests/learner/state/test_snapshot.py": "a checkpoint of an older program",
    "tests/services/test_settings_docs.py": "settings that were renamed",
    "tests/test_style.py": "this list",
    "wire/records/reports.py": "the name of a field in published reports",
    "wire/records/weights.py": "the name of a value in published manifests",
}
"""Files whose strings may hold a private word, and why: what was stored once keeps its name."""

NAME_LIKE = re.compile(r"[A-Za-z_][\w.]*")

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def notes(path: Path) -> Iterator[ast.Constant]:
    """The docstrings of modules, classes and functions, and the strings below fields."""
    for node in ast.walk(parsed(path)):
        body = getattr(node, "body", None)
        for item in body if isinstance(body, list) else ():
            if (
                isinstance(item, ast.Expr)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
            ):
                yield item.value


def text_of(note: ast.Constant) -> str:
    assert isinstance(note.value, str)
    return note.value.strip()


def num_code_lines(path: Path) -> int:
    """Lines that are neither blank nor a comment nor part of a note."""
    in_notes: set[int] = set()
    for note in notes(path):
        assert note.end_lineno is not None
        in_notes.update(range(note.lineno, note.end_lineno + 1))
    lines = enumerate(path.read_text().splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and at not in in_notes for at, line in lines)


def is_packed(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def is_nested(node: ast.AST) -> bool:
    if not isinstance(node, COMPREHENSIONS):
        return False
    inner = [each for each in ast.walk(node) if each is not node and isinstance(each, COMPREHENSIONS)]
    return len(node.generators) > 1 or bool(inner)


def test_notes_are_sentences() -> None:
    wrong: list[str] = []
    for path in files(*ALL):
        for note in notes(path):
            first = text_of(note).split("\n\n")[0]
            if PREPOSITION.match(first):
                wrong.append(f"{where(path, note.lineno)}: begins with a preposition: {first[:60]}")
            if not SENTENCE_END.search(first):
                wrong.append(f"{where(path, note.lineno)}: has no full stop: {first[-60:]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ALL)
def test_statements_are_unpacked(room: str) -> None:
    per_line = 1_000 / sum(num_code_lines(path) for path in files(room))
    nodes = [node for path in files(room) for node in ast.walk(parsed(path))]
    assert per_line * sum(map(is_packed, nodes)) <= MAX_PACKED
    assert per_line * sum(map(is_nested, nodes)) <= MAX_NESTED


def test_files_and_functions_are_short() -> None:
    wrong: list[str] = []
    for path in files(*ALL):
        num_lines = path.read_text().count("\n")
        if num_lines > MAX_FILE_LINES:
            wrong.append(f"{where(path, 1)}: {num_lines} lines")
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            assert node.end_lineno is not None
            if node.end_lineno - node.lineno >= MAX_FUNCTION_LINES:
                wrong.append(f"{where(path, node.lineno)}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
            names = [each.arg for each in (*node.args.args, *node.args.kwonlyargs) if each.arg not in ("self", "cls")]
            if len(names) > MAX_ARGUMENTS:
                wrong.append(f"{where(path, node.lineno)}: {node.name} has {len(names)} arguments")
    assert not wrong, "\n".join(wrong)


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
    "learner/slow/avalanche/trainer.py": "a strategy of somebody else may raise anything, and the learner goes on",
    "serving/answering.py": "whatever a forward raises is the outcome of its events, and the next batch goes on",
    "serving/serve_watch.py": "the thread that waits raises what another thread has caught",
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


def test_no_class_name_twice() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in files(*ROOMS):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(where(path, node.lineno))
    twice = {name: places for name, places in homes.items() if len(places) > 1}
    assert not twice, twice


def names_of(node: ast.AST, *, are_strings_names: bool) -> Iterator[str]:
    """Yields the identifiers of a node, and its string where that may be the name of a count, a field or a setting."""
    for attribute in ("id", "attr", "name", "arg", "value" if are_strings_names else "arg"):
        name = getattr(node, attribute, None)
        if isinstance(name, str) and NAME_LIKE.fullmatch(name):
            yield name


def field_s_words(name: str) -> list[str]:
    """Returns what the field says for the private words in a name, which is in snake case, and may have dots."""
    words = name.lower().replace(".", "_").strip("_")
    parts = [better for word, better in PRIVATE_PARTS.items() if f"_{word}_" in f"_{words}_"]
    return [PRIVATE_WORDS[words], *parts] if words in PRIVATE_WORDS else parts


def test_the_field_s_words_are_used() -> None:
    wrong: list[str] = []
    for path in files(*ALL):
        are_strings_names = path.relative_to(ROOT).as_posix() not in STORED_NAMES
        found = [(1, path.stem)]
        for node in ast.walk(parsed(path)):
            line = getattr(node, "lineno", 1)
            found += [(line, name) for name in names_of(node, are_strings_names=are_strings_names)]
        wrong += [
            f"{where(path, line)}: {name}: the field says {field_s_words(name)}"
            for line, name in found
            if field_s_words(name)
        ]
    assert not wrong, "\n".join(wrong)


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
