"""Tests the page in a browser: reports, questions and labels, the token, and no requests to other hosts."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rollout.plans import begin
from services.page.server import read_token, served
from services.programs import open_store
from services.settings import Settings
from serving.http.listener import Listener
from tests.brokers import take
from tests.lifelong.media.files import png, tone, wav
from tests.services.page.browser import Browser, browsing
from tests.services.page.states import CONTROLLER, LEARNER, replica_report
from tests.serving.http.served_api import ServedApi
from tests.stores import publish, take_lease
from tests.waiting import eventually
from wire.bus import Bus
from wire.records import Feedback, RolloutPlan
from wire.store import Store
from wire.timestamps import now_ms

pytestmark = pytest.mark.live

RECENT = "right, last 1,000 answers"

FOCUSABLE = "a[href], button, input, textarea, summary, [tabindex='0']"


@dataclass
class Shown:
    """A page in a browser; the test writes the reports of a service to the store."""

    browser: Browser
    url: str
    token: str
    store: Store
    bus: Bus

    def report(self, accuracy: float) -> None:
        """Writes the reports of a learner, a replica and a controller."""
        learner = msgspec.structs.replace(LEARNER, recent_accuracy=accuracy, time_ms=now_ms())
        self.store.reports.write_learner(learner)
        self.store.reports.write_controller(CONTROLLER)
        self.store.reports.write_replica(replica_report(time_ms=now_ms()))

    def figure(self, name: str) -> str:
        """Returns a figure as it is shown; "" if it is not shown."""
        find = "[...document.querySelectorAll('dt')].find((each) => each.innerText === {})?.nextSibling.innerText ?? ''"
        return str(self.browser.value(find.format(json.dumps(name))))

    def await_figure(self, name: str, text: str) -> None:
        eventually(lambda: self.figure(name) == text)

    def plan(self) -> RolloutPlan:
        plan = self.store.plans.read()
        assert plan is not None
        return plan


@pytest.fixture
def shown(page_settings: Settings, bus: Bus, tmp_path: Path) -> Iterator[Shown]:
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(page_settings)))
        publish(store, take_lease(store), through=2)
        store.plans.write(begin(1, salt="s", now_ms=now_ms()).plan)
        stack.enter_context(served(page_settings, say=lambda _: None))
        browser = stack.enter_context(browsing(tmp_path / "browser"))
        url = f"http://127.0.0.1:{page_settings.page.port}/"
        page = Shown(browser, url, read_token(page_settings), store, bus)
        page.report(0.5)
        browser.look()
        browser.open(url)
        browser.await_text("status", "live")
        yield page


def test_the_curve_climbs_and_nothing_is_asked_of_another_machine(shown: Shown) -> None:
    browser = shown.browser
    for accuracy in (0.5, 0.625, 0.75):
        shown.report(accuracy)
        shown.await_figure(RECENT, f"{100 * accuracy:.1f} %")
    browser.await_text("curve-text", "last 1,000 answers: 75.0 %")
    assert browser.value("document.querySelectorAll('#curve canvas').length") == 1
    values = "newest.curves[0].values"
    eventually(lambda: len(set(browser.value(values))) >= 2)
    assert browser.value(values) == sorted(browser.value(values))
    browser.await_text("arms", "stable")
    assert "75.0 %" in browser.text("arms") and "90.0 %" in browser.text("arms")
    assert "refund" in browser.text("confusions")
    assert browser.text("status") == "live; 3 alarms are on"
    assert [url for url in browser.requests if not url.startswith(shown.url)] == []
    assert browser.problems == []


def test_it_looks_right_on_a_phone_and_in_the_dark(shown: Shown) -> None:
    browser = shown.browser
    backs = set()
    for scheme in ("light", "dark"):
        browser.look(width=390, height=844, scheme=scheme)
        backs.add(browser.value("getComputedStyle(document.body).backgroundColor"))
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    assert len(backs) == 2
    browser.await_text("curve-text", "last 1,000")
    eventually(lambda: browser.value("document.querySelector('#curve canvas').clientWidth <= innerWidth"))
    assert browser.problems == []


def test_a_promote_needs_the_token_and_the_keyboard_is_enough(shown: Shown) -> None:
    browser = shown.browser
    browser.tab_to("#version")
    browser.type("2")
    browser.press("Enter")
    browser.await_text("outcome", "the token is missing or wrong")
    assert shown.plan().stable == 1
    browser.tab_to("#token")
    browser.type(shown.token)
    browser.tab_to("#promote button")
    browser.press("Enter")
    browser.await_text("outcome", "stable version 2 for 100%")
    assert shown.plan().stable == 2
    browser.tab_to("[data-action='pause']")
    browser.press(" ")
    browser.await_text("status", "the rollout is paused")
    browser.tab_to("[data-browse='actions']")
    browser.press("Enter")
    browser.await_text("browsed", "refused")
    assert "pause" in browser.text("browsed")


def test_the_keyboard_reaches_everything_and_everything_has_a_name(shown: Shown) -> None:
    browser = shown.browser
    seen = "document.querySelectorAll(FOCUSABLE)".replace("FOCUSABLE", json.dumps(FOCUSABLE))
    num = browser.value(f"[...{seen}].filter((each) => each.checkVisibility()).length")
    reached = set()
    for _ in range(num):
        browser.press("Tab")
        reached.add(browser.value(f"[...{seen}].indexOf(document.activeElement)"))
    assert len(reached - {-1}) == num
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    named = [node for node in nodes if node.get("role", {}).get("value") in ("button", "textbox", "region", "link")]
    assert len(named) > 20
    assert [node for node in named if not node["name"]["value"]] == []
    landmarks = {node["role"]["value"] for node in nodes if "role" in node}
    assert landmarks >= {"main", "banner", "contentinfo", "status"}


def test_a_text_is_asked_and_its_label_reaches_the_learner(shown: Shown, page_settings: Settings) -> None:
    serving = page_settings.serving
    with ServedApi().running() as replica:
        app = replica.client.app
        listener = Listener(app, host=serving.http_host, port=serving.http_port, drain_timeout_s=1.0)
        browser = shown.browser
        assert not browser.value("document.getElementById('teach').checkVisibility()")
        browser.tab_to("#text")
        browser.type("<b>where</b> is my parcel?")
        browser.press("Tab")
        browser.press("Enter")
        browser.await_text("answer", "version 1")
        browser.tab_to("#label")
        browser.type("delivery")
        browser.press("Enter")
        browser.await_text("answer", "Labelled as delivery")
        (received,) = take(shown.bus.follow([Feedback], {}).poll, 1)
        listener.close()
    assert (received.record.label, received.record.source) == ("delivery", "page")
    assert received.record.receipt


def choose(browser: Browser, id: str, file: Path) -> None:
    """Chooses a file in an input of the page."""
    found = browser.command("Runtime.evaluate", expression=f"document.getElementById('{id}')")
    browser.command("DOM.setFileInputFiles", files=[str(file)], objectId=found["result"]["objectId"])


def test_the_picture_and_the_sound_of_an_event_are_shown_and_sent(
    shown: Shown, page_settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(np.zeros((28, 28), np.uint8)))
    (tmp_path / "a.wav").write_bytes(wav(tone(440, 0.5)))
    serving = page_settings.serving
    browser = shown.browser
    with ServedApi().running() as replica:
        app = replica.client.app
        listener = Listener(app, host=serving.http_host, port=serving.http_port, drain_timeout_s=1.0)
        assert not browser.value("document.getElementById('image-shown').checkVisibility()")
        choose(browser, "image", tmp_path / "a.png")
        choose(browser, "audio", tmp_path / "a.wav")
        eventually(lambda: browser.value("document.getElementById('image-shown').naturalWidth === 28"))
        eventually(lambda: browser.value("document.getElementById('audio-shown').duration === 0.5"))
        browser.value("document.getElementById('ask').requestSubmit()")
        # The encoder of this replica has no stems; its answer shows that the parts have reached it.
        browser.await_text("answer", "the encoder has no stem for 'image'")
        listener.close()
    assert browser.problems == []
