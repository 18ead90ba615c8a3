"""Serves the page in threads of this process, while a stack runs in others.

for each task: StateReader --a state a second--> Latest --> Listener (the HTTP server of the replicas) --> browsers
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

import msgspec

from rollout.operator import Operator
from services.keys import generated_once
from services.local import children
from services.page.app import Board, Latest, PageAccess, make_page
from services.page.config import MIN_TOKEN_CHARS, PageConfig
from services.page.operations import PageOperations
from services.page.state import StateReader
from services.programs import open_store
from services.settings import BadSettings, Settings
from serving.http.connection import Bounds
from serving.http.listener import Listener, PortTaken, check_port
from wire.threads import BackgroundThread
from wire.timestamps import now_ms

TOKEN_FILE = "page.token"

INTERVAL_S = 1.0
"""Interval between two states."""

BOUNDS: Final = Bounds(
    header_timeout_s=10.0,
    # This is also how long a reader may take to read a state.
    body_timeout_s=5.0,
    keep_alive_s=75,
    max_header_bytes=16_384,
    max_connections=64,
    max_connections_per_address=32,
)


class PagePublisher:
    """Publishes a state every second, in a thread. `reader.feed` may be set at any time. `close` ends the thread."""

    def __init__(self, reader: StateReader, latest: Latest) -> None:
        self.reader = reader
        self._latest = latest
        self._thread = BackgroundThread(self._run, name="page")
        self._thread.start()

    def close(self) -> None:
        self._thread.close()
        self._latest.close()

    def _run(self) -> None:
        """Publishes states until closed.

        consumes: the reports in the store
        produces: PageState, as JSON
        waits for: the next second; the store, at most its timeout
        unblocked by: close
        """
        while True:
            self._latest.publish(msgspec.json.encode(self.reader.read_or_problem()))
            if self._thread.closing.wait(INTERVAL_S):
                return


@contextmanager
def served(settings: Settings, *, say: Callable[[str], None]) -> Iterator[StateReader | None]:
    """Serves the page of a stack while the block runs; yields the StateReader of its first task.

    - It yields None if the settings want no page.
    - If the settings name a task, the page is about this task alone, and else about all tasks.
    - `say` prints the address of the page and the file of its token.

    Raises BadSettings if the page cannot listen on the address.
    """
    config = settings.page
    if not config.port:
        yield None
        return
    token = read_token(settings)
    tasks = (settings.task,) if settings.task else settings.readers.all
    with ExitStack() as opened:
        boards: dict[str, Board] = {}
        readers: list[StateReader] = []
        for task in tasks:
            own = settings_for(settings, task)
            store = opened.enter_context(closing(open_store(own)))
            operations = opened.enter_context(closing(PageOperations(own, store)))
            boards[task] = Board(Latest(), operations)
            readers.append(StateReader(Operator(store, name="page", config=own.rollout), now_ms=now_ms))
        app = make_page(PageAccess.of(config.host, token, is_local=config.is_local), boards)
        listener = Listener(app, host=config.host, port=_port(config, say), drain_timeout_s=1.0, bounds=BOUNDS)
        # The publishers end before the listener: its readers wait for their next states.
        opened.callback(listener.close)
        for reader, board in zip(readers, boards.values(), strict=True):
            opened.callback(PagePublisher(reader, board.latest).close)
        host = f"[{config.host}]" if ":" in config.host else config.host
        where = "" if config.token else f" (the token to change something is in {settings.state_dir / TOKEN_FILE})"
        say(f"Page: http://{host}:{listener.port}/{where}")
        yield readers[0]


def settings_for(settings: Settings, task: str) -> Settings:
    """Returns the settings with the task, and with its labels and its rollout."""
    if task == settings.task:
        return settings
    own = settings.of_task(task)
    return settings.model_copy(update={"task": task, "labels": own.labels, "rollout": own.rollout})


def read_token(settings: Settings) -> str:
    """Returns the token from the settings, or from the state folder, where it is generated if there is none.

    Raises BadSettings if the file in the state folder holds no token.
    """
    if settings.page.token is not None:
        return settings.page.token.get_secret_value()
    path = settings.state_dir / TOKEN_FILE
    token = generated_once(path, lambda: f"{secrets.token_urlsafe(24)}\n").strip()
    if len(token) < MIN_TOKEN_CHARS:
        raise BadSettings(
            f"{path}: holds no token of {MIN_TOKEN_CHARS} characters or more. Remove the file, and start again: a new "
            "token is generated"
        )
    return token


def _port(config: PageConfig, say: Callable[[str], None]) -> int:
    try:
        check_port(config.host, config.port)
    except PortTaken:
        port = children.free_port()
        say(f"Page: port {config.port} is taken, so {port}")
        return port
    except OSError as error:
        fix = "Give an address of this machine, or 127.0.0.1, or turn the page off with page.port 0"
        raise BadSettings(f"page.host: {config.host} cannot be listened on ({error}). {fix}") from error
    return config.port
