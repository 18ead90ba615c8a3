"""A replica in a process of its own, without Ray, which may be killed.

    python -m tests.serving.replica_process <name> <broker> <bus prefix> <redis> <store prefix> [<encoder> <spool>]

Answers until SIGTERM: exactly once, unless it has a spool.
"""

import signal
import sys
import threading

from serving.config import ServingConfig
from serving.replica import Replica
from serving.replica_config import ReplicaConfig
from tests.stores import KEYS
from wire.config import BusConfig, StoreConfig


def main(
    name: str,
    broker: str,
    bus_prefix: str,
    redis: str,
    store_prefix: str,
    encoder: str = "minilm-l6",
    spool: str = "",
) -> int:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    config = ReplicaConfig(
        encoder=encoder,
        serving=ServingConfig(exactly_once=not spool, report_interval_s=0.2, spool_dir=spool),
        bus=BusConfig(bootstrap_servers=broker, prefix=bus_prefix, client={"heartbeat_interval_ms": 200}),
        store=StoreConfig(url=redis, prefix=store_prefix, poll_interval_ms=50),
        ring=KEYS,
    )
    replica = Replica(config, name)
    replica.start()
    stop.wait()
    replica.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
