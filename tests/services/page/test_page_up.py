"""Tests the page of `lifelong up` with all processes: the model learns a label that is given on the page."""

from pathlib import Path

import pytest

from services.local.children import free_port
from services.page.server import TOKEN_FILE
from tests.services.page.browser import Browser, browsing
from tests.services.stack_owner import UP, owning
from tests.waiting import eventually

pytestmark = [pytest.mark.live, pytest.mark.slow]

TEXT = "where is my parcel?"


def asked(browser: Browser) -> str:
    """Asks the model, and returns the answer as the page shows it."""
    browser.value("document.getElementById('answer').textContent = ''")
    browser.value(f"document.getElementById('text').value = {TEXT!r}")
    browser.value("document.getElementById('ask').requestSubmit()")
    browser.await_text("answer", " ")
    return browser.text("answer")


def test_a_label_of_the_page_is_learnt_and_answered_and_a_change_is_recorded(tmp_path: Path) -> None:
    port = free_port()
    state = tmp_path / "state"
    with owning(UP, state, LIFELONG_PAGE__PORT=str(port)) as up, browsing(tmp_path / "browser") as browser:
        assert up.lines(f"Page: http://127.0.0.1:{port}/"), up.said
        browser.look()
        browser.open(f"http://127.0.0.1:{port}/")
        browser.await_text("status", "live")
        assert asked(browser) == "The model knows no class yet: label this event."
        browser.value("document.getElementById('label').value = 'delivery'")
        browser.value("document.getElementById('teach').requestSubmit()")
        browser.await_text("answer", "Labelled as delivery")
        eventually(lambda: asked(browser).startswith("delivery, "))
        token = (state / TOKEN_FILE).read_text().strip()
        browser.value(f"document.getElementById('token').value = {token!r}")
        browser.value("document.querySelector('[data-action=pause]').click()")
        browser.await_text("status", "the rollout is paused")
        browser.await_text("outcome", "paused")
        assert browser.problems == []
        done = up.ask("audit")
        assert (done.returncode, "in an unbroken chain" in done.stdout) == (0, True), done.stderr
        assert "pause done" in done.stdout
        assert "Lifelong, paused" in up.ask("top", "--once").stdout
