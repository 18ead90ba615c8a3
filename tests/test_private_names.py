"""The private names of libraries that we use are there, so that a release without them fails here and not in service.

A library in this list is held below its next release in `pyproject.toml`.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.versions import ROOT
from tests.sources import ROOMS, files

PRIVATE: dict[str, tuple[str, ...]] = {
    "kafka.consumer.fetcher:Fetcher": ("PartitionRecords", "_isolation_level"),
    "kafka.consumer.group:KafkaConsumer": ("_fetcher", "_manager", "_subscription"),
    "kafka.coordinator.base:BaseCoordinator": ("_do_join_and_sync_async", "_net"),
    "kafka.net.compat:KafkaNetClient": ("_manager",),
    "kafka.net.manager:KafkaConnectionManager": ("_backoff", "_build_transport", "_conns", "_connect"),
    "kafka.net.transport:KafkaTCPTransport": ("_sock_recv",),
    "kafka.producer.kafka:KafkaProducer": ("_closed", "_metadata", "_sender", "_transaction_manager"),
    "kafka.producer.sender:Sender": ("_maybe_abort_batches",),
    "kafka.producer.transaction_manager:TransactionManager": ("_current_state", "_lock"),
    "kafka.record.memory_records:MemoryRecords": ("_buffer",),
    "ray._private.node:Node": ("start_api_server", "start_monitor", "dead_processes", "kill_all_processes"),
    "ray._private.ray_constants:": ("PROCESS_TYPE_DASHBOARD_AGENT", "PROCESS_TYPE_RUNTIME_ENV_AGENT"),
    "ray._private.services:": ("_build_python_executable_command_memory_profileable",),
    "ray._private.worker:": ("_global_node",),
    "ray.serve._private.replica:": ("add_port_to_grpc_server",),
    "torch:": ("_int_mm",),
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": ("send_400_response", "timeout_keep_alive_task"),
}
"""Where a private name is, and the name: attributes of a class, or of a module."""


def folder_owner(where: str) -> object:
    module, _, name = where.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Ray Serve imports
@pytest.mark.parametrize("where", PRIVATE)
def test_private_names_are_there(where: str) -> None:
    owner = folder_owner(where)
    source = inspect.getsource(owner) if isinstance(owner, type) else ""
    missing = [name for name in PRIVATE[where] if not hasattr(owner, name) and f"self.{name}" not in source]
    assert not missing


def bounds() -> Iterator[tuple[str, str]]:
    """Yields each library that is required, with its range."""
    for line in re.findall(r'^    "([^"]+)",', (ROOT / "pyproject.toml").read_text(), re.MULTILINE):
        match = re.fullmatch(r"([\w-]+)(?:\[[^]]*\])?([<>=.,\d]*)", line)
        if match:
            yield match.group(1), match.group(2)


def test_libraries_with_private_names_are_held_below_their_next_release() -> None:
    ranges = dict(bounds())
    libraries = {where.split(":")[0].split(".")[0] for where in PRIVATE}
    names = {"kafka": "kafka-python"}
    loose = [name for name in libraries if not re.search(r"<\d+\.\d+", ranges[names.get(name, name)])]
    assert not loose


def test_the_list_has_every_private_module_that_is_imported() -> None:
    listed = {where.split(":")[0] for where in PRIVATE}
    used: set[str] = set()
    for source in files(*ROOMS):
        used.update(private_modules(source))
    assert used <= listed


def private_modules(source: Path) -> Iterator[str]:
    """Yields the modules of Ray with a private part in their name that a file names."""
    text = source.read_text()
    for package, name in re.findall(r"from (ray[.\w]*\._private[.\w]*) import (\w+)", text):
        yield f"{package}.{name}" if package.endswith("_private") else package
    yield from re.findall(r'"(ray[.\w]*\._private[.\w]*)"', text)
