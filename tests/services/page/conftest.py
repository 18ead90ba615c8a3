"""Fixtures: a page with the store and the broker of the test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rollout.plans import begin
from services.local.children import free_port
from services.page.app import Board, Latest, PageAccess, make_page
from services.page.operations import PageOperations
from services.settings import Settings, load
from tests.stores import SIGNING_KEY, publish, take_lease
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.store import Store
from wire.tasks import DEFAULT

TOKEN = "a token for the tests"


@dataclass
class ServedPage:
    """The application, called without a network; tests publish states through `latest`."""

    client: Any  # the test client has an httpx2 of its own
    latest: Latest
    store: Store
    bus: Bus

    def admin(self, action: str, body: object, *, token: str = TOKEN) -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return self.client.post(f"/api/admin/{action}", json=body, headers=headers)

    def browse(self, name: str) -> Any:
        reply = self.client.get(f"/api/{name}", headers={"authorization": f"Bearer {TOKEN}"})
        assert reply.status_code == 200, reply.text
        return reply.json()["result"]

    def begin(self, versions: int) -> None:
        """Publishes versions; the first becomes the stable one."""
        publish(self.store, take_lease(self.store), through=versions)
        self.store.plans.write(begin(1, salt="s", now_ms=1).plan)


@pytest.fixture
def page_settings(store_config: StoreConfig, bus_config: BusConfig, tmp_path: Path) -> Settings:
    environ = {
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_INTERNAL": '{"store.report_ttl_ms": 3600000}',
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_PAGE__PORT": str(free_port()),
        "LIFELONG_SERVING__HTTP_PORT": str(free_port()),
    }
    return load(file=None, environ=environ).settings


@pytest.fixture
def served_page(page_settings: Settings, store: Store, bus: Bus) -> Iterator[ServedPage]:
    operations = PageOperations(page_settings, store)
    latest = Latest()
    app = make_page(PageAccess.of("127.0.0.1", TOKEN), {DEFAULT: Board(latest, operations)})
    with TestClient(app, base_url="http://127.0.0.1:8090", raise_server_exceptions=False) as client:
        yield ServedPage(client, latest, store, bus)
    operations.close()
