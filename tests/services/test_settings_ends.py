"""Whatever a range allows can be run with: programs are built with each setting at either end of its range.

What contradicts another setting is refused when settings are read; what the encoder does not have, by the program.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from annotated_types import Gt, Lt

from model.errors import WrongConfig
from services.settings import Settings, known, load, replaced, values_of
from services.sources import BadSettings
from serving.config import ReplicaConfig
from serving.replica import Replica
from tests.learner.small import SMALL, small_learner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SERVERS = ["bus.bootstrap_servers=127.0.0.1:1", "store.url=redis://127.0.0.1:1"]

TOO_LARGE_HERE = {"serving.threads", "learner.threads", "learner.num_features"}
"""They take hold of the machine of the tests: all threads of this process, and gigabytes."""


def ends(section: str) -> Iterator[tuple[str, float]]:
    """Each number of the section with the lowest and the highest value that it may have."""
    for name, setting in known().items():
        if name.startswith(section) and name not in TOO_LARGE_HERE:
            for bound in setting.bounds:
                (end,) = asdict(bound).values()
                yield name, end + (1e-3 if isinstance(bound, Gt) else -1e-3 if isinstance(bound, Lt) else 0)


def settings_with(name: str, value: float) -> Settings | None:
    """None where it contradicts another setting."""
    try:
        return load(file=Path(os.devnull), environ={}, flags=[*SERVERS, f"{name}={value}"]).settings
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
                        signing_key=b"a key for the tests",
                    ),
                    "replica",
                )
                num_built += 1
    assert num_built >= 10


def test_a_learner_can_be_built() -> None:
    num_built = 0
    for name, value in ends("learner."):
        if settings_with(name, value) is not None:
            small = replaced(Settings(learner=SMALL), {name: type(values_of(Settings())[name])(value)})
            with suppress(WrongConfig):
                small_learner(**{name: getattr(small.learner, name) for name in SMALL.__slots__})
                num_built += 1
    assert num_built > 50
