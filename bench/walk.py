"""Counts our files and functions that run for an event, and for 60 labels and the version that learns them.

    one process with a real Redis: event --> queue, engine --> answer      labels --> learner --> version --> swap
    lifelong up, whose processes write down their modules: learner, controller, replica --> our modules that are loaded

A function counts once, however often it runs. Comprehensions and lambdas belong to the function around them. Periodic
work of threads counts for labels, but not for an event, because only functions that run for each of five events count.
Records are encoded as messages, but there is no broker.
"""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

from bench.harness.case import Run
from bench.harness.process import stopping
from bench.harness.service import changed_environment, running_service
from evals.results.row import Row
from services.local.redis import start_redis
from services.versions import ROOT
from wire.config import StoreConfig
from wire.store import Store

ROOMS = ("lifelong", "wire", "kernels", "model", "serving", "learner", "rollout", "services")
"""The packages that are shipped and take part in answering and learning."""

FOLDER = "WALK_FOLDER"
NOTE_MODULES = f"""
import os, sys, threading, time

def note():
    path = os.path.join(os.environ["{FOLDER}"], f"{{os.getpid()}}.txt")
    while True:
        time.sleep(1)
        names = [name for name in list(sys.modules) if name.split(".")[0] in {ROOMS!r}]
        with open(path + ".new", "w") as file:
            file.write(" ".join(names))
        os.replace(path + ".new", path)

threading.Thread(target=note, name="walk", daemon=True).start()
"""
"""The code that each Python process of the service runs at its start. Each second it writes the names of our loaded
modules to a file."""

MAIN_MODULES = {"learner": "learner.process", "controller": "rollout.controller", "replica": "serving.replica"}
"""Process -> a module that only this process loads."""

MOST_LOADED = {"learner": 160, "replica": 120, "controller": 80}
"""Process -> the goal for the number of our modules that it loads."""


@dataclass(slots=True)
class Walk:
    """Records the code objects of all functions that ran while it was open."""

    codes: set[CodeType] = field(default_factory=set)
    is_open: bool = False

    def note(self, frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and self.is_open:
            self.codes.add(frame.f_code)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Records the functions that run until exit, in this thread and in threads that started after `watching`."""
        self.codes.clear()
        self.is_open = True
        yield
        self.is_open = False

    def functions(self, room: str = "") -> set[tuple[str, str]]:
        """Returns the file and the name of each of our functions that ran, of one room if `room` is given."""
        functions: set[tuple[str, str]] = set()
        for code in self.codes:
            path = Path(code.co_filename)
            if not path.is_relative_to(ROOT) or code.co_name.startswith("<"):
                continue
            file = path.relative_to(ROOT)
            if file.parts[0] in ROOMS and room in ("", file.parts[0]):
                functions.add((file.as_posix(), code.co_qualname))
        return functions

    def files(self, room: str = "") -> set[str]:
        return {file for file, _ in self.functions(room)}


@contextmanager
def watching(walk: Walk) -> Iterator[None]:
    """Reports the calls of this thread to `walk` until exit, and the calls of threads that start meanwhile."""
    threading.setprofile(walk.note)
    sys.setprofile(walk.note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def measure(run: Run) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="walk-") as name:
        yield from in_one_process(Path(name))
    for program, modules in loaded_modules().items():
        note = ", ".join(f"{num} of {room}" for room, num in by_room(modules).items())
        yield _row(f"modules.{program}", len(modules), "modules of ours", MOST_LOADED[program], note)


def in_one_process(folder: Path) -> Iterator[Row]:
    """Yields the rows of an event, and of 60 labels with the version that learns them."""
    # These modules import pytest, which no other benchmark needs.
    from tests.flow.test_in_memory import NUM_EVENTS, Service, events
    from tests.learner.streams import label_of
    from tests.stores import KEYS

    walk = Walk()
    with (
        stopping(start_redis(folder / "redis")) as redis,
        closing(Store(StoreConfig(url=redis.url, poll_interval_ms=50), KEYS)) as store,
        watching(walk),
    ):
        service = Service(store, folder / "learner")
        service.start()
        labels = [label_of(number) for number in range(NUM_EVENTS)]
        service.publish()
        codes_by_event: list[set[CodeType]] = []
        for event in events("walk")[:5]:
            with walk.open():
                service.answer([event])
            codes_by_event.append({*walk.codes})
        # Functions that run for a single event belong to the end of the swap, or to the periodic work of a thread.
        walk.codes = set.intersection(*codes_by_event)
        yield from _rows("event", walk, files=30, functions=110, room="serving", room_files=10)
        answers = service.answer(events("first"))
        with walk.open():
            service.label(answers, labels)
            service.publish()
        yield from _rows("labels", walk, files=70, functions=380, room="learner", room_files=22)
        service.close()


def _rows(name: str, walk: Walk, *, files: int, functions: int, room: str, room_files: int) -> Iterator[Row]:
    note = ", ".join(f"{num} of {each}" for each, num in by_room(sorted(walk.files())).items())
    yield _row(f"{name}.files", len(walk.files()), "files", files, note)
    yield _row(f"{name}.functions", len(walk.functions()), "functions", functions)
    yield _row(f"{name}.{room}_files", len(walk.files(room)), f"files of {room}", room_files)


def _row(name: str, value: int, unit: str, most: int, note: str = "") -> Row:
    return Row.of(f"walk.{name}", value, unit, goal=f"<= {most}", note=note)


def by_room(names: Sequence[str]) -> dict[str, int]:
    """Counts files or modules by their room.

    >>> by_room(["wire/errors.py", "wire.store"])
    {'wire': 2}
    """
    rooms = [re.split(r"[/.]", name)[0] for name in names]
    return {room: rooms.count(room) for room in ROOMS if room in rooms}


def loaded_modules() -> Mapping[str, list[str]]:
    """Returns a dictionary: process -> our modules that it has loaded after the service has learnt."""
    with tempfile.TemporaryDirectory(prefix="walk-") as name:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(NOTE_MODULES)
        path = os.pathsep.join(filter(None, [name, str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with changed_environment(PYTHONPATH=path, **{FOLDER: name}), running_service():
            loaded = [sorted(file.read_text().split()) for file in folder.glob("*.txt")]
    return {program: next(names for names in loaded if module in names) for program, module in MAIN_MODULES.items()}
