"""The collector of the benchmark counts posts, and the scraper counts answered scrapes."""

import urllib.request

from bench.setting_costs import TelemetryCounts, collector, scraped
from services.local.children import free_port
from tests.waiting import eventually
from wire import metrics, traces
from wire.config import MetricsConfig, TracesConfig
from wire.traces import ANSWER


def test_scrapes_and_posts_are_counted() -> None:
    told = TelemetryCounts()
    with metrics.serve(MetricsConfig(port=free_port())) as port, scraped(port, told), collector(told) as traced:
        with traces.export(TracesConfig(endpoint=f"http://127.0.0.1:{traced}", share=1), "replica"):
            assert traces.record(ANSWER, "", start_ms=0, end_ms=1, attributes={})
        eventually(lambda: told.num_scrapes > 0)
    assert told.num_posts == 1 and told.num_bytes > 0


def test_scrapes_of_a_closed_port_are_not_counted() -> None:
    told = TelemetryCounts()
    with scraped(free_port(), told), collector(told) as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/traces", data=b"12345")
        urllib.request.urlopen(request, timeout=10).close()
        assert (told.num_posts, told.num_bytes) == (1, 5)
    assert told.num_scrapes == 0
