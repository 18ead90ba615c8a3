"""The programs of a service: by name the command of each, and the task that it is of.

    serve | learner, rollout | learner-urgency, rollout-urgency, for each task besides the default one

The commands are those that a user would type.
"""

from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, closing
from typing import NamedTuple

from services.keys import ring_of
from services.settings import Settings
from wire.bus import Bus
from wire.files import FolderOwner
from wire.store import Store
from wire.tasks import DEFAULT


class Command(NamedTuple):
    """What is typed behind `lifelong`, and the task that it is of."""

    words: tuple[str, ...]
    task: str = DEFAULT


def commands_of(settings: Settings) -> dict[str, Command]:
    """Returns the command of each program by its name, the slowest to start first.

    >>> list(commands_of(Settings(tasks={"urgency": {}})))
    ['serve', 'learner', 'rollout', 'learner-urgency', 'rollout-urgency']
    """
    commands = {"serve": Command(("serve",))}
    for task in settings.readers.all:
        commands[program_name("learner", task)] = Command(("learn",), task)
        commands[program_name("rollout", task)] = Command(("rollout", "run"), task)
    return commands


def program_name(program: str, task: str) -> str:
    return f"{program}-{task}" if task else program


def owner_of(settings: Settings) -> FolderOwner:
    """Returns whose state is in the folders of the settings."""
    return FolderOwner(bus_prefix=settings.bus.prefix, store_prefix=settings.store.prefix, task=settings.task)


def open_store(settings: Settings) -> Store:
    """Opens the store of the task of settings that have an address and keys."""
    return Store(settings.store, ring_of(settings), task=settings.task)


def open_bus(settings: Settings, client_id: str) -> Bus:
    """Opens the bus, whose followers give what is of the task of the settings."""
    return Bus(settings.bus, client_id=client_id, tasks=settings.readers)


def open_stores(settings: Settings, stack: ExitStack) -> dict[str, Store]:
    """Opens the store of each task; `stack` closes them."""
    stores = {task: Store(settings.store, ring_of(settings), task=task) for task in settings.readers.all}
    for store in stores.values():
        stack.enter_context(closing(store))
    return stores


def unready_programs(stores: Mapping[str, Store], *, replicas: int, earlier: Set[str]) -> Iterator[str]:
    """Yields the program that each task still waits for; nothing once an event would be answered by all of them.

    `earlier` holds the replicas of an earlier stack, whose reports have not expired yet.
    """
    for task, store in stores.items():
        if store.plans.read() is None:
            yield program_name("rollout" if store.versions.current() else "learner", task)
        else:
            ready = [each for each in store.reports.replicas() if each.versions and each.replica not in earlier]
            if len(ready) < replicas:
                yield "serve"
