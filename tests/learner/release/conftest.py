"""Fixtures: a learner and its publisher, with a separate store for each test."""

from pathlib import Path

import pytest

from tests.learner.publish_rig import PublishRig
from wire.store import Store


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> PublishRig:
    return PublishRig(store, tmp_path)
