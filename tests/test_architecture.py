"""The edges between the rooms, and the doors to the outside: what may import what."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter

from lifelong.plugins import BUILT_IN
from services.versions import ROOT
from tests.sources import ROOMS, files, find_room, imports, parsed

EDGES: dict[str, tuple[str, ...]] = {  # room -> what it may import of ours
    "kernels": (),
    "wire": (),
    # all but wire and media when their protocols are first used
    "lifelong": ("wire", "model", "learner", "lifelong/media", "lifelong/plugins"),
    "lifelong/compress": ("kernels", "wire", "model", "learner"),
    "lifelong/media": (),
    # plug-ins of the core, which imports none of them
    "lifelong/plugins": ("wire", "model", "lifelong/media"),
    "model": ("kernels", "wire.plugins"),  # the registry of its plug-ins
    "serving": ("kernels", "wire", "model"),
    "learner": ("kernels", "wire", "model"),
    "rollout": ("wire",),
    # of the rollout, the rule by which a learner that it runs decides trials
    "evals": ("wire", "model", "learner", "rollout", "lifelong/media"),
    "services": (
        "kernels",
        "wire",
        "model",
        "serving",
        "learner",
        "rollout",
        "evals",
        "lifelong/compress",
        "lifelong/media",
    ),
    "bench": tuple(room for room in ROOMS if room != "bench"),
}

DOORS: dict[str, tuple[str, ...]] = {  # library -> the only files and folders that may import it
    "ray": ("serving/app.py", "serving/cluster.py"),
    "kafka": ("wire/bus/",),
    "redis": ("wire/store/",),
    "grpc": ("serving/grpc/",),
    "avalanche": ("learner/rounds/avalanche.py",),
    "prometheus_client": ("wire/metrics.py",),
    "fastavro": ("wire/registry.py",),
    "opentelemetry": ("wire/traces.py",),
    "fsspec": ("learner/state/shared.py",),
    "river": ("evals/continual/", "learner/drift.py"),
}

LIGHT = ("wire", "lifelong")  # rooms that must load without these
HEAVY = ("torch", "ray")

FORBIDDEN = ("pickle", "dill", "cloudpickle", "shelve", "marshal")


def sources(room: str) -> Iterator[tuple[str, str]]:
    for path in files(room):
        for name in imports(path):
            yield path.relative_to(ROOT).as_posix(), name


def is_module(allowed: str) -> bool:
    """Whether a room may import one module of another room, and not that room."""
    return "." in allowed


def test_rooms_import_only_what_they_may() -> None:
    assert EDGES.keys() == {*ROOMS}
    wrong = [
        f"{here} imports {name}"
        for room, allowed in EDGES.items()
        for here, name in sources(room)
        if find_room(name) not in ("", room, *allowed) and not name.startswith(tuple(filter(is_module, allowed)))
    ]
    assert not wrong, "\n".join(wrong)


def test_outside_systems_have_one_door_each() -> None:
    """The benchmarks have none: they are clients and peers of these systems, and damage them."""
    wrong = [
        f"{here} imports {name}; only {', '.join(DOORS[top])} may"
        for room in EDGES.keys() - {"bench"}
        for here, name in sources(room)
        if (top := name.split(".")[0]) in DOORS and not here.startswith(DOORS[top])
    ]
    assert not wrong, "\n".join(wrong)


def test_what_clients_import_is_light() -> None:
    wrong = [f"{here} imports {name}" for room in LIGHT for here, name in sources(room) if name.split(".")[0] in HEAVY]
    assert not wrong, "\n".join(wrong)


CORE = ("serving", "learner", "rollout", "model", "kernels", "wire")
"""The rooms that import no plug-in."""


def test_the_symbols_of_a_plugin_are_light() -> None:
    """Wire and rollout load them, and clients; the tensors are files of their own, and so are encoders and heads."""
    wrong = [
        f"{here} imports {name}"
        for here, name in sources("lifelong/plugins")
        if here.startswith(("lifelong/plugins/kinds/", "lifelong/plugins/__init__"))
        and name.split(".")[0] in (*HEAVY, "model")
        and not here.endswith(("_tensors.py", "temperature.py"))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_of_the_core_asks_for_a_plugin_by_its_name() -> None:
    """A plug-in is looked up by the name that settings or records have; the core compares that with none."""
    names = {name for plugins in BUILT_IN.values() for name in plugins}
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for room in CORE
        for path in files(room)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Compare | ast.Match)
        and any(isinstance(each, ast.Constant) and each.value in names for each in ast.walk(node))
    ]
    paths = [
        f"{path.relative_to(ROOT)} names {node.value}"
        for room in CORE
        for path in files(room)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("lifelong.plugins.")
    ]
    assert not wrong + paths, "\n".join(wrong + paths)


def test_nothing_is_unpickled() -> None:
    wrong = [
        f"{here} imports {name}" for room in EDGES for here, name in sources(room) if name.split(".")[0] in FORBIDDEN
    ]
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno} calls torch.load"
        for room in EDGES
        for path in files(room)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load"
    ]
    assert not wrong + calls, "\n".join(wrong + calls)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports within functions, and those for types alone, count, too. A package may import its own modules."""
    dotted = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files(*ROOMS)}
    modules = {name.removesuffix(".__init__"): path for path, name in dotted.items()}
    graph = {name: {*imports(path)} & modules.keys() - {name} for name, path in modules.items()}
    for name, path in modules.items():
        if path.stem == "__init__":
            graph[name] = {each for each in graph[name] if not each.startswith(f"{name}.")}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules
