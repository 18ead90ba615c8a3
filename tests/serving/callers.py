"""Who asks an engine: collects its outcomes, while the engine runs on given weights."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from serving.engine import Engine
from serving.models import ActiveVersions
from serving.queue import BatchQueue, Item, Outcome
from tests.serving.versions import tokenizer
from wire.records import Answer, Event


class Caller:
    """A caller of the engine: collects outcomes in order of delivery."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._delivered = threading.Condition()

    def item(
        self,
        text: str,
        *,
        event_id: str = "e",
        key: str = "",
        token_ids: list[int] | None = None,
        tasks: tuple[str, ...] = (),
    ) -> Item:
        tokens = tokenizer().encode_many([text])[0] if token_ids is None else token_ids
        return Item(event=Event(id=event_id, text=text, key=key, tasks=tasks), token_ids=tokens, done=self._done)

    def wait(self, num: int) -> list[Outcome]:
        with self._delivered:
            assert self._delivered.wait_for(lambda: len(self.outcomes) >= num, 20)
        return self.outcomes

    def _done(self, outcome: Outcome) -> None:
        with self._delivered:
            self.outcomes.append(outcome)
            self._delivered.notify()


@contextmanager
def running(engine: Engine, queue: BatchQueue[Item], live: ActiveVersions | None) -> Iterator[None]:
    if live is not None:
        engine.activate(live)
    engine.start()
    yield
    queue.close()
    engine.join(20)


def answered(outcomes: list[Outcome]) -> list[Answer]:
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    assert len(answers) == len(outcomes)
    return answers
