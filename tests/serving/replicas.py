"""What the tests of whole replicas share: bounds that keep them short, and when a replica is ready."""

import httpx2

from serving.config import ServingConfig

SERVING = ServingConfig(report_interval_s=0.1, reconnect_s=0.1, drain_timeout_s=5.0, max_open_events=64)


def is_ready(url: str) -> bool:
    return httpx2.get(f"{url}/health/ready").status_code == 200
