"""Tests the page over a network: its port, its token, and slow readers."""

import socket
import stat
import time
from contextlib import closing
from dataclasses import replace

import httpx2
import pytest

from services.local.children import free_port
from services.page.app import Board, Latest, PageAccess, make_page
from services.page.operations import PageOperations
from services.page.server import BOUNDS, TOKEN_FILE, read_token, served, settings_for
from services.settings import BadSettings, Settings, replaced
from serving.http.listener import Listener
from tests.services.page.conftest import TOKEN
from tests.waiting import eventually
from wire.store import Store
from wire.tasks import DEFAULT

pytestmark = pytest.mark.live


@pytest.mark.usefixtures("bus")  # the topics exist
def test_it_says_where_it_is_and_where_the_token_is(page_settings: Settings) -> None:
    said: list[str] = []
    with served(page_settings, say=said.append) as reader:
        assert reader is not None
        url = f"http://127.0.0.1:{page_settings.page.port}/"
        token_file = page_settings.state_dir / TOKEN_FILE
        assert said == [f"Page: {url} (the token to change something is in {token_file})"]
        eventually(lambda: httpx2.get(f"{url}api/state").content != b"")
        assert httpx2.get(f"{url}api/state").json()["title"] == "Lifelong"
        token = token_file.read_text().strip()
        assert httpx2.get(f"{url}api/actions", headers={"authorization": f"Bearer {token}"}).json() == {"result": []}
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        with served(page_settings, say=said.append):
            assert f"Page: port {page_settings.page.port} is taken" in said[1]
        assert read_token(page_settings) == token


@pytest.mark.usefixtures("bus")
def test_each_task_has_a_page_and_a_program_of_one_task_shows_only_that(page_settings: Settings) -> None:
    settings = replaced(page_settings, {"tasks.urgency.labels.kind": "class"})
    url = f"http://127.0.0.1:{settings.page.port}"
    with served(settings, say=print):
        eventually(lambda: httpx2.get(f"{url}/tasks/urgency/api/state").content != b"")
        for path in ("/", "/tasks/urgency/"):
            html = httpx2.get(f"{url}{path}").text
            assert 'href="/tasks/urgency/"' in html and f'href="{path}" aria-current="page"' in html
        assert httpx2.get(f"{url}/tasks/nothing/").status_code == 404
    with served(settings_for(settings, "urgency"), say=print):
        assert "aria-current" not in httpx2.get(f"{url}/").text


def test_without_a_port_there_is_no_page(page_settings: Settings) -> None:
    with served(replaced(page_settings, {"page.port": 0}), say=pytest.fail) as reader:
        assert reader is None


def test_an_address_of_another_machine_is_a_wrong_setting(page_settings: Settings) -> None:
    elsewhere = replaced(page_settings, {"page.host": "192.0.2.1"})
    with pytest.raises(BadSettings, match=r"page\.host: 192\.0\.2\.1 cannot be"), served(elsewhere, say=pytest.fail):
        pass


def test_a_token_is_that_of_the_settings_or_a_long_one(page_settings: Settings) -> None:
    assert read_token(replaced(page_settings, {"page.token": TOKEN})) == TOKEN
    (page_settings.state_dir / TOKEN_FILE).write_text("short")
    with pytest.raises(BadSettings, match="holds no token"):
        read_token(page_settings)


def test_a_reader_that_takes_nothing_is_cut_off_and_others_go_on(page_settings: Settings, store: Store) -> None:
    latest = Latest()
    with closing(PageOperations(page_settings, store)) as operations:
        app = make_page(PageAccess.of("127.0.0.1", TOKEN), {DEFAULT: Board(latest, operations)})
        bounds = replace(BOUNDS, body_timeout_s=1.0)
        ended: list[str] = []
        port = free_port()
        listener = Listener(app, host="127.0.0.1", port=port, drain_timeout_s=1.0, bounds=bounds, note=ended.append)
        with closing(socket.socket()) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            slow.connect(("127.0.0.1", port))
            slow.sendall(b"GET /api/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")

            def is_cut_off() -> bool:
                latest.publish(b"x" * (1 << 20))
                time.sleep(0.01)
                return ended == ["response_timeout"]

            eventually(is_cut_off)
            assert httpx2.get(f"http://127.0.0.1:{port}/api/state").status_code == 200
        latest.close()
        listener.close()
