"""Tests that programs can be built with each setting at either end of its range.

The loading of the settings refuses a contradiction between them. The program refuses a value that does not suit the
encoder.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from model.errors import WrongConfig
from services.settings import BadSettings, Settings, load, replaced
from services.settings_docs import schemas
from serving.replica import Replica
from serving.replica_config import ReplicaConfig
from tests.learner.small_learner import SMALL, small_learner
from wire.keyring import parse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SERVERS = {"bus.bootstrap_servers": "127.0.0.1:1", "store.url": "redis://127.0.0.1:1"}

INSIDE = {"minimum": 0, "exclusiveMinimum": 1e-3, "maximum": 0, "exclusiveMaximum": -1e-3}
"""Added to the bound with this keyword, gives the outermost allowed value."""

TOO_LARGE_HERE = {"serving.threads", "learner.threads", "learner.num_features"}
"""Settings whose ends would take all threads of the test process, or gigabytes of memory."""


def ends(section: str) -> Iterator[tuple[str, float]]:
    """Yields each number of the section with its lowest and its highest allowed value."""
    for name, schema in schemas(Settings).items():
        if name.startswith(section) and name not in TOO_LARGE_HERE:
            for bound in INSIDE.keys() & schema.keys():
                yield name, schema[bound] + INSIDE[bound]


def settings_with(name: str, value: float) -> Settings | None:
    """Returns the settings; None where the value contradicts another setting."""
    try:
        return load(file=Path(os.devnull), environ={}, flags={**SERVERS, name: value}).settings
    except BadSettings as error:
        assert "must" in str(error)
        return None


@pytest.mark.parametrize("section", ["bus.", "store.", "serving."])
def test_a_replica_can_be_built(section: str) -> None:
    num_built = 0
    for name, value in ends(section):
        if (settings := settings_with(name, value)) is not None:
            with suppress(WrongConfig):
                Replica(
                    ReplicaConfig(
                        encoder=settings.encoder,
                        serving=settings.serving,
                        bus=settings.bus,
                        store=settings.store,
                        ring=parse("a key for the tests"),
                    ),
                    "replica",
                )
                num_built += 1
    assert num_built >= 1


def test_a_learner_can_be_built() -> None:
    num_built = 0
    for name, value in ends("learner."):
        if settings_with(name, value) is not None:
            small = replaced(Settings(learner=SMALL), {name: value})
            with suppress(WrongConfig):
                small_learner(**{name: getattr(small.learner, name) for name in SMALL.__slots__})
                num_built += 1
    assert num_built > 30
