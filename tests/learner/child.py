"""A learner in a process of its own, which may be killed.

    python -m tests.learner.child <state_dir> <encoder> <broker> <bus prefix> <redis> <store prefix> <trainable layers>

Runs until SIGTERM.
"""

import signal
import sys
import threading

from learner.loop import run
from tests.learner.small import small_config
from wire.config import BusConfig, StoreConfig

SIGNING_KEY = b"a key for tests"


def main(state_dir: str, encoder: str, broker: str, bus_prefix: str, redis: str, store_prefix: str, layers: str) -> int:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return run(
        small_config(
            state_dir=state_dir,
            trainable_layers=int(layers),
            lease_ttl_ms=300,
            poll_timeout_ms=20,
            checkpoint_interval_s=0.1,
            slow_rate=1e-5,  # so that every round is adopted
        ),
        bus_config=BusConfig(bootstrap_servers=broker, prefix=bus_prefix),
        store_config=StoreConfig(url=redis, prefix=store_prefix),
        signing_key=SIGNING_KEY,
        encoder=encoder,
        stop=stop,
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
