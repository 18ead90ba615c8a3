"""A learner in a process of its own, which may be killed.

    python -m tests.learner.learner_process <settings, JSON> <encoder> <broker> <bus prefix> <redis> <store prefix>

Runs until SIGTERM.
"""

import json
import signal
import sys
import threading

from learner.process import EncoderChoice, TaskChoice, run
from rollout.publication_rule import verdict
from tests.learner.small_learner import small_config
from wire.config import BusConfig, LabelConfig, StoreConfig
from wire.keyring import parse
from wire.tasks import TaskNames

KEYS = parse("a key for the tests")


def main(changed: str, encoder: str, broker: str, bus_prefix: str, redis: str, store_prefix: str) -> int:
    settings = json.loads(changed)
    labels = LabelConfig(**settings.pop("labels", {}))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return run(
        small_config(
            lease_ttl_ms=300,
            poll_timeout_ms=20,
            checkpoint_interval_s=0.1,
            slow_rate=1e-5,  # so that every round is adopted
            **settings,
        ),
        bus_config=BusConfig(bootstrap_servers=broker, prefix=bus_prefix),
        store_config=StoreConfig(url=redis, prefix=store_prefix),
        ring=KEYS,
        encoder=EncoderChoice(encoder, 256),
        task=TaskChoice(labels, TaskNames()),
        stop=stop,
        rule=verdict,
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
