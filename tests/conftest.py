"""Loads the fixtures: real servers, one file per system. Property tests have no deadline."""

import sys
from collections.abc import Iterator

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

pytest_plugins = [
    "tests.alone",
    "tests.again",
    "tests.required",
    "tests.brokers",
    "tests.lost_tails",
    "tests.secure_brokers",
    "tests.stores",
    "tests.proxies",
]

LONGEST = (
    "test_simulation",
    "test_run_register",
    "test_stack",
    "test_process_outages",
    "test_containers",
    "test_process_offers",
    "test_rebuild",
    "test_labels",
)
"""The files that take most of the time, the longest first."""


@pytest.fixture(autouse=True, scope="module")
def no_stems_of_other_files() -> Iterator[None]:
    """Forgets the stems of encoders behind each file of tests: a process without stems reads events of 1 MiB."""
    yield
    family = sys.modules.get("model.media.family")
    if family is not None:
        family._in_use.clear()


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Gives torch one thread again: tests run side by side, and sums of floats depend on the number of threads."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, so that no process has one left when the others are done."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
