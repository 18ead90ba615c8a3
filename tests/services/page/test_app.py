"""Tests what the endpoints of the page require, and what they refuse."""

import pytest

from services.page.app import HEADERS, STATIC, render_page
from tests.services.page.conftest import ServedPage
from wire.records import RolloutPlan

pytestmark = pytest.mark.live


def read_plan(page: ServedPage) -> RolloutPlan:
    plan = page.store.plans.read()
    assert plan is not None
    return plan


def test_the_page_and_its_files_are_here_and_nothing_else_is_allowed(served_page: ServedPage) -> None:
    client = served_page.client
    for path in ("/", *(f"/static/{name}" for name in STATIC)):
        reply = client.get(path)
        assert reply.status_code == 200 and reply.content
        assert {name: reply.headers[name] for name in HEADERS} == HEADERS
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy and policy.startswith("default-src 'none'")
    for path in ("/static/page.html", "/static/..%2fapp.py", "/nowhere", "/api/admin/erase"):
        assert client.get(path).status_code in (404, 405)
    assert b"<script>" not in render_page(is_local=True) and b"style=" not in render_page(is_local=True)


def test_the_state_is_what_was_published(served_page: ServedPage) -> None:
    served_page.latest.publish(b'{"title":"a"}')
    assert served_page.client.get("/api/state").json() == {"title": "a"}
    assert served_page.client.get("/api/state", headers={"host": "evil.example"}).status_code == 421


def test_the_stream_has_each_state_as_an_event(served_page: ServedPage) -> None:
    served_page.latest.publish(b"{}")
    with served_page.client.stream("GET", "/api/stream") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        served_page.latest.close()
        assert b"".join(reply.iter_bytes()) in (b"data: {}\n\n", b"")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"text": "hi"}', "text/plain", 415),
        (b"{", "application/json", 400),
        (b'{"text": 7}', "application/json", 400),
        (b'{"text": "hi", "more": 1}', "application/json", 400),
        (b'{"text": "hi"}', "application/json; charset=utf-8", 502),  # no replica listens
    ],
)
def test_a_question_is_json_of_its_kind(served_page: ServedPage, content: bytes, kind: str, status: int) -> None:
    reply = served_page.client.post("/api/ask", content=content, headers={"content-type": kind})
    assert (reply.status_code, bool(reply.json()["error"])) == (status, True)


def test_a_promote_needs_the_token_and_is_recorded(served_page: ServedPage) -> None:
    served_page.begin(versions=2)
    for token in ("", "a wrong token"):
        assert served_page.admin("promote", {"version": 2}, token=token).status_code == 401
    assert read_plan(served_page).stable == 1
    done = served_page.admin("promote", {"version": 2})
    assert (done.status_code, "stable version 2 for 100%" in done.json()["result"]) == (200, True)
    assert read_plan(served_page).stable == 2
    assert "page, testclient" in read_plan(served_page).reason
    again = served_page.admin("promote", {"version": 2})
    assert (again.status_code, again.json()["error"]) == (409, "version 2 is the stable one already")
    recorded = [(each["action"], each["outcome"]) for each in served_page.browse("actions")[::-1]]
    assert recorded == [("promote", each) for each in ("refused", "refused", "asked", "done", "asked", "failed")]


def test_the_rollout_is_paused_and_goes_on_and_back(served_page: ServedPage) -> None:
    served_page.begin(versions=2)
    assert served_page.admin("promote", {"version": 2}).status_code == 200
    for action, is_paused, stable in (("pause", True, 2), ("resume", False, 2), ("rollback", False, 1)):
        assert served_page.admin(action, {}).status_code == 200
        assert (read_plan(served_page).paused, read_plan(served_page).stable) == (is_paused, stable)
    assert served_page.admin("promote", {"version": 99}).status_code == 409
