"""The ways in of a replica are opened, checked and closed together, and those that are off are not imported."""

from dataclasses import replace

import pytest

from serving import endpoints
from serving.config import ServingConfig
from serving.endpoints import Core, OpenEndpoints, enabled_endpoints
from serving.errors import Unhealthy
from tests.doors.test_endpoint import ListInMemory, OpenList, SmallCore
from tests.serving.pipelines import make_pipeline

CONFIG = ServingConfig()
ENDPOINT = ListInMemory()


@pytest.fixture
def core() -> Core:
    return SmallCore(make_pipeline(lambda texts: [[101, 102] for _ in texts]))


def test_all_are_checked_and_closed(core: Core) -> None:
    first = ListInMemory()
    second = ListInMemory()
    opened = OpenEndpoints(core, CONFIG, [first, second])
    opened.check(timeout_s=1.0)
    opened.close()
    assert [each.is_closed for each in (*first.opened, *second.opened)] == [True, True]
    with pytest.raises(Unhealthy, match="closed"):
        opened.check(timeout_s=1.0)


def test_one_that_cannot_open_closes_those_before_it(core: Core) -> None:
    class Taken(ListInMemory):
        def open(self, core: Core, config: ServingConfig) -> OpenList:
            raise OSError("the port is taken")

    first = ListInMemory()
    with pytest.raises(OSError, match="taken"):
        OpenEndpoints(core, CONFIG, [first, Taken()])
    assert first.opened[0].is_closed


def test_what_is_off_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {
        "list": (__name__, lambda config: config.grpc_port == 7),
        "absent": ("no.such.module", lambda config: False),
    }
    monkeypatch.setattr(endpoints, "ENDPOINTS", ways)
    assert enabled_endpoints(CONFIG) == []
    assert [type(each) for each in enabled_endpoints(replace(CONFIG, grpc_port=7))] == [ListInMemory]
    assert enabled_endpoints(replace(CONFIG, grpc_port=7), but=["list"]) == []


def test_http_is_on_and_grpc_is_on_by_its_port() -> None:
    assert [type(each).__name__ for each in enabled_endpoints(CONFIG)] == ["HttpEndpoint"]
    both = enabled_endpoints(replace(CONFIG, grpc_port=8_001))
    assert [type(each).__name__ for each in both] == ["HttpEndpoint", "GrpcEndpoint"]
