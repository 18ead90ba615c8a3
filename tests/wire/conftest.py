"""A schema registry that runs during one test."""

from collections.abc import Iterator

import pytest

from tests.wire.schema_registry import Registry, serving


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as served:
        yield served
