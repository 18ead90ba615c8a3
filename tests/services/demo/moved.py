"""An example of the result of a second domain."""

from services.demo.second_domain import Moved

MOVED = Moved(
    decision="published",
    is_stable=False,
    took_s=300.0,
    accuracy=70.0,
    accuracy_frozen=64.5,
    first_domain=95.9,
    first_domain_before=96.0,
    latency_p99=24.0,
    latency_p99_before=None,
)
