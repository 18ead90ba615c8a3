"""Asks over HTTP, each time until a reply comes."""

import queue
import threading
import time
from collections.abc import Callable

from bench.chaos.http import Failed, predict
from bench.chaos.ledger import ChaosLedger, id_of
from bench.chaos.load import PAUSE_S, ChaosLabeller, Numbers, Texts
from services.settings import Settings

NUM_ASKERS = 16


class Asker:
    """Requests predictions over HTTP for the events of a queue, each until a reply comes. Several run side by side."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        ledger: ChaosLedger,
        labeller: ChaosLabeller,
        texts: Texts,
        numbers: Numbers,
        api_key: str,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._labeller = labeller
        self._texts = texts
        self._numbers = numbers
        self._api_key = api_key
        self._closed = threading.Event()

    def run(self) -> None:
        """Sends requests.

        consumes: numbers of events; produces: replies, labels that are due
        waits for: a number, a reply; unblocked by: either, its time limit, `close`
        """
        while not self._closed.is_set():
            try:
                number = self._numbers.get(timeout=PAUSE_S)
            except queue.Empty:
                continue
            self._ask(number)

    def close(self) -> None:
        self._closed.set()

    def _ask(self, number: int) -> None:
        body = {"id": id_of(number), "text": self._texts.item(number).text, "key": self._texts.key(number)}
        while not self._closed.is_set():
            serving = self._settings().serving
            begun_s = time.monotonic()
            try:
                reply = predict(serving.http_host, serving.http_port, body, self._api_key)
            except Failed as error:
                self._ledger.record_http_failure(str(error))
                self._closed.wait(PAUSE_S)
            else:
                can_be_labelled = reply.can_be_labelled
                self._ledger.record_reply(number, begun_s, revision=reply.revision, can_be_labelled=can_be_labelled)
                if reply.can_be_labelled:
                    self._labeller.schedule(number, reply)
                return
