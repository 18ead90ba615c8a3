"""The programs of a service, and the stores that they use.

    serve | learner, rollout | learner-urgency, rollout-urgency, ..., for each task other than the default task

A program is a command that a user could also type.
"""

from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, closing
from typing import NamedTuple

from services.keys import key_ring
from services.settings import Settings
from wire.bus import Bus
from wire.files import FolderOwner
from wire.store import Store
from wire.tasks import DEFAULT


class Command(NamedTuple):
    """The arguments of `lifelong`, and the task of the program."""

    words: tuple[str, ...]
    task: str = DEFAULT


def program_commands(settings: Settings, *, pretrains: bool = False) -> dict[str, Command]:
    """Returns the command of each program by its name, in the order of the start: the slowest program first.

    `pretrains`: whether one more program pretrains the encoder when the texts of the events have moved.

    >>> list(program_commands(Settings(tasks={"urgency": {}})))
    ['serve', 'learner', 'rollout', 'learner-urgency', 'rollout-urgency']
    """
    commands = {"serve": Command(("serve",))}
    for task in settings.readers.all:
        commands[program_name("learner", task)] = Command(("learn",), task)
        commands[program_name("rollout", task)] = Command(("rollout", "run"), task)
    if pretrains:
        commands["domain"] = Command(("pretrain", "--on-drift"))
    return commands


def program_name(program: str, task: str) -> str:
    """Returns the name of a task's program: `learner`, or `learner-urgency`."""
    return f"{program}-{task}" if task else program


def folder_owner(settings: Settings) -> FolderOwner:
    """Returns the service and task whose state is in the folders of the settings."""
    return FolderOwner(bus_prefix=settings.bus.prefix, store_prefix=settings.store.prefix, task=settings.task)


def open_store(settings: Settings) -> Store:
    """Opens the store of the settings' task. The settings must have the store's address and keys."""
    return Store(settings.store, key_ring(settings), task=settings.task)


def open_bus(settings: Settings, client_id: str) -> Bus:
    """Opens the bus. Its followers return only records of the settings' task."""
    return Bus(settings.bus, client_id=client_id, tasks=settings.readers)


def open_stores(settings: Settings, stack: ExitStack) -> dict[str, Store]:
    """Opens the store of each task; `stack` closes them."""
    stores = {task: Store(settings.store, key_ring(settings), task=task) for task in settings.readers.all}
    for store in stores.values():
        stack.enter_context(closing(store))
    return stores


def unready_programs(stores: Mapping[str, Store], *, replicas: int, earlier: Set[str]) -> Iterator[str]:
    """Yields for each task the program that it still waits for; nothing once every task can answer an event.

    `earlier` are the replicas of an earlier stack, whose reports have not expired yet. They do not count.
    """
    for task, store in stores.items():
        if store.plans.read() is None:
            yield program_name("rollout" if store.versions.current() else "learner", task)
        else:
            ready = [report for report in store.reports.replicas() if report.versions and report.replica not in earlier]
            if len(ready) < replicas:
                yield "serve"
